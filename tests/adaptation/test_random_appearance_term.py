"""The term of source images of random appearance: its formula, and that it moves E and C alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from builders import refusal
from iterations import BATCHES, LAMBDA_DICE, PAPER, Kind, build_networks, draw_batch, moved, state_of, train, update_of
from sifa.adaptation.losses import SegmentationLoss
from sifa.adaptation.sifa import SIFA
from sifa.adaptation.sifa_simultaneous import SIFASimultaneous

KINDS = pytest.mark.parametrize("kind", [SIFA, SIFASimultaneous])
VIEWED = {**BATCHES[0], "source_view": draw_batch(7)["source_image"]}


def columns(weight: Any) -> dict[str, Any]:
    return {**PAPER, "segmenter": {**PAPER["segmenter"], "random_appearance": weight}}


@KINDS
def test_it_is_the_segmentation_loss_of_the_view_against_the_sources_label(
    kind: Kind,
) -> None:
    networks = build_networks()
    update = update_of(networks, columns(2.0), kind=kind)
    for optimizer in update.method.optimizers.values():  # E and C are asked before and after other updates
        optimizer.param_groups[0]["lr"] = 0.0
    segmenter = copy.deepcopy(networks.segmenter).train()
    expected = SegmentationLoss(LAMBDA_DICE)(segmenter(VIEWED["source_view"]), VIEWED["source_label"])

    output = train(update, [VIEWED])[0]

    assert output["random_appearance"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert "random_appearance" not in train(update_of(build_networks(), columns(0), kind=kind), [VIEWED])[0]


def test_it_moves_e_and_c_alone_and_no_running_statistics() -> None:
    """In the update that begins everything with the same weights, so that no later one sees E and C moved."""
    networks, plain = build_networks(), build_networks()

    train(update_of(networks, columns(1.0), kind=SIFASimultaneous), [VIEWED])
    train(update_of(plain, columns(0), kind=SIFASimultaneous), [VIEWED])

    changed = moved(state_of(networks), state_of(plain))
    assert changed
    assert all(name.startswith("segmenter.") and "running" not in name for name in changed)


@KINDS
def test_a_weight_without_the_view_in_the_batch_is_refused(kind: Kind) -> None:
    message = refusal(lambda: train(update_of(build_networks(), columns(1.0), kind=kind), BATCHES[:1]))
    assert "loss_weights#segmenter#random_appearance" in message
    assert "recommended.yaml" in message
