"""The term of labeled target images: its formula, who moves, and in which methods there is one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from builders import refusal
from iterations import draw_batch
from methods import BUILDERS, COLUMNS, LOSS, build, is_buffer, state, step

BATCH = draw_batch(0, view=True)
LABELED = {
    **BATCH,
    "labeled_target_image": draw_batch(9)["target_image"],
    "labeled_target_label": draw_batch(9)["source_label"],
}
METHODS = [name for name in BUILDERS if name in COLUMNS]


def weights(name: str, weight: Any) -> dict[str, Any]:
    columns = COLUMNS[name]
    return {**columns, "segmenter": {**columns["segmenter"], "target_segmentation": weight}}


@pytest.mark.parametrize("name", METHODS)
def test_it_is_the_segmentation_loss_of_the_labeled_slices_and_moves_what_the_segmenter_may_move(name: str) -> None:
    method, plain = (build(name, loss_weights=weights(name, weight)) for weight in (2.0, 0))
    for optimizer in method.optimizers.values():  # the segmenter is asked before and after other updates
        optimizer.param_groups[0]["lr"] = 0.0
    segmenter = copy.deepcopy(method.networks["segmenter"]).train()
    if name == "pnp_adanet":
        segmenter.encoder.layers[14:].eval()
    expected = LOSS(segmenter(LABELED["labeled_target_image"]), LABELED["labeled_target_label"])
    output = step(method, LABELED)
    assert output["target_segmentation"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert "target_segmentation" not in step(plain, LABELED)


@pytest.mark.parametrize("name", METHODS)
def test_it_leaves_the_running_statistics_as_the_method_makes_them(name: str) -> None:
    labeled, plain = (build(name, loss_weights=weights(name, weight)) for weight in (1.0, 0))
    step(labeled, LABELED)
    step(plain, LABELED)
    first, second = (state({"segmenter": method.networks["segmenter"]}) for method in (labeled, plain))
    assert all((first[key] == second[key]).all() for key in first if is_buffer(key))
    assert any((first[key] != second[key]).any() for key in first)


def test_a_weight_without_labeled_slices_in_the_batch_is_refused() -> None:
    message = refusal(lambda: step(build("dann", loss_weights=weights("dann", 1.0)), BATCH))
    assert "loss_weights#segmenter#target_segmentation" in message
    assert "labeled_target.yaml" in message
