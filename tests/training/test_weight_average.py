"""The weight average: its formula, and that it is a network apart from the one that trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from builders import refusal
from ignite.engine import Events
from iterations import BATCHES, build_networks, trainer_of, update_of
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous
from sifa.adaptation.source_only import SourceOnly
from sifa.networks import Segmenter
from sifa.training.weight_average import WeightAverage

State = dict[str, torch.Tensor]
KINDS = pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous, SourceOnly])


def parameters_of(segmenter: Segmenter) -> State:
    return {name: value.detach().clone() for name, value in segmenter.named_parameters()}


def change(segmenter: Segmenter, seed: int) -> None:
    """Stands for an iteration of training: other weights, and running statistics of other images."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in segmenter.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))
        segmenter.train()(torch.randn(2, 1, 16, 32, dtype=torch.float64, generator=generator))


def trained_along(decay: float, updates: int) -> Iterator[tuple[Segmenter, WeightAverage]]:
    """Yields a segmenter and its average after each of some updates."""
    segmenter = build_networks().segmenter
    average = WeightAverage(segmenter, decay)
    for seed in range(updates):
        change(segmenter, seed)
        average.update()
        yield segmenter, average


def restated(states: list[State], decay: float) -> State:
    """The exponential average of states, which begins at the first of them."""
    average = states[0]
    for state in states[1:]:
        average = {name: decay * average[name] + (1 - decay) * value for name, value in state.items()}
    return average


def assert_equal(actual: State, expected: State, tolerance: float = 1e-12) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("updates", [1, 2, 5])
def test_the_average_begins_at_the_first_weights_and_forgets_exponentially(decay: float, updates: int) -> None:
    states: list[State] = []
    for segmenter, average in trained_along(decay, updates):
        states.append(parameters_of(segmenter))
        assert_equal(parameters_of(average.network), restated(states, decay))


def test_without_decay_the_average_is_todays_network_to_the_last_bit() -> None:
    for segmenter, average in trained_along(0, 3):
        assert_equal(average.network.state_dict(), segmenter.state_dict(), 0)


def test_running_statistics_are_not_averaged_but_todays() -> None:
    for segmenter, average in trained_along(0.9, 3):
        assert_equal(dict(average.network.named_buffers()), dict(segmenter.named_buffers()), 0)


def test_the_average_is_a_network_of_its_own_that_takes_no_gradient() -> None:
    segmenter = build_networks().segmenter
    average = WeightAverage(segmenter, 0.5)
    average.update()
    before = parameters_of(average.network)
    change(segmenter, 0)
    assert_equal(parameters_of(average.network), before, 0)
    assert average.network is not segmenter
    own = {tensor.data_ptr() for tensor in average.network.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in segmenter.state_dict().values()}
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(parameter.requires_grad for parameter in segmenter.parameters())
    assert not average.network(BATCHES[0]["target_image"]).requires_grad


def test_the_average_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    *_, (segmenter, average) = trained_along(0.9, 2)
    other = WeightAverage(build_networks(1).segmenter, 0.9)
    other.load_state_dict({name: value.clone() for name, value in average.state_dict().items()})
    other.segmenter.load_state_dict(segmenter.state_dict())
    assert_equal(other.state_dict(), average.state_dict(), 0)
    for one in (average, other):
        change(one.segmenter, 2)
        one.update()
    assert_equal(other.state_dict(), average.state_dict(), 0)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    message = refusal(lambda: WeightAverage(build_networks().segmenter, decay))
    for part in (f"ema_decay is {decay!r}", "from 0", "below 1"):
        assert part in message


# --- In an iteration -------------------------------------------------------------------------------------------------


def update_with_average(kind: Any, seed: int = 0) -> tuple[Any, WeightAverage]:
    networks = build_networks(seed)
    average = WeightAverage(networks.segmenter, 0.5)
    return update_of(networks, kind=kind, average=average), average


@KINDS
def test_each_iteration_ends_with_one_update_of_the_average(kind: Any) -> None:
    update, average = update_with_average(kind)
    states: list[State] = []
    trainer = trainer_of(update, BATCHES, epochs=2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: states.append(parameters_of(average.segmenter)))
    trainer.run()
    assert len(states) == 4
    assert_equal(parameters_of(average.network), restated(states, 0.5))
    assert max((states[0][name] - states[-1][name]).abs().max().item() for name in states[0]) > 1e-3


@KINDS
def test_the_average_changes_nothing_of_what_trains(kind: Any) -> None:
    update, average = update_with_average(kind)
    alone, _ = update_with_average(kind)
    alone.average = None
    for one in (update, alone):
        trainer_of(one, BATCHES).run()
    for network, other in zip(update.modules(), alone.modules(), strict=True):
        assert_equal(network.state_dict(), other.state_dict(), 0)
    assert average.network not in update.modules()


@KINDS
def test_the_average_is_in_the_state_of_an_update_and_comes_back_from_it(kind: Any) -> None:
    update, average = update_with_average(kind)
    trainer_of(update, BATCHES).run()
    other, other_average = update_with_average(kind, seed=1)
    other.load_state_dict(update.state_dict())
    assert_equal(other_average.state_dict(), average.state_dict(), 0)
