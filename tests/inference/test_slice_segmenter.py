"""The slice-wise inferer: the same mask as MONAI's own steps on the whole volume, in a fraction of the memory."""

from __future__ import annotations

import copy
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import ALL_AXCODES, make_fingerprint, stored_as
from conftest import BUNDLE
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import Compose, Invertd, Orientationd
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.inference.slice_segmenter import HARMLESS, SliceSegmenter
from sifa.networks import Segmenter
from sifa.networks.batch_norm import for_inference
from sifa.postprocessing.pamr import refine_with_pamr
from sifa.transforms.dictionary import NormalizeIntensityd, Spacingd
from sifa.transforms.orientation import AXCODES
from sifa.transforms.resampling import resample_slices, restore_labels, sample_positions
from sifa.transforms.slices import as_slices, slice_steps
from sifa.utils.errors import InputError

WINDOW = {"mode": "window", "lower": -200.0, "upper": 300.0}


def make_segmenter(**options: object) -> SliceSegmenter:
    return SliceSegmenter("ILP", (2.5, 2.5), WINDOW, (32, 32), 3, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> Segmenter:
    """A small segmenter whose batch norm has seen images, so that its maps are not constant."""
    torch.manual_seed(0)
    segmenter = Segmenter(1, 3, 0.125).train()
    for layer in segmenter.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    for _ in range(20):
        segmenter(torch.rand(4, 1, 32, 32) * 2 - 1)
    return segmenter.eval()


@pytest.fixture(scope="module")
def scan() -> MetaTensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 1, 6, 5, 7, generator=generator)
    volume = torch.nn.functional.interpolate(coarse, (41, 23, 52), mode="trilinear") * 900 - 400
    affine = torch.diag(torch.tensor([1.4, 3.0, 1.9, 1.0], dtype=torch.float64))
    return MetaTensor(volume[0], affine=affine)


@pytest.mark.parametrize("iterations", [0, 4])  # of the refinement, in each window
def test_the_mask_equals_that_of_monais_steps_on_the_whole_volume(
    iterations: int, network: Segmenter, scan: MetaTensor
) -> None:
    preprocessing = Compose(
        [
            NormalizeIntensityd("image", WINDOW),
            Orientationd("image", "ILP", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", (2.5, 2.5, 0), mode="bilinear"),
        ]
    )
    whole = SliceInferer(2, (32, 32), 4, 0.25, mode="gaussian", padding_mode="constant", cval=-1)
    with torch.inference_mode():
        data = preprocessing({"image": scan})
        probabilities = whole(data["image"][None], lambda x: refine_with_pamr(network(x).softmax(1), x, iterations))[0]
        data["pred"] = probabilities.argmax(0, keepdim=True)
        back = Invertd("pred", preprocessing, "image", nearest_interp=True, to_tensor=True)(data)["pred"]
        labels = make_segmenter(pamr_iterations=iterations)(scan[None], network)[0]
    assert len(np.unique(labels)) == 3
    assert (labels.numpy() == back.numpy()).mean() > 0.9999


def test_the_mask_does_not_depend_on_how_the_scan_is_stored(network: Segmenter, scan: MetaTensor) -> None:
    with torch.inference_mode():
        canonical = make_segmenter().segment(scan, network, "cpu").labels.numpy()
        for codes in ALL_AXCODES:
            stored, affine = stored_as(scan[0].numpy(), scan.affine.numpy(), codes)
            turned = MetaTensor(torch.from_numpy(stored.copy())[None], affine=torch.from_numpy(affine))
            labels = make_segmenter().segment(turned, network, "cpu").labels.numpy()
            assert np.array_equal(labels, stored_as(canonical, scan.affine.numpy(), codes)[0]), codes


@pytest.mark.parametrize("slices_at_once", [1, 5, 100])
def test_the_size_of_a_slab_does_not_change_the_mask(slices_at_once: int, network: Segmenter, scan: MetaTensor) -> None:
    with torch.inference_mode():
        one = make_segmenter().segment(scan, network, "cpu")
        other = make_segmenter(slices_at_once=slices_at_once).segment(scan, network, "cpu")
    assert (one.labels == other.labels).float().mean() > 0.9999
    assert one.confidence == pytest.approx(other.confidence, rel=1e-3)


def test_air_is_background_without_asking_the_network(scan: MetaTensor) -> None:
    def never(windows: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the network was asked")

    air = MetaTensor(torch.full_like(scan.as_tensor(), -1000.0), affine=scan.affine)
    assert not make_segmenter().segment(air, never, "cpu").labels.any()


def blob_network(windows: torch.Tensor) -> torch.Tensor:
    """Says class 1 wherever a pixel is bright; knows nothing of its neighbors."""
    return torch.cat([-windows, windows, torch.full_like(windows, -9.0)], dim=1) * 50


def test_a_coarse_first_pass_leaves_out_what_is_far_and_changes_nothing_near(scan: MetaTensor) -> None:
    values = torch.full((1, 120, 90, 110), 0.0)
    values[0, 50:70, 40:50, 45:75] = 290.0
    asked: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        return blob_network(windows)

    volume = MetaTensor(values, affine=scan.affine)
    whole = make_segmenter().segment(volume, network, "cpu").labels
    everything, asked[:] = sum(asked), []
    found = make_segmenter(region_step=18.0).segment(volume, network, "cpu").labels
    assert whole.sum() == pytest.approx(20 * 10 * 30, rel=0.2)
    assert torch.equal(found, whole)
    assert sum(asked) < 0.6 * everything


def test_a_coarse_first_pass_that_finds_nothing_leaves_the_mask_empty(scan: MetaTensor) -> None:
    volume = MetaTensor(torch.full((1, 40, 40, 40), 0.0), affine=scan.affine)
    assert not make_segmenter(region_step=9.0).segment(volume, blob_network, "cpu").labels.any()


def test_confidence_and_entropy_are_those_of_the_averaged_probabilities(scan: MetaTensor) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])

    def constant(windows: torch.Tensor) -> torch.Tensor:
        return logits[None, :, None, None].expand(len(windows), 3, *windows.shape[2:])

    found = make_segmenter().segment(scan, constant, "cpu")
    probabilities = logits.softmax(0).double().numpy()
    assert found.pixels[[0, 2]].sum() == 0
    assert found.confidence[1] / found.pixels[1] == pytest.approx(probabilities[1], rel=1e-4)
    assert found.entropy[1] / found.pixels[1] == pytest.approx(
        -(probabilities * np.log(probabilities)).sum() / np.log(len(probabilities)), rel=1e-4
    )


def test_uncertainty_is_the_entropy_as_a_share_of_the_greatest_in_the_scans_own_order(scan: MetaTensor) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])

    def constant(windows: torch.Tensor) -> torch.Tensor:
        return logits[None, :, None, None].expand(len(windows), 3, *windows.shape[2:])

    found = make_segmenter(uncertainty=True).segment(scan, constant, "cpu")
    probabilities = logits.softmax(0)
    share = float(-(probabilities * probabilities.log()).sum() / np.log(3))
    assert found.uncertainty is not None
    assert found.uncertainty.dtype == torch.uint8
    assert found.uncertainty.shape == scan.shape[1:]
    assert found.uncertainty.float().mean() / 200 == pytest.approx(share, abs=0.5 / 200 + 1e-6)
    assert make_segmenter().segment(scan, constant, "cpu").uncertainty is None


def test_uncertainty_lies_where_classes_are_alike(scan: MetaTensor) -> None:
    values = torch.linspace(-150.0, 250.0, 64)[None, :, None, None].expand(1, 64, 40, 64)  # the network sees 0 at 50 HU
    volume = MetaTensor(values.clone(), affine=scan.affine)
    found = make_segmenter(uncertainty=True).segment(volume, blob_network, "cpu")
    assert found.uncertainty is not None
    doubt = found.uncertainty.float().mean(dim=(1, 2))
    assert 30 <= int(doubt.argmax()) <= 33
    assert doubt[:20].max() < 0.1 * doubt.max() > doubt[44:].max()


def test_the_precision_is_tried_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, network: Segmenter, scan: MetaTensor
) -> None:
    asked: list[tuple[int, ...]] = []

    def choose(network: Segmenter, windows: torch.Tensor) -> str:
        asked.append(tuple(windows.shape))
        return "bfloat16"

    monkeypatch.setattr("sifa.inference.slice_segmenter.faster_precision", choose)
    segmenter = make_segmenter(precision="auto")
    with torch.inference_mode():
        found = [segmenter.segment(scan, network, "cpu").labels for _ in range(2)]
        expected = make_segmenter(precision="bfloat16").segment(scan, network, "cpu").labels
    assert asked == [(8, 1, 32, 32)]
    assert segmenter.precision == "auto"
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], expected)


def test_a_scan_handed_to_the_inferer_alone_is_checked_and_segmented_as_by_the_run(
    trained: Path, network: Segmenter, scan: MetaTensor
) -> None:
    fingerprint = read_fingerprint(trained / "fingerprint.json")
    segmenter = make_segmenter(fingerprint=fingerprint)
    with torch.inference_mode():
        labels = segmenter(scan[None], network)[0, 0]
        assert torch.equal(labels, segmenter.segment(scan, for_inference(network), "cpu").labels)
    broken = scan.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        segmenter(broken[None], network)


CHANGES: dict[str, Any] = {
    "orientation": "PLS",
    "pixel_spacing": (2.0, 2.5),
    "intensity": {**WINDOW, "upper": 400.0},
    "slice_size": (32, 40),
    "classes": 4,
    "overlap": 0.5,
    "pamr_iterations": 3,
    "spatial_prior": {"1": {"center": [0.0, 0.0, 0.0], "radius_mm": 20.0}},
    "precision": "bfloat16",
    "region_step": 9.0,
    "region_margin": 10.0,
    "region_island": 0.5,
}


def test_each_argument_is_among_the_settings_or_known_to_change_no_mask() -> None:
    arguments = set(inspect.signature(SliceSegmenter).parameters)
    assert set(CHANGES) | set(HARMLESS) == arguments
    assert set(CHANGES) & set(HARMLESS) == set()
    given = {"orientation": "ILP", "pixel_spacing": (2.5, 2.5), "intensity": WINDOW, "slice_size": (32, 32)}
    plain = SliceSegmenter(**given, classes=3).settings()  # type: ignore[arg-type]
    assert set(plain) == set(CHANGES)
    for name, value in CHANGES.items():
        changed = SliceSegmenter(**{**given, "classes": 3, name: value}).settings()
        assert json.dumps(changed) != json.dumps(plain), name


@pytest.mark.parametrize("option", ["inferer#region_margin", "inferer#region_island", "largest_component"])
def test_the_settings_of_the_config_change_the_hash_of_a_run(option: str) -> None:
    def settings(**options: Any) -> str:
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
        parser.update({"bundle_root": str(BUNDLE), **options})
        found: str = parser.get_parsed_content("manifest#settings")
        return found

    assert settings(**{option: [1] if option == "largest_component" else 0.3}) != settings() == settings()


def test_the_network_is_fused_again_only_when_its_weights_change(
    monkeypatch: pytest.MonkeyPatch, network: Segmenter, scan: MetaTensor
) -> None:
    fused: list[torch.nn.Module] = []

    def counted(network: torch.nn.Module) -> torch.nn.Module:
        fused.append(for_inference(network))
        return fused[-1]

    monkeypatch.setattr("sifa.inference.slice_segmenter.for_inference", counted)
    segmenter, own = make_segmenter(), copy.deepcopy(network)
    first = segmenter(scan[None], own)
    assert torch.equal(segmenter(scan[None], own), first)
    assert len(fused) == 1
    with torch.no_grad():
        own.pixel_classifier.classifier.weight.neg_()
    changed = segmenter(scan[None], own)
    assert len(fused) == 2
    assert not torch.equal(changed, first)
    own.load_state_dict(network.state_dict())
    assert torch.equal(segmenter(scan[None], own), first)
    assert len(fused) == 3
    with pytest.raises(ValueError, match="evaluation mode"):
        segmenter(scan[None], own.train())


def test_slices_are_a_view_so_that_no_volume_is_copied() -> None:
    volume = np.zeros((1, 4, 5, 6))
    slices = as_slices(volume, np.diag([-1.0, 2.0, 3.0, 1.0]), AXCODES["coronal"])
    slices[0] = 1
    assert np.shares_memory(volume, slices)
    assert slices.shape == (5, 1, 6, 4)
    assert slice_steps(np.diag([-1.0, 2.0, 3.0, 1.0]), AXCODES["coronal"]).tolist() == [3.0, 1.0, 2.0]


def test_resampling_a_ramp_gives_its_values_at_the_sampled_places_and_back_the_nearest() -> None:
    ramp = torch.arange(10.0)[None, None, None].expand(1, 1, 4, 10)
    positions = [sample_positions(4, 1.0, 1.0), sample_positions(10, 1.0, 2.5)]
    sampled = resample_slices(ramp, positions)
    assert sampled[0, 0, 0].tolist() == pytest.approx([0.0, 2.5, 5.0, 7.5, 9.0])
    labels = torch.arange(5, dtype=torch.uint8)[None, None].expand(1, 4, 5)
    assert restore_labels(labels, positions, (4, 10))[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]


def test_folding_batch_norm_leaves_the_function_and_the_original_as_they_are(network: Segmenter) -> None:
    images = torch.rand(2, 1, 40, 24) * 2 - 1
    folded = for_inference(network)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    with torch.inference_mode():
        assert torch.allclose(folded(images), network(images), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="evaluation mode"):
        for_inference(Segmenter(1, 2, 0.125).train())


PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from monai.data import MetaTensor
from sifa.inference.slice_segmenter import SliceSegmenter
segmenter = SliceSegmenter("ILP", (8.0, 8.0), {"mode": "window", "lower": -200.0, "upper": 300.0}, (32, 32), 5)
scan = MetaTensor(torch.zeros(1, 256, int(sys.argv[2]), 256))
def network(windows):
    return torch.zeros(len(windows), 5, *windows.shape[2:])
segmenter.segment(scan, network, "cpu")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_grows_by_the_scan_and_its_mask_and_nothing_else() -> None:
    def peak(slices: int) -> int:
        command = [sys.executable, "-c", PEAK, str(BUNDLE), str(slices)]
        return 1024 * int(subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout)

    longer = 800
    growth = peak(100 + longer) - peak(100)
    assert growth < 1.3 * longer * 256 * 256 * (4 + 1)  # bytes: float32 scan, uint8 mask


def test_the_config_builds_the_inferer_from_the_fingerprint_alone() -> None:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(BUNDLE)})
    fingerprint, inferer = parser.get_parsed_content("fingerprint"), parser.get_parsed_content("inferer")
    assert inferer.fingerprint is fingerprint
    assert inferer.settings() == {
        "orientation": fingerprint.orientation,
        "pixel_spacing": fingerprint.spacing[:2],
        "intensity": fingerprint.target.intensity,
        "slice_size": fingerprint.slice_size,
        "classes": fingerprint.network.out_channels,
        "pamr_iterations": fingerprint.pamr_iterations,
        "spatial_prior": fingerprint.spatial_prior,
        "overlap": 0.25,
        "precision": "float32",
        "region_step": None,
        "region_margin": 20.0,
        "region_island": 0.05,
    }


def test_settings_that_are_given_win_over_the_fingerprint() -> None:
    fingerprint = make_fingerprint()
    segmenter = SliceSegmenter.from_fingerprint(fingerprint, check_scans=False, spatial_prior=None, slice_size=[16, 16])
    assert (segmenter.fingerprint, segmenter.spatial_prior, segmenter.slice_size) == (None, {}, (16, 16))
    assert segmenter.orientation == fingerprint.orientation


@pytest.mark.parametrize("slices_at_once", [1, 5, 16])
def test_a_component_that_contradicts_the_spatial_prior_is_removed(slices_at_once: int) -> None:
    """Class 1 is where the scan is bright: slices 3 to 5, and a spot in slice 15."""
    volume = torch.full((1, 20, 22, 24), -200.0)
    volume[:, :, 3:6] = 300
    volume[:, 4:8, 15, 4:8] = 300
    scan = MetaTensor(volume, affine=torch.diag(torch.tensor([2.5, 3.0, 2.5, 1.0], dtype=torch.float64)))
    priors = {"1": {"center": [0.0, 0.0, 0.0], "radius_mm": 20.0}}

    def bright(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 99 * image, torch.full_like(image, -99)], dim=1)

    whole = make_segmenter(slices_at_once=slices_at_once).segment(scan, bright, "cpu")
    found = make_segmenter(slices_at_once=slices_at_once, spatial_prior=priors).segment(scan, bright, "cpu")

    assert set(torch.nonzero(whole.labels)[:, 1].tolist()) == {3, 4, 5, 15}
    assert set(torch.nonzero(found.labels)[:, 1].tolist()) == {3, 4, 5}
    assert torch.equal(found.labels[:, 3:6], whole.labels[:, 3:6])
    assert (whole.dropped.tolist(), found.dropped.tolist()) == ([0, 0, 0], [0, 16, 0])
