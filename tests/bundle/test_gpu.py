"""The bundle's commands on a GPU: skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from conftest import RECOMMENDED, TINY, run_bundle

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")

CONFIGS = RECOMMENDED


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_on_a_gpu_validates_goes_on_and_is_measured(precision: str, phantom: Path, tmp_path: Path) -> None:
    folders = {"dataset_dir": phantom, "output_dir": tmp_path / "run"}
    weights = {"loss_weights__segmenter__self_training": 1}
    settings: dict[str, Any] = {**TINY, **folders, **weights, "val_interval": 1, "precision": precision}
    run_bundle("training", CONFIGS, **settings)
    run_bundle("training", CONFIGS, **{**settings, "epochs": 3}, resume="auto")

    configs, measured = ["train.yaml", "evaluate.yaml"], tmp_path / "measured"
    run_bundle("evaluating", configs, model_dir=tmp_path / "run", dataset_dir=phantom, output_dir=measured)

    iterations = TINY["iterations_per_epoch"] * 3
    assert len((tmp_path / "run" / "scalars.csv").read_text(encoding="utf-8").splitlines()) == 1 + iterations
    assert (tmp_path / "run" / "validation.json").is_file()
    assert 0 <= json.loads((measured / "results.json").read_text("utf-8"))["metrics"]["mean_dice"]["mean"] <= 100


def test_inference_on_a_gpu_labels_voxels_as_on_a_cpu(phantom: Path, tmp_path: Path) -> None:
    for device in ("cuda:0", "cpu"):
        options: dict[str, Any] = {"device": f"$torch.device('{device}')", "uncertainty": True}
        output = tmp_path / device.removesuffix(":0")
        run_bundle("inference", ["inference.yaml"], dataset_dir=phantom / "ct_images", output_dir=output, **options)

    masks = sorted((tmp_path / "cpu").rglob("*_seg.nii.gz"))
    assert len(masks) == 5
    for mask in masks:
        on_cpu = nib.Nifti1Image.from_filename(mask).get_fdata()
        on_gpu = nib.Nifti1Image.from_filename(tmp_path / "cuda" / mask.relative_to(tmp_path / "cpu")).get_fdata()
        assert (on_cpu == on_gpu).mean() > 0.999
        assert on_cpu.any()


def test_adapting_on_a_gpu_writes_a_model(phantom: Path, trained: Path, tmp_path: Path) -> None:
    configs = [*CONFIGS, "adapt_batch_norm.yaml"]
    run_bundle("adapting", configs, model_dir=trained, dataset_dir=phantom, output_dir=tmp_path)

    assert all(value.device.type == "cpu" for value in torch.load(tmp_path / "model.pt", weights_only=True).values())
