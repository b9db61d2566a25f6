"""One iteration of SIFA, against a naive one that computes everything anew for each of the six updates."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import IterationEvents, Trainer
from monai.handlers import StatsHandler, TensorBoardStatsHandler, from_engine
from sifa.adversarial_update import AdversarialUpdate, Networks
from sifa.image_pool import ImagePool
from sifa.loss_weights import LossWeights
from sifa.losses import SegmentationLoss
from sifa.networks import PatchDiscriminator, Segmenter, SourceDecoder, TargetGenerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import Adam

CLASSES, WIDTH, LAMBDA_DICE, WEIGHT_DECAY = 3, 1 / 32, 0.7, 0.01
RATE, SEGMENTER_RATE = 2e-3, 1e-2  # ten times the paper's, so that two iterations show a slip
ORDER = (
    "target_generator",
    "target_discriminator",
    "segmenter",
    "source_decoder",
    "source_discriminator",
    "prediction_discriminator",
)
Columns = Mapping[str, Mapping[str, Any]]
State = dict[str, torch.Tensor]

SIFA: Columns = {  # the matrix of the design, w_p at its end
    "target_generator": {"source_cycle": 10, "target_cycle": 10, "target_adversarial": 1},
    "segmenter": {
        "segmentation": 1,
        "source_cycle": 1,
        "target_cycle": 1,
        "source_adversarial": 0.1,
        "auxiliary_adversarial": 0.1,
        "prediction_adversarial": 0.1,
    },
    "source_decoder": {"source_cycle": 10, "target_cycle": 10, "source_adversarial": 1},
}
EVERY_TERM: Columns = {  # no two weights alike, and none zero
    "target_generator": {"source_cycle": 2, "target_cycle": 3, "target_adversarial": 5},
    "segmenter": {
        "segmentation": 0.5,
        "source_cycle": 1.5,
        "target_cycle": 2.5,
        "source_adversarial": 3.5,
        "auxiliary_adversarial": 4.5,
        "prediction_adversarial": 5.5,
    },
    "source_decoder": {
        "source_cycle": 0.3,
        "target_cycle": 0.7,
        "source_adversarial": 1.1,
        "auxiliary_adversarial": 1.3,
    },
}


class OldImages(ImagePool):
    """Stands for a pool that returns an old image every time; what it returns follows from what it gets."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        assert not images.requires_grad
        return 0.5 * images.flip(-1)


# --- A run at tiny size ----------------------------------------------------------------------------------------------


def build_networks(seed: int = 0, auxiliary: bool = True, prediction: bool = True) -> Networks:
    """Networks in float64 and evaluation mode; weights large enough that every path counts."""
    torch.manual_seed(seed)
    segmenter = Segmenter(1, CLASSES, WIDTH)
    networks = Networks(
        segmenter,
        TargetGenerator(1, WIDTH, num_blocks=1),
        SourceDecoder(segmenter.encoder.out_channels, 1, WIDTH, num_blocks=1),
        PatchDiscriminator(1, 1, WIDTH),
        PatchDiscriminator(1, 2 if auxiliary else 1, WIDTH),
        PatchDiscriminator(CLASSES, 1, WIDTH) if prediction else None,
    )
    for network in parts_of(networks).values():
        for layer in network.double().eval().modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                layer.reset_parameters()
            if isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
    return networks


def parts_of(networks: Networks) -> dict[str, nn.Module]:
    """The networks that there are, by name."""
    return {name: network for name, network in vars(networks).items() if network is not None}


def state_of(networks: Networks) -> State:
    """Copies of all parameters and buffers, `<network>.<name>`."""
    return {
        f"{part}.{name}": value.detach().clone()
        for part, network in parts_of(networks).items()
        for name, value in network.state_dict().items()
    }


def optimizers_of(networks: Networks, weight_decay: float) -> dict[str, Adam]:
    optimizers = {
        name: Adam(network.parameters(), lr=RATE, betas=(0.5, 0.999))
        for name, network in parts_of(networks).items()
        if name != "segmenter"
    }
    optimizers["segmenter"] = Adam(networks.segmenter.parameters(), lr=SEGMENTER_RATE, weight_decay=weight_decay)
    return optimizers


def draw_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Two slices of each domain, of 16 x 32 pixels."""
    generator = torch.Generator().manual_seed(seed)

    def image() -> torch.Tensor:
        return 2 * torch.rand(2, 1, 16, 32, dtype=torch.float64, generator=generator) - 1

    label = torch.randint(CLASSES, (2, 1, 16, 32), dtype=torch.uint8, generator=generator)
    return {"source_image": image(), "source_label": label, "target_image": image()}


BATCHES = [draw_batch(0), draw_batch(1)]


def update_of(
    networks: Networks,
    columns: Columns = SIFA,
    target_pool: ImagePool | None = None,
    source_pool: ImagePool | None = None,
) -> AdversarialUpdate:
    return AdversarialUpdate(
        networks,
        optimizers_of(networks, WEIGHT_DECAY),
        LossWeights(columns),
        SegmentationLoss(LAMBDA_DICE),
        target_pool or ImagePool(0),
        source_pool or ImagePool(0),
    )


def trainer_of(update: AdversarialUpdate, batches: Sequence[Any] = BATCHES, epochs: int = 1) -> Trainer:
    """MONAI's stock trainer."""
    return Trainer("cpu", max_epochs=epochs, data_loader=batches, iteration_update=update, decollate=False)


def train(update: AdversarialUpdate, batches: Sequence[Any] = BATCHES, epochs: int = 1) -> list[dict[str, Any]]:
    """Runs `update` and returns the outputs of its iterations."""
    outputs: list[dict[str, Any]] = []
    trainer = trainer_of(update, batches, epochs)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output)))
    trainer.run()
    return outputs


def largest_difference(first: State, second: State) -> tuple[float, str]:
    """The largest absolute difference of two states, and where it is."""
    assert first.keys() == second.keys()
    return max(((first[key] - second[key]).abs().max().item(), key) for key in first)


# --- The naive iteration ---------------------------------------------------------------------------------------------


def to_one(scores: torch.Tensor) -> torch.Tensor:
    return ((scores - 1) ** 2).mean()


def to_zero(scores: torch.Tensor) -> torch.Tensor:
    return (scores**2).mean()


def segmentation_of(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(1)
    g = torch.stack([(label[:, 0] == k).double() for k in range(CLASSES)], dim=1)
    cross_entropy = -((1 - g.mean((0, 2, 3), keepdim=True)) * g * p.log()).sum(1).mean()
    dice = 2 * (p * g).sum((0, 2, 3)) / ((p * p).sum((0, 2, 3)) + (g * g).sum((0, 2, 3)) + 1e-7)
    return cross_entropy + LAMBDA_DICE * (1 - dice.mean())


@dataclass
class Images:
    """All that the networks make of a batch, with the graph through every one of them."""

    fake_target: torch.Tensor
    fake_source: torch.Tensor
    reconstructed_source: torch.Tensor
    reconstructed_target: torch.Tensor
    fake_logits: torch.Tensor
    target_logits: torch.Tensor


def images_of(networks: Networks, batch: Mapping[str, torch.Tensor]) -> Images:
    encoder, classifier = networks.segmenter.encoder, networks.segmenter.pixel_classifier
    source, target = batch["source_image"], batch["target_image"]
    fake_target = networks.target_generator(source)
    fake_source = networks.source_decoder(encoder(target), target)
    return Images(
        fake_target,
        fake_source,
        networks.source_decoder(encoder(fake_target), fake_target),
        networks.target_generator(fake_source),
        classifier(encoder(fake_target)),
        classifier(encoder(target)),
    )


class NaiveIteration:
    """The table of the design, line by line: no result is kept from one update to the next, nothing is detached.

    Every update copies all networks, computes every image with the copies in training mode, states its formula, and
    moves its own network along the derivative of that formula with respect to its own parameters. The L2 term is
    written out. Running statistics change in one place only.
    """

    def __init__(self, networks: Networks, columns: Columns, target_pool: ImagePool, source_pool: ImagePool) -> None:
        self.networks = copy.deepcopy(networks)
        self.optimizers = optimizers_of(self.networks, weight_decay=0)
        self.columns = columns
        self.target_pool = target_pool
        self.source_pool = source_pool

    def run(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Runs one iteration and returns each term as it stood before the update that minimizes it, and each loss."""
        self.update_running_statistics(batch["target_image"])
        report: dict[str, float] = {}
        for name in ORDER:
            if name not in parts_of(self.networks):
                continue
            scratch = copy.deepcopy(self.networks)
            for network in parts_of(scratch).values():
                network.train()
            terms = self.terms_of(name, scratch, batch)
            loss = torch.stack([self.columns[name].get(term, 0) * value for term, value in terms.items()]).sum()
            own = list(parts_of(scratch)[name].parameters())
            l2 = WEIGHT_DECAY / 2 * torch.stack([p.square().sum() for p in own]).sum()
            gradients = torch.autograd.grad(loss + l2 if name == "segmenter" else loss, own)
            for parameter, gradient in zip(parts_of(self.networks)[name].parameters(), gradients, strict=True):
                parameter.grad = gradient
            self.optimizers[name].step()
            report[f"{name}_loss"] = loss.item()
            if name in ("target_generator", "segmenter"):
                report |= {term: value.item() for term, value in terms.items()}
        return report

    def update_running_statistics(self, target_image: torch.Tensor) -> None:
        scratch = copy.deepcopy(self.networks.segmenter.encoder).train()
        scratch(target_image)
        for buffer, new in zip(self.networks.segmenter.encoder.buffers(), scratch.buffers(), strict=True):
            buffer.copy_(new)

    def terms_of(self, name: str, n: Networks, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        images = images_of(n, batch)
        source_cycle = (images.reconstructed_source - batch["source_image"]).abs().mean()
        target_cycle = (images.reconstructed_target - batch["target_image"]).abs().mean()
        if name == "target_generator":
            return {
                "source_cycle": source_cycle,
                "target_cycle": target_cycle,
                "target_adversarial": to_one(n.target_discriminator(images.fake_target)),
            }
        if name == "target_discriminator":
            fakes = self.target_pool(images.fake_target.detach())
            real = n.target_discriminator(batch["target_image"])
            return {"all": 0.5 * (to_one(real) + to_zero(n.target_discriminator(fakes)))}
        scores = n.source_discriminator(images.fake_source)
        auxiliary = scores.shape[1] == 2
        if name == "source_discriminator":
            fakes = self.source_pool(images.fake_source.detach())
            real, fake = n.source_discriminator(batch["source_image"]), n.source_discriminator(fakes)
            loss = 0.5 * (to_one(real[:, 0]) + to_zero(fake[:, 0]))
            if auxiliary:
                reconstructed = n.source_discriminator(images.reconstructed_source)
                loss = loss + 0.5 * (to_one(reconstructed[:, 1]) + to_zero(fake[:, 1]))
            return {"all": loss}
        if name == "prediction_discriminator":
            assert n.prediction_discriminator is not None
            real, fake = (
                n.prediction_discriminator(images.fake_logits),
                n.prediction_discriminator(images.target_logits),
            )
            return {"all": 0.5 * (to_one(real) + to_zero(fake))}
        terms = {
            "source_cycle": source_cycle,
            "target_cycle": target_cycle,
            "source_adversarial": to_one(scores[:, 0]),
        }
        if auxiliary:
            terms["auxiliary_adversarial"] = to_one(scores[:, 1])
        if name == "segmenter":
            terms["segmentation"] = segmentation_of(images.fake_logits, batch["source_label"])
            if n.prediction_discriminator is not None:
                terms["prediction_adversarial"] = to_one(n.prediction_discriminator(images.target_logits))
        return terms


def naive_iteration(
    networks: Networks, columns: Columns, target_pool: ImagePool, source_pool: ImagePool
) -> NaiveIteration:
    discriminators: Columns = {name: {"all": 1} for name in ORDER if name.endswith("discriminator")}
    return NaiveIteration(networks, {**columns, **discriminators}, target_pool, source_pool)


@pytest.mark.parametrize(
    ("columns", "auxiliary", "prediction", "pool"),
    [
        (SIFA, True, True, ImagePool(0)),
        (EVERY_TERM, True, True, ImagePool(0)),
        (EVERY_TERM, True, True, OldImages()),
        (EVERY_TERM, True, True, ImagePool(1, seed=3)),
        (SIFA, False, True, ImagePool(0)),
        (SIFA, False, False, ImagePool(0)),
    ],
    ids=["SIFA", "every term", "every fake is old", "pool of one", "image adaptation + FA-P", "image adaptation"],
)
def test_iterations_agree_with_naive_ones_in_every_weight_statistic_and_loss(
    columns: Columns, auxiliary: bool, prediction: bool, pool: ImagePool
) -> None:
    networks = build_networks(auxiliary=auxiliary, prediction=prediction)
    start = state_of(networks)
    naive = naive_iteration(networks, columns, copy.deepcopy(pool), copy.deepcopy(pool))
    expected = [naive.run(batch) for batch in BATCHES]
    outputs = train(update_of(networks, columns, copy.deepcopy(pool), copy.deepcopy(pool)))
    for output, report in zip(outputs, expected, strict=True):
        losses = {key: value.item() for key, value in output.items() if value.ndim == 0}
        assert losses.pop("loss") == losses["segmenter_loss"]
        assert losses == pytest.approx(report, rel=1e-9, abs=0)
    difference, where = largest_difference(state_of(networks), state_of(naive.networks))
    assert difference < 1e-9, where
    assert largest_difference(state_of(networks), start)[0] > 1e-3


def test_the_output_holds_the_images_of_the_final_weights() -> None:
    networks = build_networks()
    output = train(update_of(networks), BATCHES[:1])[0]
    for network in parts_of(networks).values():
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


def networks_with_gradient(networks: Networks) -> set[str]:
    return {
        name
        for name, network in parts_of(networks).items()
        if any(parameter.grad is not None for parameter in network.parameters())
    }


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    """All optimizer steps of one iteration, between two entries that hold the state at its start and its end."""
    networks = build_networks()
    update = update_of(networks, EVERY_TERM)
    recorded = [Step("start", {}, state_of(networks), set())]
    for name, optimizer in update.optimizers.items():

        def enter(*_: Any, name: str = name) -> None:
            recorded.append(Step(name, state_of(networks), {}, networks_with_gradient(networks)))

        def leave(*_: Any) -> None:
            recorded[-1].after = state_of(networks)

        optimizer.register_step_pre_hook(enter)
        optimizer.register_step_post_hook(leave)
    train(update, BATCHES[:1])
    return [*recorded, Step("end", state_of(networks), {}, networks_with_gradient(networks))]


def moved(before: State, after: State) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


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
    for network in parts_of(networks).values():
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
    update = update_of(networks, SIFA)
    assert "prediction_discriminator" not in update.optimizers
    output = train(update, BATCHES[:1])[0]
    assert not [key for key in output if "auxiliary" in key or "prediction" in key]
    assert {"source_adversarial", "source_discriminator_loss", "segmenter_loss"} <= output.keys()


def test_without_weight_of_eq_4_the_segmenter_is_the_same_whatever_judges_its_predictions() -> None:
    ramp = {**SIFA, "segmenter": {**SIFA["segmenter"], "prediction_adversarial": [0, 0.5]}}

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
    columns = {**SIFA, "segmenter": {**SIFA["segmenter"], "prediction_adversarial": 0}}
    output = train(update_of(networks, columns), BATCHES[:1])[0]
    assert "prediction_adversarial" in output
    assert any(key.startswith("prediction_discriminator.") for key in moved(before, state_of(networks)))


def run_from_seed(seed: int) -> tuple[State, list[dict[str, Any]]]:
    networks = build_networks(seed)
    outputs = train(update_of(networks, SIFA, ImagePool(2, seed), ImagePool(2, seed + 1)), epochs=2)
    return state_of(networks), outputs


def test_two_runs_from_one_seed_are_identical_to_the_last_bit() -> None:
    (first, first_outputs), (second, second_outputs) = run_from_seed(5), run_from_seed(5)
    assert moved(first, second) == set()
    for one, other in zip(first_outputs, second_outputs, strict=True):
        assert moved(one, other) == set()
    assert moved(first, run_from_seed(6)[0]) != set()
