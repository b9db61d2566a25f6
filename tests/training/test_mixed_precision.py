"""Training in bfloat16 and float16: weights stay as they are, and an iteration is that of float32 but for rounding."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
from builders import refusal
from iterations import (
    BATCHES,
    CLASSES,
    LAMBDA_DICE,
    ORDER,
    PAPER,
    build_networks,
    images_of,
    largest_difference,
    moved,
    state_of,
    train,
    update_of,
)
from sifa.adaptation.image_pool import ImagePool
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_networks import SIFANetworks
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.training.iteration_update import IterationUpdate
from sifa.training.mixed_precision import MixedPrecision
from torch import nn
from torch.optim import SGD, Optimizer

RATE = 1e-5  # so small that a rounded update does not change what the next one sees
SCALE = 64.0  # of float16's losses at this size, where gradients neither overflow nor vanish
KINDS = pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous, SourceOnly])
HALVES = pytest.mark.parametrize("precision", ["bfloat16", "float16"])
Kind = type[SIFA] | type[SIFASimultaneous] | type[SourceOnly]


def draw_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Four slices of each domain in float32, large enough that rounding averages out."""
    generator = torch.Generator().manual_seed(seed)

    def image() -> torch.Tensor:
        return 2 * torch.rand(4, 1, 64, 64, generator=generator) - 1

    label = torch.randint(CLASSES, (4, 1, 64, 64), dtype=torch.uint8, generator=generator)
    return {"source_image": image(), "source_label": label, "target_image": image()}


BATCH = draw_batch()


def networks_in_float32() -> SIFANetworks:
    networks = build_networks()
    for network in networks.by_name().values():
        network.float()
    return networks


def descending_update(kind: Kind, networks: SIFANetworks, precision: str, rate: float = RATE) -> IterationUpdate:
    """An update by gradient descent: Adam's first step has one size, however wrong the gradient.

    float16 begins with a scale that fits.
    """
    optimizers: dict[str, Optimizer] = {
        name: SGD(network.parameters(), rate, momentum=0.9) for name, network in networks.by_name().items()
    }
    mixed = MixedPrecision(precision)
    if precision == "float16":
        rescale(mixed, SCALE)
    loss, no_pool = SegmentationLoss(LAMBDA_DICE), ImagePool(0)
    if kind is SourceOnly:
        return IterationUpdate(SourceOnly(networks.segmenter, optimizers["segmenter"], loss, mixed), mixed)
    adapting = cast(type[SIFA] | type[SIFASimultaneous], kind)
    return IterationUpdate(adapting(networks, optimizers, PAPER, loss, no_pool, no_pool, mixed), mixed)


def rescale(precision: MixedPrecision, scale: float) -> None:
    precision.load_state_dict({**precision.state_dict(), "scale": scale})


def optimizers_of(update: IterationUpdate) -> list[Optimizer]:
    return list(update.method.optimizers.values())


def step(update: Any) -> dict[str, Any]:
    """Runs one iteration and returns its output."""
    return train(update, [BATCH])[0]


def scalars_of(output: dict[str, Any], ending: str = "") -> dict[str, float]:
    return {name: value.item() for name, value in output.items() if value.ndim == 0 and name.endswith(ending)}


def gradients_of(update: IterationUpdate, networks: SIFANetworks) -> dict[str, torch.Tensor]:
    """The gradients of one iteration, as one vector a network that it moves."""
    step(update)
    found: dict[str, list[torch.Tensor]] = {}
    for name, network in networks.by_name().items():
        parts = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
        found |= {name: parts} if parts else {}
    return {name: torch.cat(parts) for name, parts in found.items()}


# --- Both halves -----------------------------------------------------------------------------------------------------


@KINDS
@HALVES
def test_weights_gradients_optimizers_and_losses_stay_in_float32(kind: Kind, precision: str) -> None:
    networks = networks_in_float32()
    update = descending_update(kind, networks, precision)
    output = step(update)
    for network in update.modules():
        for parameter in network.parameters():
            assert parameter.dtype is torch.float32
            assert parameter.grad is not None
            assert parameter.grad.dtype is torch.float32
        assert all(not buffer.is_floating_point() or buffer.dtype is torch.float32 for buffer in network.buffers())
    kept = [entry for one in optimizers_of(update) for state in one.state.values() for entry in state.values()]
    assert len(kept) == sum(1 for network in update.modules() for _ in network.parameters())
    assert all(entry.dtype is torch.float32 for entry in kept)
    assert {value.dtype for value in output.values() if value.ndim == 0} == {torch.float32}


@HALVES
def test_networks_compute_in_the_half_precision_that_was_asked_for(precision: str) -> None:
    forward = MixedPrecision(precision).forward(networks_in_float32().segmenter)
    assert forward(BATCH["source_image"]).dtype is getattr(torch, precision)


@KINDS
@HALVES
def test_losses_are_those_of_float32_but_for_rounding(kind: Kind, precision: str) -> None:
    expected = step(descending_update(kind, networks_in_float32(), "float32"))
    actual = step(descending_update(kind, networks_in_float32(), precision))
    assert actual.keys() == expected.keys()
    for name, value in scalars_of(expected).items():
        tolerance = 0.2 if name.endswith("_gradient_norm") else 0.02
        assert actual[name].item() == pytest.approx(value, rel=tolerance), name


@KINDS
@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.6), ("float16", 0.9)])
def test_gradients_are_as_large_and_point_where_those_of_float32_do(kind: Kind, precision: str, least: float) -> None:
    one, other = networks_in_float32(), networks_in_float32()
    expected = gradients_of(descending_update(kind, one, "float32"), one)
    actual = gradients_of(descending_update(kind, other, precision), other)
    assert actual.keys() == expected.keys() == ({"segmenter"} if kind is SourceOnly else set(ORDER))
    for name, gradient in expected.items():
        # Rounding turns around the sign of some differences (L1) and opens or closes some ReLUs, most of all in E.
        assert nn.functional.cosine_similarity(actual[name], gradient, dim=0) > least, name
        assert actual[name].norm().item() == pytest.approx(gradient.norm().item(), rel=0.2), name


@KINDS
def test_a_step_of_float16_goes_along_the_gradients_without_their_scale(kind: Kind) -> None:
    networks = networks_in_float32()
    update = descending_update(kind, networks, "float16", rate=0.1)
    before = {name: parameter.detach().clone() for name, parameter in networks.segmenter.named_parameters()}
    step(update)
    for name, parameter in networks.segmenter.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * parameter.grad)


@pytest.mark.parametrize("around", [False, True], ids=["alone", "within autocast of the caller"])
@HALVES
def test_every_pass_sees_the_weights_that_the_steps_before_it_left(precision: str, around: bool) -> None:
    networks = networks_in_float32()
    update = descending_update(SIFA, networks, precision, rate=1e-3)
    dtype = getattr(torch, precision)
    with torch.autocast("cpu", dtype) if around else nullcontext():
        output = step(update)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        images = images_of(networks, BATCH)  # again, with the final weights
    for key, expected in {
        "fake_target": images.fake_target,
        "fake_source": images.fake_source,
        "reconstructed_source": images.reconstructed_source,
        "pred": images.target_logits,
    }.items():
        assert torch.equal(output[key], expected), key


def test_float32_computes_as_the_weights_are() -> None:
    forward = MixedPrecision("float32").forward(build_networks().segmenter)
    assert forward(BATCHES[0]["source_image"]).dtype is torch.float64


def test_an_unknown_precision_is_refused_with_the_choices() -> None:
    message = refusal(lambda: MixedPrecision("half"))
    for part in ("precision", "'half'", "float32", "bfloat16", "float16"):
        assert part in message


# --- The scale of float16 --------------------------------------------------------------------------------------------


@KINDS
def test_an_iteration_whose_gradients_overflow_moves_no_weight_and_halves_the_scale(kind: Kind) -> None:
    networks = networks_in_float32()
    update = descending_update(kind, networks, "float16")
    rescale(update.precision, 2.0**100)
    before = state_of(networks)
    output = step(update)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert all(name.endswith(statistics) for name in moved(before, state_of(networks)))
    assert update.precision.scaler.get_scale() == 2.0**99
    assert not any(math.isfinite(norm) for norm in scalars_of(output, "_gradient_norm").values())
    assert all(math.isfinite(loss) for loss in scalars_of(output, "_loss").values())


def test_the_scale_is_found_again_after_an_overflow() -> None:
    networks = networks_in_float32()
    update = descending_update(SIFA, networks, "float16")
    rescale(update.precision, 2.0**16)  # which is what a new scaler begins with
    before = state_of(networks)
    for _ in range(16):
        output = step(update)
        if all(math.isfinite(norm) for norm in scalars_of(output, "_gradient_norm").values()):
            break
    assert 1 <= update.precision.scaler.get_scale() < 2.0**16
    assert {name.split(".")[0] for name in moved(before, state_of(networks)) if name.endswith(".weight")} == set(ORDER)


@KINDS
def test_the_scale_is_in_the_state_and_comes_back_from_it(kind: Kind) -> None:
    update = descending_update(kind, networks_in_float32(), "float16")
    rescale(update.precision, 2.0**100)
    step(update)
    other = descending_update(kind, networks_in_float32(), "float16")
    other.load_state_dict(update.state_dict())
    assert other.precision.scaler.get_scale() == 2.0**99
    assert other.precision.state_dict() == update.precision.state_dict()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_float16_there_is_no_scale(precision: str) -> None:
    mixed = MixedPrecision(precision)
    assert mixed.state_dict() == {}
    mixed.load_state_dict({})
    assert mixed.scaler.get_scale() == 1


# --- The order of weights in memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
def test_channels_last_gives_the_same_iteration_within_rounding(kind: type[SIFA] | type[SIFASimultaneous]) -> None:
    usual, last = build_networks(), build_networks()
    for network in last.by_name().values():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    expected, actual = (train(update_of(networks, kind=kind)) for networks in (usual, last))
    for one, other in zip(expected, actual, strict=True):
        assert scalars_of(other) == pytest.approx(scalars_of(one), rel=1e-9)
    difference, where = largest_difference(state_of(usual), state_of(last))
    assert difference < 1e-9, where
