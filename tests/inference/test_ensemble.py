"""Several trainings and flips as one network: which are taken together, which are refused, and what masks become."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import diagonal_affine, make_fingerprint, read_json, refusal, write_nifti
from conftest import run_bundle
from hostile import SPACING, ct
from monai.data import MetaTensor
from sifa.fingerprint.fingerprint import read_fingerprint, write_fingerprint
from sifa.inference.ensemble import flips_of, load_networks, model_folders, shared_fingerprint
from sifa.inference.slice_segmenter import SliceSegmenter
from sifa.io.nifti_files import load_nifti
from sifa.networks import NetworkAverage, Segmenter
from sifa.networks.batch_norm import for_inference
from sifa.utils.errors import UsageError


def model_folder(folder: Path, **changes: Any) -> Path:
    """Writes a run of random weights with a fingerprint of these changes."""
    fingerprint = make_fingerprint(**changes)
    folder.mkdir()
    write_fingerprint(fingerprint, folder / "fingerprint.json")
    size = fingerprint.network
    torch.save(Segmenter(size.in_channels, size.out_channels, size.width).state_dict(), folder / "model.pt")
    return folder


def test_folders_are_given_one_or_several_in_every_way_that_a_shell_hands_them_on(tmp_path: Path) -> None:
    odd = tmp_path / "[a,b]"
    odd.mkdir()
    assert model_folders(str(odd)) == [odd]
    assert model_folders("/runs/0") == [Path("/runs/0")]
    for given in (["/runs/0", "/runs/1"], "[/runs/0,/runs/1]", "['/runs/0', '/runs/1']", ("/runs/0", "/runs/1")):
        assert model_folders(given) == [Path("/runs/0"), Path("/runs/1")]
    assert "listed twice" in refusal(lambda: model_folders("[/runs/0,/runs/1/../0]"))
    assert "--model_dir []: give at least one" in refusal(lambda: model_folders([]))


DIFFERENCES: dict[str, Any] = {
    "labels": {"labels": {0: "background", 1: "left", 2: "spleen"}},
    "slice_plane": {"slice_plane": "axial"},
    "orientation": {"orientation": "PLS"},
    "spacing": {"spacing": (4.7, 4.6, 0.0)},
    "slice_size": {"slice_size": (32, 32)},
    "pamr_iterations": {"pamr_iterations": 3},
}


@pytest.mark.parametrize("name", [*DIFFERENCES, "target.intensity"])
def test_trainings_that_prepare_scans_differently_are_refused_by_the_entry_that_differs(
    name: str, tmp_path: Path
) -> None:
    first, second = model_folder(tmp_path / "first"), model_folder(tmp_path / "second")
    content = read_json(second / "fingerprint.json")
    if name == "target.intensity":
        content["target"]["intensity"]["upper"] += 1
    else:
        content |= json.loads(json.dumps(DIFFERENCES[name]))
    (second / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    message = refusal(lambda: shared_fingerprint([first, second]))
    assert message.startswith(f"{second / 'fingerprint.json'}: {name} is ")
    assert str(first) in message


def test_trainings_may_differ_in_size_volumes_and_prior_of_which_the_first_counts(tmp_path: Path) -> None:
    network = make_fingerprint().network
    wide = type(network)(network.in_channels, network.out_channels, 0.125)
    prior = {"1": {"center": [0.0, 0.0, 0.0], "radius_mm": 9.0}}
    first, second = model_folder(tmp_path / "a"), model_folder(tmp_path / "b", network=wide, spatial_prior=prior)
    fingerprint = shared_fingerprint([first, second])
    assert fingerprint == read_fingerprint(first / "fingerprint.json")
    built = load_networks(Segmenter(1, 3, 0.25), [first, second], "cpu", [()])
    assert isinstance(built, NetworkAverage)
    assert not built.training
    assert [one.encoder.out_channels for one in built.networks] == [128, 64]  # type: ignore[union-attr]


def test_one_training_without_flips_is_its_network_itself(tmp_path: Path) -> None:
    network = Segmenter(1, 3, 0.25)
    assert load_networks(network, [model_folder(tmp_path / "a")], "cpu", [()]) is network


@pytest.mark.parametrize(
    ("tta", "orientation", "flips"),
    [
        (None, "ILP", [()]),
        (False, "ILP", [()]),
        (True, "ILP", [(), (2,)]),  # coronal: rows are superior to inferior, columns right to left
        ("true", "PLS", [(), (2,)]),
        (True, "IPL", [(), (2,), (3,), (2, 3)]),  # sagittal slices do not show left and right
        ("columns", "ILP", [(), (3,)]),
        (["rows", "columns"], "ILP", [(), (2,), (3,), (2, 3)]),
        ("[columns,rows]", "ILP", [(), (2,), (3,), (2, 3)]),
    ],
)
def test_flips_by_default_never_exchange_left_and_right(tta: Any, orientation: str, flips: list[tuple[int]]) -> None:
    assert flips_of(tta, orientation) == flips


@pytest.mark.parametrize("tta", ["diagonal", "[rows,LR]", 3, []])
def test_an_unknown_flip_is_refused(tta: Any) -> None:
    with pytest.raises(UsageError, match="--tta"):
        flips_of(tta, "ILP")


# --- The command line -------------------------------------------------------------------------------------------------


def infer(model: Path | str, scans: Path, output: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    given = {"model_dir": model, "dataset_dir": scans, "output_dir": output, **options}
    return run_bundle("inference", ["inference.yaml"], check=False, **given)


@pytest.fixture(scope="module")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings: the tiny one, and one whose weights differ."""
    other = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(trained, other)
    state = torch.load(other / "model.pt", weights_only=True)
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: value + 0.3 * value.std() * torch.randn(value.shape, generator=generator) if value.ndim > 1 else value
        for name, value in state.items()
    }
    torch.save(noisy, other / "model.pt")
    return [trained, other]


def expected_mask(runs: list[Path], tta: Any, volume: np.ndarray) -> np.ndarray:
    """Returns the mask of the mean, made from its parts."""
    fingerprint = shared_fingerprint(runs)
    network = Segmenter(1, fingerprint.network.out_channels, fingerprint.network.width)
    average = load_networks(network, runs, "cpu", flips_of(tta, fingerprint.orientation))
    segmenter = SliceSegmenter.from_fingerprint(fingerprint, slices_at_once=8)
    scan = MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(diagonal_affine(SPACING)))
    with torch.inference_mode():
        return segmenter.segment(scan, for_inference(average), "cpu").labels.numpy()


@pytest.mark.slow
def test_masks_of_an_ensemble_are_those_of_the_mean_and_replace_those_of_one_training(
    runs: list[Path], tmp_path: Path
) -> None:
    scans, output = tmp_path / "scans", tmp_path / "masks"
    write_nifti(scans / "a.nii.gz", ct(), diagonal_affine(SPACING))

    def mask() -> np.ndarray:
        return np.asarray(load_nifti(output / "a_seg.nii.gz").dataobj)

    changes: list[Callable[[], subprocess.CompletedProcess[str]]] = [
        partial(infer, runs[0], scans, output),
        partial(infer, f"[{runs[0]},{runs[1]}]", scans, output),
        partial(infer, f"['{runs[0]}','{runs[1]}']", scans, output, tta="True"),
    ]
    expected = [expected_mask(runs[:1], None, ct()), expected_mask(runs, None, ct()), expected_mask(runs, True, ct())]
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(expected[1], expected[2])
    for change, right in zip(changes, expected, strict=True):
        assert "already done" not in change().stdout
        assert np.array_equal(mask(), right)
        assert "already done" in change().stdout
    assert not list(output.glob("*.outdated"))


@pytest.mark.slow
def test_trainings_that_differ_are_refused_before_anything_is_written(runs: list[Path], tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "a.nii.gz", ct(), diagonal_affine(SPACING))
    shutil.copytree(runs[1], tmp_path / "other")
    content = read_json(runs[1] / "fingerprint.json") | {"slice_size": [40, 32]}
    (tmp_path / "other" / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    for model, words in (
        (f"[{runs[0]},{tmp_path / 'other'}]", "slice_size is [40, 32], in"),
        (f"[{runs[0]},{tmp_path / 'absent'}]", "there is no fingerprint"),
        (f"[{runs[0]},{runs[0]}]", "is listed twice"),
    ):
        result = infer(model, tmp_path / "scans", tmp_path / "masks")
        assert result.returncode in (1, 2)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert words in line
        assert not (tmp_path / "masks").exists()
