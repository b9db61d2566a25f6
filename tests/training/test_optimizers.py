"""State of optimizers that comes from another memory format."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from sifa.training.checkpoint import load_optimizer
from torch import nn

LAST = torch.channels_last
FIRST = torch.contiguous_format


def convolutions(memory_format: torch.memory_format) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 2, 3))
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stub lacks it
    return network, torch.optim.Adam(network.parameters(), 0.01, fused=True)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    image = torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    network(image).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(("before", "after"), [(LAST, FIRST), (FIRST, LAST), (LAST, LAST)])
def test_a_training_goes_on_from_moments_of_another_memory_format(before: Any, after: Any) -> None:
    reference, optimizer = convolutions(before)
    for seed in range(3):
        step(reference, optimizer, seed)
    state = copy.deepcopy((reference.state_dict(), optimizer.state_dict()))
    step(reference, optimizer, 3)

    network, resumed = convolutions(after)
    network.load_state_dict(state[0])
    load_optimizer(resumed, state[1])
    step(network, resumed, 3)

    for one, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for parameter, values in resumed.state.items():
        assert values["exp_avg"].stride() == parameter.stride() == values["exp_avg_sq"].stride()


def test_a_state_of_more_parameters_is_refused() -> None:
    other = torch.optim.Adam([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="parameter"):
        load_optimizer(other, convolutions(FIRST)[1].state_dict())
