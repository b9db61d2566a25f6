"""The sampler of unpaired slices, for any sizes, batches, processes and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sifa.data.unpaired_slices import Draw, UnpairedSampler

SIZES = st.integers(1, 30)
SMALL = st.integers(1, 5)
SEEDS = st.integers(0, 2**32 - 1)


@dataclass
class Sizes:
    """A data set with sizes but no slices, since a sampler reads nothing else."""

    source_size: int
    target_size: int
    labeled_size: int = 0

    def __len__(self) -> int:
        return max(self.source_size, self.target_size)


def sampler_of(source_size: int, target_size: int, **options: Any) -> UnpairedSampler:
    """Returns a sampler of a data set of these sizes."""
    dataset: Any = Sizes(source_size, target_size)
    return UnpairedSampler(dataset, **options)


def draws_of(sampler: UnpairedSampler, epoch: int) -> list[Draw]:
    """Returns this process's draws of an epoch."""
    sampler.set_epoch(epoch)
    return list(sampler)


@given(SIZES, SIZES, SMALL, SMALL, SEEDS, st.integers(1, 20))
def test_all_slices_of_a_domain_are_drawn_before_any_repeats(
    source_size: int, target_size: int, batch_size: int, iterations: int, seed: int, epoch: int
) -> None:
    sampler = sampler_of(source_size, target_size, batch_size=batch_size, iterations=iterations, seed=seed)

    draws = draws_of(sampler, epoch)

    assert len(draws) == batch_size * iterations
    for size, order in (
        (source_size, [draw.source_index for draw in draws]),
        (target_size, [draw.target_index for draw in draws]),
    ):
        for start in range(0, len(order), size):
            part = order[start : start + size]
            assert len(set(part)) == len(part)
            assert set(part) <= set(range(size))


@given(SIZES, SIZES, SMALL, SMALL, SMALL, SEEDS, st.data())
def test_a_pass_can_be_resumed_at_any_iteration(
    source_size: int, target_size: int, batch_size: int, iterations: int, replicas: int, seed: int, data: st.DataObject
) -> None:
    rank, done = data.draw(st.integers(0, replicas - 1)), data.draw(st.integers(0, iterations))
    options = {"batch_size": batch_size, "iterations": iterations, "num_replicas": replicas, "rank": rank, "seed": seed}
    full = draws_of(sampler_of(source_size, target_size, **options), epoch=3)

    resumed = sampler_of(source_size, target_size, **options)
    resumed.skip(done)

    assert draws_of(resumed, epoch=3) == full[done * batch_size :]
    assert draws_of(resumed, epoch=3) == full


@given(SIZES, SIZES, SMALL, SMALL, SMALL, SEEDS)
def test_processes_partition_the_draws_of_one_process_with_their_batches_together(
    source_size: int, target_size: int, batch_size: int, iterations: int, replicas: int, seed: int
) -> None:
    alone = sampler_of(source_size, target_size, batch_size=batch_size * replicas, iterations=iterations, seed=seed)
    shares = [
        draws_of(
            sampler_of(
                source_size,
                target_size,
                batch_size=batch_size,
                iterations=iterations,
                num_replicas=replicas,
                rank=rank,
                seed=seed,
            ),
            epoch=2,
        )
        for rank in range(replicas)
    ]

    expected = draws_of(alone, epoch=2)

    assert [draw for together in zip(*shares, strict=True) for draw in together] == expected


@given(st.sets(st.integers(0, 29), min_size=1), SMALL, SMALL, SEEDS)
def test_only_the_chosen_target_slices_are_drawn(chosen: set[int], batch_size: int, iterations: int, seed: int) -> None:
    sampler = sampler_of(7, 30, batch_size=batch_size, iterations=iterations, seed=seed)
    every_slice = draws_of(sampler, epoch=1)
    sampler.target_slices = np.array(sorted(chosen))

    draws = draws_of(sampler, epoch=1)

    assert {draw.target_index for draw in draws} <= chosen
    assert [draw.source_index for draw in draws] == [draw.source_index for draw in every_slice]
