"""All updates at once: each module gets what its own loss alone would give it at the weights of the start."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from iterations import (
    BATCHES,
    CASES,
    EVERY_TERM,
    ORDER,
    PAPER,
    Columns,
    State,
    build_networks,
    images_of,
    largest_difference,
    moved,
    naive_iteration,
    state_of,
    train,
    update_of,
)
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from torch import nn

Gradients = dict[str, list[torch.Tensor]]


def gradients_of(networks: SIFANetworks, columns: Columns, pool: ImagePool) -> tuple[Gradients, dict[str, Any]]:
    """The gradients with which one simultaneous iteration steps, by network, and its output."""
    update = update_of(networks, columns, pool, copy.deepcopy(pool), kind=SIFASimultaneous)
    found: Gradients = {}
    for name in networks.by_name():

        def keep(*_: Any, name: str = name) -> None:
            own = networks.by_name()[name].parameters()
            found[name] = [parameter.grad.clone() for parameter in own if parameter.grad is not None]

        update.method.optimizers[name].register_step_pre_hook(keep)
    return found, train(update, BATCHES[:1])[0]


def separate_gradients(networks: SIFANetworks, columns: Columns, pool: ImagePool) -> tuple[Gradients, dict[str, float]]:
    """The gradients of each network's loss, each from a computation of its own, and these losses."""
    naive = naive_iteration(networks, columns, pool, copy.deepcopy(pool))
    for network in naive.networks.by_name().values():
        network.train()
    found: Gradients = {}
    losses: dict[str, float] = {}
    for name, network in naive.networks.by_name().items():
        terms = naive.terms_of(name, naive.networks, BATCHES[0])
        loss = torch.stack([naive.columns[name].get(term, 0) * value for term, value in terms.items()]).sum()
        found[name] = list(torch.autograd.grad(loss, list(network.parameters())))
        losses[f"{name}_loss"] = loss.item()
    return found, losses


@CASES
def test_gradients_and_losses_are_those_of_separately_computed_losses(
    columns: Columns, auxiliary: bool, prediction: bool, guided: bool, pool: ImagePool
) -> None:
    networks = build_networks(auxiliary=auxiliary, prediction=prediction, guided=guided)
    expected, losses = separate_gradients(networks, columns, copy.deepcopy(pool))
    actual, output = gradients_of(networks, columns, copy.deepcopy(pool))
    assert actual.keys() == expected.keys() == networks.by_name().keys()
    for name, gradients in actual.items():
        scale = max(gradient.abs().max().item() for gradient in expected[name])
        for mine, theirs in zip(gradients, expected[name], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-12 * scale)
    for name, loss in losses.items():
        assert output[name].item() == pytest.approx(loss, rel=1e-9)


def test_each_network_moves_as_its_optimizer_says_and_running_statistics_come_from_one_pass_of_target_images() -> None:
    networks = build_networks()
    gradients, _ = separate_gradients(networks, PAPER, ImagePool(0))
    expected = copy.deepcopy(networks)
    for name, network in expected.by_name().items():
        for parameter, gradient in zip(network.parameters(), gradients[name], strict=True):
            parameter.grad = gradient
        update_of(expected).method.optimizers[name].step()
    expected.segmenter.train()
    before = {name: value.clone() for name, value in networks.segmenter.encoder.named_buffers()}
    alone = copy.deepcopy(networks.segmenter.encoder).train()
    alone(BATCHES[0]["target_image"])
    expected.segmenter.encoder.load_state_dict(dict(alone.named_buffers()), strict=False)
    train(update_of(networks, kind=SIFASimultaneous), BATCHES[:1])
    difference, where = largest_difference(state_of(networks), state_of(expected))
    assert difference < 1e-9, where
    after = dict(networks.segmenter.encoder.named_buffers())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_all_networks_step_in_the_order_of_the_paper_and_move_nothing_but_themselves() -> None:
    networks = build_networks()
    update = update_of(networks, EVERY_TERM, kind=SIFASimultaneous)
    seen: list[tuple[str, set[str]]] = []
    states: list[State] = []
    for name, optimizer in update.method.optimizers.items():
        optimizer.register_step_pre_hook(lambda *_: states.append(state_of(networks)))

        def after(*_: Any, name: str = name) -> None:
            seen.append((name, {key.split(".")[0] for key in moved(states[-1], state_of(networks))}))

        optimizer.register_step_post_hook(after)
    train(update, BATCHES[:1])
    assert [name for name, _ in seen] == list(ORDER)
    assert all(found == {name} for name, found in seen)


def test_the_output_holds_the_images_of_the_weights_that_the_iteration_began_with() -> None:
    networks = build_networks()
    began = copy.deepcopy(networks)
    output = train(update_of(networks, kind=SIFASimultaneous), BATCHES[:1])[0]
    for network in began.by_name().values():
        network.train()
    with torch.no_grad():
        images = images_of(began, BATCHES[0])
    for key in ("fake_target", "fake_source", "reconstructed_source", "reconstructed_target"):
        torch.testing.assert_close(output[key], getattr(images, key), rtol=0, atol=1e-12)
    torch.testing.assert_close(output["pred"], images.target_logits, rtol=0, atol=1e-12)


def test_every_network_is_run_once_on_each_image_that_it_judges_or_makes() -> None:
    networks = build_networks()
    counts = dict.fromkeys(networks.by_name(), 0) | {"encoder": 0}

    def count(name: str, module: nn.Module) -> None:
        def add(*_: Any) -> None:
            counts[name] += 1

        module.register_forward_hook(add)

    for name, network in networks.by_name().items():
        count(name, network)
    count("encoder", networks.segmenter.encoder)
    train(update_of(networks, kind=SIFASimultaneous), BATCHES[:1])
    assert counts == {
        "segmenter": 0,  # E and C are called apart
        "encoder": 2,
        "target_generator": 2,
        "source_decoder": 2,
        "target_discriminator": 2,
        "source_discriminator": 3,
        "prediction_discriminator": 2,
    }
