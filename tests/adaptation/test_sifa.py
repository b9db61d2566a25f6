"""One iteration of PAPER, against a naive one that computes everything again for each of the six updates."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import refusal
from ignite.engine import Events
from iterations import (
    BATCHES,
    CASES,
    EVERY_TERM,
    IMAGE_ADAPTATION,
    ORDER,
    PAPER,
    Columns,
    Kind,
    State,
    build_networks,
    images_of,
    largest_difference,
    moved,
    naive_iteration,
    state_of,
    train,
    trainer_of,
    update_of,
)
from monai.engines import IterationEvents, Trainer
from monai.handlers import StatsHandler, TensorBoardStatsHandler, from_engine
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn


def losses_of(output: dict[str, Any]) -> dict[str, float]:
    """The terms and losses among the scalars of an output."""
    extras = ("_gradient_norm", "_learning_rate", "_weight")
    return {key: value.item() for key, value in output.items() if value.ndim == 0 and not key.endswith(extras)}


@CASES
def test_iterations_agree_with_naive_ones_in_every_weight_statistic_and_loss(
    columns: Columns, auxiliary: bool, prediction: bool, guided: bool, pool: ImagePool
) -> None:
    networks = build_networks(auxiliary=auxiliary, prediction=prediction, guided=guided)
    start = state_of(networks)
    naive = naive_iteration(networks, columns, copy.deepcopy(pool), copy.deepcopy(pool))
    expected = [naive.run(batch) for batch in BATCHES]
    outputs = train(update_of(networks, columns, copy.deepcopy(pool), copy.deepcopy(pool)))
    for output, report in zip(outputs, expected, strict=True):
        losses = losses_of(output)
        assert losses.pop("loss") == losses["segmenter_loss"]
        assert losses == pytest.approx(report, rel=1e-9, abs=0)
    difference, where = largest_difference(state_of(networks), state_of(naive.networks))
    assert difference < 1e-9, where
    assert largest_difference(state_of(networks), start)[0] > 1e-3


def test_the_output_holds_the_images_of_the_final_weights() -> None:
    networks = build_networks()
    output = train(update_of(networks), BATCHES[:1])[0]
    for network in networks.by_name().values():
        network.train()
    with torch.no_grad():
        images = images_of(networks, BATCHES[0])
    for key, expected in {
        "fake_target": images.fake_target,
        "fake_source": images.fake_source,
        "reconstructed_source": images.reconstructed_source,
        "pred": images.target_logits,
    }.items():
        torch.testing.assert_close(output[key], expected, rtol=0, atol=1e-12)
    assert output["reconstructed_target"].shape == BATCHES[0]["target_image"].shape


# --- Who moves -------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """The state of all networks around one optimizer step."""

    name: str
    before: State
    after: State
    with_gradient: set[str]  # networks that any backward pass has reached by then


def networks_with_gradient(networks: SIFANetworks) -> set[str]:
    return {
        name
        for name, network in networks.by_name().items()
        if any(parameter.grad is not None for parameter in network.parameters())
    }


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    """All optimizer steps of one iteration, between two entries that hold the state at its start and its end."""
    networks = build_networks()
    update = update_of(networks, EVERY_TERM)
    recorded = [Step("start", {}, state_of(networks), set())]
    for name, optimizer in update.method.optimizers.items():

        def enter(*_: Any, name: str = name) -> None:
            recorded.append(Step(name, state_of(networks), {}, networks_with_gradient(networks)))

        def leave(*_: Any) -> None:
            recorded[-1].after = state_of(networks)

        optimizer.register_step_pre_hook(enter)
        optimizer.register_step_post_hook(leave)
    train(update, BATCHES[:1])
    return [*recorded, Step("end", state_of(networks), {}, networks_with_gradient(networks))]


def test_the_six_updates_run_in_the_order_of_the_paper(steps: list[Step]) -> None:
    assert tuple(step.name for step in steps[1:-1]) == ORDER


@pytest.mark.parametrize("name", ORDER)
def test_an_update_moves_its_own_networks_and_no_other(steps: list[Step], name: str) -> None:
    (step,) = [step for step in steps if step.name == name]
    changed = moved(step.before, step.after)
    assert {key.split(".")[0] for key in changed} == {name}
    weights = {key for key in step.before if key.startswith(f"{name}.") and key.endswith(".weight")}
    assert weights <= changed
    if name == "segmenter":
        assert {key.split(".")[1] for key in changed} == {"encoder", "pixel_classifier"}


def test_the_backward_pass_of_an_update_stops_at_its_own_networks(steps: list[Step]) -> None:
    reached = [step.with_gradient for step in steps[1:-1]]
    assert reached == [set(ORDER[: place + 1]) for place in range(len(ORDER))]


def test_between_the_updates_no_parameter_moves(steps: list[Step]) -> None:
    for previous, following in pairwise(steps):
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        assert {key for key in moved(previous.after, following.before) if not key.endswith(statistics)} == set()


def test_after_an_iteration_everything_can_still_learn_and_is_in_training_mode() -> None:
    networks = build_networks()
    train(update_of(networks), BATCHES[:1])
    for network in networks.by_name().values():
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert all(layer.training for layer in network.modules())
    norms = [layer for layer in networks.segmenter.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(layer.track_running_stats for layer in norms)


def test_running_statistics_come_from_one_forward_of_the_target_images_an_iteration() -> None:
    networks = build_networks()
    update = update_of(networks)
    for count, batch in enumerate(BATCHES, start=1):
        alone = copy.deepcopy(networks.segmenter.encoder).train()
        alone(batch["target_image"])
        train(update, [batch])
        expected, actual = dict(alone.named_buffers()), dict(networks.segmenter.encoder.named_buffers())
        for name, buffer in actual.items():
            torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-12)
            assert not name.endswith("num_batches_tracked") or buffer.item() == count


# --- The engine ------------------------------------------------------------------------------------------------------


def test_every_event_of_an_iteration_fires_once() -> None:
    fired: list[tuple[str, int]] = []
    trainer = trainer_of(update_of(build_networks()), epochs=2)
    events = [IterationEvents.FORWARD_COMPLETED, IterationEvents.LOSS_COMPLETED]
    events += [IterationEvents.BACKWARD_COMPLETED, IterationEvents.MODEL_COMPLETED]
    for event in events:
        trainer.add_event_handler(event, lambda e, name: fired.append((name, e.state.iteration)), event.value)
    trainer.run()
    assert fired == [(event.value, iteration) for iteration in (1, 2, 3, 4) for event in events]


def test_the_output_is_there_when_model_completed_fires() -> None:
    seen: list[float] = []
    trainer = trainer_of(update_of(build_networks()))
    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda e: seen.append(e.state.output["loss"].item()))
    trainer.run()
    assert len(seen) == 2
    assert all(math.isfinite(loss) for loss in seen)


def test_the_output_is_plain_tensors_without_gradient_under_plain_names() -> None:
    output = train(update_of(build_networks()), BATCHES[:1])[0]
    assert set(output) == {
        *("source_cycle", "target_cycle", "target_adversarial", "source_adversarial", "auxiliary_adversarial"),
        *("prediction_adversarial", "segmentation", "loss", *(f"{name}_loss" for name in ORDER)),
        *("fake_target", "fake_source", "reconstructed_source", "reconstructed_target", "pred"),
        *(f"{name}_{what}" for name in ORDER for what in ("gradient_norm", "learning_rate")),
    }
    for key, value in output.items():
        assert type(key) is str
        assert type(value) is torch.Tensor
        assert not value.requires_grad
        assert value.isfinite().all()


@pytest.mark.parametrize("decollate", [False, True])
def test_from_engine_and_the_stock_handlers_read_the_loss(
    decollate: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("stats")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)
    pick = from_engine(["loss"], first=True)

    def loss_of(output: Any) -> float:
        picked = pick(output)  # of a dict, as without decollating, a tuple of one; of a list the loss itself
        return float(picked[0] if isinstance(picked, tuple) else picked)

    losses: list[float] = []
    handlers = [
        StatsHandler(name="stats", epoch_log=False, output_transform=loss_of),
        TensorBoardStatsHandler(log_dir=str(tmp_path), epoch_log=False, output_transform=loss_of),
    ]
    trainer = Trainer(
        "cpu",
        max_epochs=1,
        data_loader=BATCHES,
        iteration_update=update_of(build_networks()),
        decollate=decollate,
        handlers=handlers,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(loss_of(engine.state.output)))
    with caplog.at_level(logging.INFO, logger="stats"):
        trainer.run()
    for handler in handlers:
        if isinstance(handler, TensorBoardStatsHandler):
            handler.close()
    printed = [message for message in caplog.messages if "Loss:" in message]
    assert [f"Loss: {loss:.4f}" in message for loss, message in zip(losses, printed, strict=True)] == [True, True]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (tag,) = events.Tags()["scalars"]
    assert [event.value for event in events.Scalars(tag)] == pytest.approx(losses, rel=1e-6)


# --- Ablations and reproducibility -----------------------------------------------------------------------------------


def test_image_adaptation_alone_reports_no_term_of_the_features() -> None:
    networks = build_networks(auxiliary=False, prediction=False)
    update = update_of(networks, IMAGE_ADAPTATION)
    assert "prediction_discriminator" not in update.method.optimizers
    output = train(update, BATCHES[:1])[0]
    assert not [key for key in output if "auxiliary" in key or "prediction" in key]
    assert {"source_adversarial", "source_discriminator_loss", "segmenter_loss"} <= output.keys()


@pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
def test_the_output_holds_gradient_norms_learning_rates_and_scheduled_weights(kind: Kind) -> None:
    ramp = {**PAPER, "segmenter": {**PAPER["segmenter"], "prediction_adversarial": [0, 0.25]}}
    networks = build_networks()
    update = update_of(networks, ramp, kind=kind)
    norms: dict[str, float] = {}
    for name, optimizer in update.method.optimizers.items():
        own = networks.by_name()[name]

        def keep(*_: Any, name: str = name, own: nn.Module = own) -> None:
            squares = [parameter.grad.square().sum() for parameter in own.parameters() if parameter.grad is not None]
            norms[name] = math.sqrt(torch.stack(squares).sum())

        optimizer.register_step_pre_hook(keep)
    outputs = train(update, BATCHES[:1], epochs=2)
    assert [output["segmenter_prediction_adversarial_weight"].item() for output in outputs] == [0, 0.25]
    for name in ORDER:
        rate = update.method.optimizers[name].param_groups[0]["lr"]
        assert outputs[-1][f"{name}_learning_rate"].item() == pytest.approx(rate)
        assert outputs[-1][f"{name}_gradient_norm"].item() == pytest.approx(norms[name], rel=1e-9)


@pytest.mark.parametrize(
    ("auxiliary", "prediction", "words"),
    [(False, True, "auxiliary_adversarial is not 0"), (True, False, "prediction_adversarial is not 0")],
)
@pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
def test_a_weight_without_its_discriminator_or_head_is_refused(
    kind: Kind, auxiliary: bool, prediction: bool, words: str
) -> None:
    networks = build_networks(auxiliary=auxiliary, prediction=prediction)
    assert words in refusal(lambda: update_of(networks, PAPER, kind=kind))


def test_without_weight_of_eq_4_the_segmenter_is_the_same_whatever_judges_its_predictions() -> None:
    ramp = {**PAPER, "segmenter": {**PAPER["segmenter"], "prediction_adversarial": [0, 0.5]}}

    def segmenters(seed_of_judge: int) -> tuple[State, State]:
        """The segmenter after the first epoch, without weight, and after the second, with it."""
        networks = build_networks()
        networks.prediction_discriminator = build_networks(seed_of_judge).prediction_discriminator
        states: list[State] = []
        trainer = trainer_of(update_of(networks, ramp), BATCHES[:1], epochs=2)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: states.append(state_of(networks)))
        trainer.run()
        first, second = ({k: v for k, v in state.items() if k.startswith("segmenter.")} for state in states)
        return first, second

    (first, second), (other_first, other_second) = segmenters(1), segmenters(2)
    assert moved(first, other_first) == set()
    assert moved(second, other_second) != set()
    assert largest_difference(second, other_second)[0] > 1e-4


def test_without_weight_of_eq_4_its_discriminator_learns_all_the_same() -> None:
    networks = build_networks()
    before = state_of(networks)
    columns = {**PAPER, "segmenter": {**PAPER["segmenter"], "prediction_adversarial": 0}}
    output = train(update_of(networks, columns), BATCHES[:1])[0]
    assert "prediction_adversarial" in output
    assert any(key.startswith("prediction_discriminator.") for key in moved(before, state_of(networks)))


def run_from_seed(seed: int) -> tuple[State, list[dict[str, Any]]]:
    networks = build_networks(seed)
    outputs = train(update_of(networks, PAPER, ImagePool(2, seed), ImagePool(2, seed + 1)), epochs=2)
    return state_of(networks), outputs


def test_two_runs_from_one_seed_are_identical_to_the_last_bit() -> None:
    (first, first_outputs), (second, second_outputs) = run_from_seed(5), run_from_seed(5)
    assert moved(first, second) == set()
    for one, other in zip(first_outputs, second_outputs, strict=True):
        assert moved(one, other) == set()
    assert moved(first, run_from_seed(6)[0]) != set()
