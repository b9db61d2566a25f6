"""Which parameters and buffers each method moves in an iteration, for all methods alike."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from conftest import BUNDLE
from iterations import draw_batch
from methods import ADAPTED_LAYERS, BUILDERS, COLUMNS, build, is_buffer, state, step
from monai.bundle import ConfigParser
from sifa.training.iteration_update import IterationUpdate, Method

NORM_BUFFERS = r"\.(running_mean|running_var|num_batches_tracked)$"
ALL = r"segmenter\."
ENCODER = r"segmenter\.encoder\."
ADAPTED = rf"segmenter\.encoder\.layers\.({'|'.join(map(str, range(ADAPTED_LAYERS)))})\."
SIFA = rf"{ALL}|target_generator|source_decoder|target_discriminator|source_discriminator|prediction_discriminator"
MOVES = {  # by method: what moves, parameters and buffers
    "sifa": SIFA,
    "sifa_simultaneous": SIFA,
    "source_only": ALL,
    "dann": rf"{ALL}|feature_discriminator",
    "adda": rf"{ENCODER}|feature_discriminator",
    "cyclegan": rf"{ALL}|target_generator|source_generator|target_discriminator|source_discriminator",
    "cycada": rf"{ALL}|feature_discriminator",
    "pnp_adanet": rf"{ADAPTED}|feature_critic|mask_critic",
    "masks_alone": rf"{ALL}|mask_discriminator",
    "source_free": ALL,
}
BATCH = draw_batch(0, view=True)


def test_every_method_is_listed() -> None:
    assert set(MOVES) == set(BUILDERS)


@pytest.mark.parametrize("name", MOVES)
def test_an_iteration_moves_the_parameters_and_buffers_of_the_method_and_no_other(name: str) -> None:
    method = build(name)
    before = state(method.networks)
    step(method, BATCH)
    after = state(method.networks)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    expected = {key for key in before if re.match(MOVES[name], key)}
    # the last bias of a critic has no gradient: its loss is a difference of means
    without_gradient = {"feature_critic.4.bias", "mask_critic.12.bias"} if name == "pnp_adanet" else set()
    assert moved | without_gradient == expected | without_gradient
    assert any(is_buffer(key) for key in moved)


@pytest.mark.parametrize("name", ["adda", "cycada", "pnp_adanet"])
def test_frozen_networks_stay_bit_identical_and_collect_no_gradient(name: str) -> None:
    method = build(name)
    assert method.frozen
    before = state(method.frozen)
    for seed in range(3):
        step(method, draw_batch(seed, view=True))
    after = state(method.frozen)
    assert all(torch.equal(before[key], after[key]) for key in before)
    for network in method.frozen.values():
        assert not network.training
        assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", MOVES)
def test_a_step_of_an_optimizer_moves_its_own_network_only(name: str) -> None:
    method = build(name)
    seen: dict[str, set[str]] = {}
    for part, optimizer in method.optimizers.items():
        held: dict[str, Any] = {}

        def enter(*_: Any, held: dict[str, Any] = held) -> None:
            held.update(state(method.networks))

        def leave(*_: Any, held: dict[str, Any] = held, part: str = part) -> None:
            after = state(method.networks)
            seen[part] = {key.split(".")[0] for key in after if not torch.equal(held[key], after[key])}

        optimizer.register_step_pre_hook(enter)
        optimizer.register_step_post_hook(leave)
    step(method, BATCH)
    assert seen == {part: {part} for part in method.optimizers}


@pytest.mark.parametrize("name", MOVES)
def test_two_iterations_after_a_restored_state_equal_two_without_it(name: str) -> None:
    batches = [draw_batch(seed, view=True) for seed in range(4)]

    def run(method: Method, chosen: list[Any]) -> IterationUpdate:
        for batch in chosen:
            step(method, batch)
        return IterationUpdate(method)

    straight = run(build(name), batches)
    halfway = run(build(name), batches[:2])
    content = copy.deepcopy([halfway.state_dict(), halfway.process_state_dict()])
    resumed = IterationUpdate(build(name))
    resumed.load_state_dict(content[0])
    resumed.load_process_state_dict(content[1])
    run(resumed.method, batches[2:])
    expected, actual = state(straight.method.networks), state(resumed.method.networks)
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_the_methods_have_names_of_their_own() -> None:
    names = [build(name).name for name in BUILDERS]
    assert sorted(names) == sorted(BUILDERS)


@pytest.mark.parametrize("name", ["dann", "adda", "cyclegan", "cycada", "pnp_adanet", "masks_alone", "source_free"])
def test_the_tests_have_the_weights_of_the_overlay(name: str) -> None:
    parser = ConfigParser()
    files = ("train.yaml", *(["recommended.yaml"] if name == "source_free" else []), f"{name}.yaml")
    parser.read_config([str(BUNDLE / "configs" / file) for file in files])
    weights: Any = parser.get_parsed_content("loss_weights")
    given = {
        module: {term: max(weight) if isinstance(weight, list) else weight for term, weight in column.items() if weight}
        for module, column in weights.items()
    }
    for module, column in COLUMNS[name].items():
        assert given[module] == pytest.approx(column, rel=1e-2), module
    assert set(given) == set(COLUMNS[name])
