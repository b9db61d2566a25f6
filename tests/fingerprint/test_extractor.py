"""Computing a fingerprint: figures of known volumes, however they are stored, and volumes that are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import ALL_AXCODES, Array, diagonal_affine, refusal, stored_as, write_dicom_series, write_nifti
from sifa.data.dataset_json import DatasetDescription
from sifa.fingerprint.extractor import compute_fingerprint
from sifa.fingerprint.fingerprint import Fingerprint, NetworkSize, VolumeRange, read_fingerprint, write_fingerprint
from sifa.fingerprint.grid_warnings import coarse_plane_warnings, resolution_warnings, tilt_warnings

INTENSITY: Mapping[str, Mapping[str, Any]] = {
    "CT": {"mode": "window", "percentiles": [10, 90], "above": -300},
    "default": {"mode": "percentiles", "percentiles": [5, 95], "above": None},
}
NETWORK = {"in_channels": 1, "width": 0.25}


def describe(
    source: Sequence[Path],
    target: Sequence[Path] = (),
    plane: str = "axial",
    modalities: tuple[str, str] = ("MR", "CT"),
) -> DatasetDescription:
    """Returns a data set of these images, each with a label of 3 voxels of 1 mm `left` and 2 of `right`."""
    return DatasetDescription(
        path=Path("/data/dataset.json"),
        name="tiny",
        slice_plane=plane,
        labels={0: "background", 1: "left", 2: "right"},
        source_modality=modalities[0],
        target_modality=modalities[1],
        source_training=[{"image": str(path), "label": label_of(path)} for path in source],
        target_training=[{"image": str(path)} for path in target],
    )


def label_of(image: Path) -> str:
    """Writes a small label beside an image and returns its path."""
    values = np.array([0, 0, 0, 1, 1, 1, 2, 2], dtype=np.uint8).reshape(2, 2, 2)
    return str(write_nifti(image.parent / f"label of {image.name}.nii.gz", values))


def fingerprint_of(dataset: DatasetDescription, **changes: Any) -> Fingerprint:
    """Returns the fingerprint with slices of 16 x 16 unless `changes` says otherwise."""
    return compute_fingerprint(
        dataset, **{"network": NETWORK, "slice_size": [16, 16], "intensity": INTENSITY, **changes}
    )


def percentile(values: Array, share: float) -> float:
    """Returns a percentile by linear interpolation between the two closest ranks."""
    ranked = np.sort(values.ravel().astype(np.float64))
    rank = (ranked.size - 1) * share / 100
    below = int(rank)
    return float(ranked[below] + (rank - below) * (ranked[min(below + 1, ranked.size - 1)] - ranked[below]))


def random_volume(seed: int, shape: tuple[int, ...] = (6, 7, 5), center: float = 100.0) -> Array:
    """Returns noise around `center`."""
    return np.random.default_rng(seed).normal(center, 50, size=shape).astype(np.float32)


@pytest.fixture
def mr(tmp_path: Path) -> Path:
    """An MR volume of 6 x 7 x 5 voxels of 1.5 x 1 x 2 mm: the field of view is 9 x 7 x 10 mm."""
    return write_nifti(tmp_path / "mr.nii.gz", random_volume(0), diagonal_affine((1.5, 1.0, 2.0)))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """A CT volume like the MR volume."""
    return write_nifti(tmp_path / "ct.nii.gz", random_volume(1, center=0.0), diagonal_affine((1.5, 1.0, 2.0)))


# --- intensities ---


def test_a_window_is_the_median_over_volumes_of_percentiles_of_the_voxels_above_the_threshold(
    mr: Path, tmp_path: Path
) -> None:
    volumes = [random_volume(seed, center=center) for seed, center in ((1, 0.0), (2, 40.0), (3, 300.0))]
    for volume in volumes:
        volume[:3] -= 1000  # air: about half of the voxels, below the threshold
    paths = [write_nifti(tmp_path / f"{index}.nii", volume) for index, volume in enumerate(volumes)]

    target = fingerprint_of(describe([mr], paths)).target

    body = [volume[volume > -300] for volume in volumes]
    lower = sorted(percentile(values, 10) for values in body)[1]
    upper = sorted(percentile(values, 90) for values in body)[1]
    assert target.intensity == {
        "mode": "window",
        "lower": pytest.approx(lower, abs=2e-3),
        "upper": pytest.approx(upper, abs=2e-3),
    }
    assert target.training.median_percentiles == pytest.approx([lower, upper], abs=2e-3)
    assert target.training.volumes == 3


def test_air_around_the_patient_does_not_move_a_window(mr: Path, ct: Path, tmp_path: Path) -> None:
    padded = np.pad(random_volume(1, center=0.0), 4, constant_values=-1000)
    with_air = write_nifti(tmp_path / "air.nii", padded, diagonal_affine((1.5, 1.0, 2.0)))

    found = [fingerprint_of(describe([mr], [path])).target.intensity for path in (ct, with_air)]

    assert found[0] == found[1]


def test_in_percentile_mode_the_rule_holds_percents_and_the_summary_holds_intensities(mr: Path, ct: Path) -> None:
    source = fingerprint_of(describe([mr], [ct])).source

    assert source.intensity == {"mode": "percentiles", "lower": 5.0, "upper": 95.0}
    values = random_volume(0)
    assert source.training.median_percentiles == pytest.approx(
        [percentile(values, 5), percentile(values, 95)], abs=2e-3
    )


def test_a_window_with_fixed_limits_holds_them_exactly_and_the_summary_still_holds_what_was_found(
    mr: Path, ct: Path
) -> None:
    fixed = {**INTENSITY, "z-scores": {"mode": "window", "lower": -1.80005, "upper": 4}}

    fingerprint = fingerprint_of(describe([mr], [ct], modalities=("z-scores", "CT")), intensity=fixed)

    assert fingerprint.source.intensity == {"mode": "window", "lower": -1.80005, "upper": 4.0}
    values = random_volume(0)
    found = [percentile(values, 0.5), percentile(values, 99.5)]
    assert fingerprint.source.training.median_percentiles == pytest.approx(found, abs=2e-3)
    assert_plain(fingerprint.to_json())
    assert Fingerprint.from_json(fingerprint.to_json(), "fingerprint.json") == fingerprint


@pytest.mark.parametrize(
    "rule",
    [
        {"mode": "window"},
        {"mode": "window", "lower": -1.8},
        {"mode": "window", "lower": 4.4, "upper": -1.8},
        {"mode": "window", "lower": 1, "upper": 1},
        {"mode": "window", "lower": "-1.8", "upper": 4.4},
        {"mode": "window", "lower": True, "upper": 4.4},
        {"mode": "window", "lower": None, "upper": 4.4},
        {"mode": "window", "lower": float("nan"), "upper": 4.4},
        {"mode": "window", "lower": -1.8, "upper": 4.4, "percentiles": [0.5, 99.5]},
        {"mode": "percentiles", "lower": -1.8, "upper": 4.4},
    ],
)
def test_a_rule_without_two_limits_in_one_form_is_refused_by_name(mr: Path, ct: Path, rule: dict[str, Any]) -> None:
    message = refusal(lambda: fingerprint_of(describe([mr], [ct]), intensity={**INTENSITY, "CT": rule}))

    assert message.startswith(f"intensity#CT is {rule}: give either percentiles or")


def test_the_rule_depends_on_the_modality_and_not_on_the_domain(mr: Path, ct: Path) -> None:
    fingerprint = fingerprint_of(describe([ct], [mr], modalities=("CT", "PET")))

    assert fingerprint.source.modality == "CT"
    assert fingerprint.source.intensity["mode"] == "window"
    assert fingerprint.target.modality == "PET"
    assert fingerprint.target.intensity == {"mode": "percentiles", "lower": 5.0, "upper": 95.0}


def test_without_target_images_a_target_of_the_source_modality_takes_the_source_intensities(ct: Path) -> None:
    fingerprint = fingerprint_of(describe([ct], modalities=("CT", "CT")))

    assert fingerprint.target == fingerprint.source


def test_without_target_images_a_target_of_another_modality_is_refused(mr: Path) -> None:
    message = refusal(lambda: fingerprint_of(describe([mr])))

    assert "/data/dataset.json" in message
    assert "CT" in message


def test_a_list_of_source_images_replaces_that_of_the_data_set(mr: Path, ct: Path, tmp_path: Path) -> None:
    other = write_nifti(tmp_path / "other.nii", random_volume(5), diagonal_affine((3, 3, 3)))

    source = fingerprint_of(
        describe([mr, mr], [ct]), source_training=[{"image": str(other), "label": label_of(other)}]
    ).source

    assert source.training.volumes == 1
    assert source.training.median_spacing == (3.0, 3.0, 3.0)


# --- geometry ---


@pytest.mark.parametrize(
    ("plane", "spacing", "field"),
    [
        ("axial", (1.0, 1.5, 2.0), (7.0, 9.0, 10.0)),  # rows: front to back, columns: right to left, slices: upward
        ("coronal", (2.0, 1.5, 1.0), (10.0, 9.0, 7.0)),
        ("sagittal", (2.0, 1.0, 1.5), (10.0, 7.0, 9.0)),
    ],
)
def test_the_fingerprint_does_not_depend_on_how_a_volume_is_stored(
    tmp_path: Path, plane: str, spacing: tuple[float, ...], field: tuple[float, ...]
) -> None:
    volume, affine = random_volume(0, center=0.0), diagonal_affine((1.5, 1.0, 2.0))
    paths = [
        write_nifti(tmp_path / f"{axcodes}.nii", *stored_as(volume, affine, axcodes)) for axcodes in ALL_AXCODES[::5]
    ]

    found = [fingerprint_of(describe([path], [path], plane=plane)) for path in paths]

    assert found[0].source.training.median_spacing == spacing
    assert found[0].source.training.median_field_of_view == field
    assert all(fingerprint == found[0] for fingerprint in found)


def test_a_dicom_series_is_measured_like_the_same_volume_as_nifti(mr: Path, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, size=(6, 7, 5)).astype(np.int16)
    spacing = (1.5, 1.0, 2.0)  # to the left, to the back and upward
    series = write_dicom_series(tmp_path / "series", volume, spacing)
    copy = write_nifti(tmp_path / "copy.nii", volume, np.diag([-1.5, -1.0, 2.0, 1.0]))

    found = [fingerprint_of(describe([mr], [path])) for path in (series, copy)]

    assert found[0].target.training.median_field_of_view == (7.0, 9.0, 10.0)
    assert found[0] == found[1]


def test_without_a_pixel_spacing_the_median_field_of_view_of_both_domains_fills_a_slice(tmp_path: Path) -> None:
    # fields of view in mm, rows (front to back) by columns (right to left)
    fields = [(20, 40), (30, 80), (50, 60), (90, 70), (40, 50)]
    paths = [
        write_nifti(
            tmp_path / f"{index}.nii",
            random_volume(index, (5, 10, 3), center=0.0),
            diagonal_affine((columns / 5, rows / 10, 4)),
        )
        for index, (rows, columns) in enumerate(fields)
    ]

    def pixel_spacing(slice_size: list[int]) -> tuple[float, ...]:
        return fingerprint_of(describe(paths[:2], paths[2:]), slice_size=slice_size).spacing

    # The median field is 40 x 60 mm; the axis that needs the larger pixels decides.
    assert pixel_spacing([16, 16]) == (3.75, 3.75, 0.0)
    assert pixel_spacing([8, 16]) == (5.0, 5.0, 0.0)
    assert pixel_spacing([64, 32]) == (1.875, 1.875, 0.0)


def test_a_given_spacing_is_used_unchanged(mr: Path, ct: Path) -> None:
    fingerprint = fingerprint_of(describe([mr], [ct]), pixel_spacing=1.25, slice_spacing=3.0, slice_size=[24, 32])

    assert fingerprint.spacing == (1.25, 1.25, 3.0)
    assert fingerprint.slice_size == (24, 32)


def test_the_plane_the_labels_and_the_network_are_in_the_fingerprint(mr: Path, ct: Path) -> None:
    fingerprint = fingerprint_of(describe([mr], [ct], plane="coronal"))

    assert fingerprint.slice_plane == "coronal"
    assert fingerprint.orientation == "ILP"
    assert fingerprint.labels == {0: "background", 1: "left", 2: "right"}
    assert fingerprint.network == NetworkSize(in_channels=1, out_channels=3, width=0.25)


@pytest.mark.parametrize("slice_size", [[12, 16], [16, 20], [0, 16], [16, -8], [255, 255]])
def test_a_slice_size_that_is_not_a_multiple_of_8_is_refused(mr: Path, ct: Path, slice_size: list[int]) -> None:
    assert str(slice_size) in refusal(lambda: fingerprint_of(describe([mr], [ct]), slice_size=slice_size))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("slice_spacing", -1.0), ("pamr_iterations", -1), ("pamr_iterations", 1.5), ("pamr_iterations", True)],
)
def test_a_setting_that_a_fingerprint_cannot_hold_is_refused(mr: Path, ct: Path, setting: str, value: Any) -> None:
    message = refusal(lambda: fingerprint_of(describe([mr], [ct]), **{setting: value}))

    assert message.startswith(f"{setting} is {value}:")


# --- volumes that cannot be measured ---


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (np.where(np.arange(60).reshape(3, 4, 5) == 7, np.nan, 1.0).astype(np.float32), "NaN"),
        (np.where(np.arange(60).reshape(3, 4, 5) == 7, np.inf, 1.0).astype(np.float32), "infinite"),
        (np.arange(120, dtype=np.float32).reshape(3, 4, 5, 2), "4 dimensions"),
        (np.arange(12, dtype=np.float32).reshape(3, 4), "2 dimensions"),
        (np.full((3, 4, 5), 40.0, np.float32), "no contrast"),
    ],
    ids=["NaN", "infinite", "4-D", "2-D", "constant"],
)
def test_a_volume_that_training_cannot_use_is_named(
    mr: Path, ct: Path, tmp_path: Path, domain: str, volume: Array, reason: str
) -> None:
    bad = write_nifti(tmp_path / "bad.nii.gz", volume)
    source, target = ([mr, bad], [ct]) if domain == "source" else ([mr], [ct, bad])

    message = refusal(lambda: fingerprint_of(describe(source, target)))

    assert str(bad) in message
    assert reason in message


def test_a_volume_without_a_voxel_above_the_threshold_is_named(mr: Path, tmp_path: Path) -> None:
    bad = write_nifti(tmp_path / "bad.nii.gz", random_volume(0, center=-1000))

    message = refusal(lambda: fingerprint_of(describe([mr], [bad])))

    assert str(bad) in message
    assert "-300" in message


@pytest.mark.parametrize("written", [None, b"", b"not an image"], ids=["missing", "empty", "text"])
def test_an_unreadable_image_is_named(mr: Path, tmp_path: Path, written: bytes | None) -> None:
    bad = tmp_path / "bad.nii.gz"
    if written is not None:
        bad.write_bytes(written)

    assert str(bad) in refusal(lambda: fingerprint_of(describe([mr], [bad])))


# --- the result ---


def assert_plain(value: Any) -> None:
    """Fails unless `value` is made of the types that JSON reads back as they are; NumPy's floats are not."""
    plain = type(value) in (dict, list, int, float, bool, type(None)) or isinstance(value, str)
    assert plain, f"{value!r} is a {type(value)}"
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(part)


def test_a_computed_fingerprint_is_plain_json_and_is_read_back_unchanged(mr: Path, ct: Path, tmp_path: Path) -> None:
    choices: list[tuple[str, dict[str, Any]]] = [("axial", {}), ("coronal", {"pixel_spacing": 1, "slice_spacing": 2.5})]
    for plane, options in choices:
        fingerprint = fingerprint_of(describe([mr], [ct], plane=plane), **options)
        path = tmp_path / "model" / "fingerprint.json"

        write_fingerprint(fingerprint, path)

        assert_plain(fingerprint.to_json())
        assert read_fingerprint(path) == fingerprint
        assert [file.name for file in path.parent.iterdir()] == ["fingerprint.json"]


# --- labels ---


def test_the_volumes_of_the_structures_are_measured_in_the_training_labels(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "mr.nii.gz", np.arange(512.0).reshape(8, 8, 8))
    target = write_nifti(tmp_path / "ct.nii.gz", np.arange(512.0).reshape(8, 8, 8) - 200)

    found = fingerprint_of(describe([image], [target])).structures

    assert found == {"left": VolumeRange(0.003, 0.003), "right": VolumeRange(0.002, 0.002)}


@pytest.mark.parametrize("axcodes", ALL_AXCODES)
def test_a_warning_names_the_share_of_the_labels_that_slices_leave_out_however_they_are_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, axcodes: str
) -> None:
    values = np.zeros((40, 12, 3), dtype=np.uint8)  # 40 mm from left to right, 12 from front to back
    values[[0, 19, 20, 39], 6, 1] = 1  # one voxel of two lies within the 32 mm of a slice
    label, affine = stored_as(values, diagonal_affine((1.0, 1.0, 1.0)), axcodes)
    image = write_nifti(tmp_path / "mr.nii.gz", random_volume(0, values.shape))
    dataset = describe([image], [image])
    dataset.source_training[0]["label"] = str(write_nifti(tmp_path / "label.nii.gz", label, affine))

    fingerprint_of(dataset, slice_size=[16, 32], pixel_spacing=1.0)
    assert "leave out 50.0 % of the source's labeled voxels" in caplog.text
    caplog.clear()
    fingerprint_of(dataset, slice_size=[16, 40], pixel_spacing=1.0)
    assert "leave out" not in caplog.text


def test_the_spatial_prior_is_measured_only_on_request(mr: Path, ct: Path, caplog: pytest.LogCaptureFixture) -> None:
    two, one = describe([mr, mr], [ct]), describe([mr], [ct])

    measured = fingerprint_of(two, spatial_prior=True)

    assert list(measured.spatial_prior) == ["1", "2"]
    assert_plain(measured.to_json())
    assert fingerprint_of(two).spatial_prior == {}
    assert "keep all components" not in caplog.text
    assert fingerprint_of(one, spatial_prior=True).spatial_prior == {}
    assert "masks keep all components" in caplog.text


def test_the_source_has_a_curve_to_the_target_only_on_request(mr: Path, ct: Path) -> None:
    tissue = {"source": [-0.9, 1], "target": [-0.9, 0.9]}

    matched = fingerprint_of(describe([mr], [ct]), match_intensity=tissue)

    assert matched.source.intensity["curve"]["from"][0] == -1
    assert_plain(matched.to_json())
    assert Fingerprint.from_json(matched.to_json(), "fingerprint.json") == matched
    for domain in (matched.target, fingerprint_of(describe([mr], [ct])).source):
        assert "curve" not in domain.intensity


# --- what is unusual ---


def test_structures_that_no_label_shows_are_named(mr: Path, ct: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = describe([mr], [ct])
    dataset.labels[3] = "third"

    fingerprint_of(dataset)

    assert "no label of source.training shows third:" in caplog.text


def test_labels_of_nothing_but_background_are_refused(mr: Path, ct: Path, tmp_path: Path) -> None:
    dataset = describe([mr], [ct])
    dataset.source_training[0]["label"] = str(write_nifti(tmp_path / "label.nii.gz", np.zeros((2, 2, 2), np.uint8)))

    assert "only background" in refusal(lambda: fingerprint_of(dataset))


@pytest.mark.parametrize(("pixel_spacing", "words"), [(3.1, "more than twice the 1.5 mm"), (3.0, ""), (1.0, "")])
def test_pixels_far_coarser_than_those_of_the_scans_are_reported(pixel_spacing: float, words: str) -> None:
    warnings = resolution_warnings(pixel_spacing, [[1.5, 1.0, 5.0]] * 3)

    assert len(warnings) == bool(words)
    assert all(words in warning for warning in warnings)


def test_only_the_scans_that_are_cut_across_their_slices_are_named() -> None:
    scans = [f"{letter}.nii" for letter in "abcdef"]
    across, along = [8.0, 1.4, 1.4], [1.4, 1.4, 8.0]

    (warning,) = coarse_plane_warnings(scans, [along, across, across, along, across, across], "coronal")

    assert "4 of 6 scans (8 mm, beside pixels of 1.4 mm): b.nii, c.nii, e.nii and 1 more" in warning
    assert "acquired" in warning
    assert coarse_plane_warnings(scans, [along] * 6, "axial") == []


def test_acquired_slices_that_are_turned_away_from_the_others_are_named() -> None:
    views = [np.array(view) for view in ([0, 0, -1.0], [0, 0.2, -0.98], [0.1, 0, -0.99], [0, 1.0, 0])]

    (warning,) = tilt_warnings(["a", "b", "c", "coronal.nii"], views)

    assert "1 of 4 scans" in warning
    assert "coronal.nii" in warning
    assert tilt_warnings(["a", "b", "c"], views[:3]) == []


@pytest.mark.parametrize(("affine", "words"), [(np.diag([0.0, 1, 1, 1]), "singular"), (np.eye(4), "sheared")])
def test_a_grid_without_right_angles_is_refused_by_name(mr: Path, tmp_path: Path, affine: Array, words: str) -> None:
    if words == "sheared":
        affine = affine + np.eye(4, k=2) * [[0.3], [0], [0], [0]]
    image = nib.Nifti1Image(random_volume(1, center=0.0), None)
    image.header.set_sform(affine, code=1)
    nib.save(image, tmp_path / "ct.nii")

    message = refusal(lambda: fingerprint_of(describe([mr], [tmp_path / "ct.nii"])))

    assert message.startswith(f"{tmp_path / 'ct.nii'}: ")
    assert words in message


def test_the_check_of_units_can_be_switched_off(mr: Path, tmp_path: Path) -> None:
    ct = write_nifti(tmp_path / "ct.nii.gz", random_volume(1, center=1000.0))
    assert "CT plus about 1000" in refusal(lambda: fingerprint_of(describe([mr], [ct])))
    assert fingerprint_of(describe([mr], [ct]), check_units=False).target.intensity["lower"] > 900


def test_colors_and_codes_of_the_data_set_are_in_the_fingerprint(mr: Path, ct: Path) -> None:
    dataset = describe([mr], [ct])
    assert fingerprint_of(dataset).terminology == {}
    dataset.terminology = {"left": {"color": "#0a141e"}}
    assert fingerprint_of(dataset).terminology == {"left": {"color": "#0a141e"}}


# --- statistics that a plan follows from ---


@pytest.mark.parametrize("axcodes", ALL_AXCODES[::7])
def test_the_body_and_the_labels_are_measured_around_the_middle_of_a_volume(tmp_path: Path, axcodes: str) -> None:
    ct = np.full((20, 16, 12), -1000.0, dtype=np.float32)  # RAS; voxels of 2 x 3 x 4 mm
    ct[4:18, 2:10, :] = np.random.default_rng(0).normal(0, 30, (14, 8, 12))
    ct[4:18, 2:10, :3] += 500  # a quarter of the body is bright
    affine = diagonal_affine((2.0, 3.0, 4.0))
    mr = write_nifti(tmp_path / "mr.nii.gz", *stored_as(random_volume(1, (20, 16, 12)), affine, axcodes))
    target = write_nifti(tmp_path / "ct.nii.gz", *stored_as(ct, affine, axcodes))
    labels = np.zeros((20, 16, 12), dtype=np.uint8)
    labels[8:12, 4:6, 2:5], labels[15, 8, 8] = 1, 2
    dataset = describe([mr], [target])
    write_nifti(Path(dataset.source_training[0]["label"]), *stored_as(labels, affine, axcodes))

    found = fingerprint_of(dataset, check_units=False).statistics

    assert found is not None
    assert found.target.voxels == (16, 20, 12)  # rows lead to the back, columns to the left
    assert found.target.median_body == (2 * 3 * (8 - 2), 2 * 2 * (18 - 10), 12 * 4)
    assert found.target.bright_share == pytest.approx(0.25, abs=0.01)
    assert found.label_extent == (2 * 3 * (8 - 4), 2 * 2 * (16 - 10), 4 * 8)  # to the farther side of the middle
    assert found.structures == {"left": (2 * 3, 4 * 2, 3 * 4), "right": (3, 2, 4)}


def test_without_a_slice_plane_there_is_no_fingerprint(mr: Path, ct: Path) -> None:
    message = refusal(lambda: fingerprint_of(describe([mr], [ct], plane="")))

    assert (
        "'slice_plane' is missing: write one of axial, coronal, sagittal, acquired there, or give --slice_plane"
        in message
    )
