"""Series of several acquisitions, phases or kernels: read one by one or refused; sequential scans stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders import Array, refusal, write_dicom_series, write_enhanced_ct
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from sifa.inference.find_scans import find_scans
from sifa.io.dicom_acquisitions import find_volumes
from sifa.io.dicom_geometry import read_series, staged_series
from sifa.io.dicom_reader import SeriesReader
from sifa.io.dicom_slice import TRAITS, SliceHeader

Slice = tuple[float, int, dict[str, Any]]  # height in mm, HU of all its pixels, elements


def write(folder: Path, slices: Sequence[Slice], name: str = "s", series: str = "1.2.3") -> Path:
    """Writes slices of one series, in the given order of names."""
    volume = np.broadcast_to(np.array([value for _, value, _ in slices]), (5, 4, len(slices))).astype(np.int16)
    temporary = write_dicom_series(folder.with_name("temporary"), volume)
    folder.mkdir(parents=True, exist_ok=True)
    for index, (file, (height, _, elements)) in enumerate(zip(sorted(temporary.iterdir()), slices, strict=True)):
        dicom = pydicom.dcmread(file)
        dicom.SeriesInstanceUID, dicom.ImagePositionPatient = series, [0, 0, height]
        for keyword, value in elements.items():
            setattr(dicom, keyword, str(value) if keyword.endswith("Time") and keyword != "TriggerTime" else value)
        dicom.save_as(folder / f"{name}{index:03d}.dcm")
        file.unlink()
    temporary.rmdir()
    return folder


def noise(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-1000, 1000, (9, 7, 6)).astype(np.int16)


def run(heights: Sequence[float] | Array, value: int, **elements: Any) -> list[Slice]:
    return [(height, value, elements) for height in heights]


def read(folder: Path) -> Array:
    reader = SeriesReader()
    voxels, _ = reader.get_data(reader.read(folder))
    return voxels


def read_items(folder: Path) -> list[Array]:
    """Returns the volumes that inference makes of a folder, by their smallest value."""
    volumes = []
    for item in find_scans(folder, folder.parent / "masks"):
        assert "skipped" not in item
        checked = read_series(item["files"])
        with staged_series(checked.files) as staged:
            volumes.append(read(staged))
        assert volumes[-1].shape == checked.shape
    return sorted(volumes, key=np.min)


def refused(folder: Path) -> str:
    """Returns the sentence with which both inference and the reader refuse a folder whole."""
    (item,) = find_scans(folder, folder.parent / "masks")
    message = refusal(lambda: read_series(item["files"]))
    assert refusal(lambda: read(folder)) == message
    return message


OFFSETS = {"between": 1.0, "a third": 0.7, "same place": 0.0}
DIFFERENCES = {
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("100000.25", "100000.75"),
    "TemporalPositionIdentifier": (1, 2),
    "NominalPercentageOfCardiacPhase": (40, 75),
    "TriggerTime": (300, 600),
    "ConvolutionKernel": ("B30f", ["I70f", "3"]),
    "ContentTime": ("100000", "100030"),
    "SliceThickness": (2, 5),
    "KVP": (80, 140),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize("keyword", DIFFERENCES)
def test_two_overlapping_volumes_are_two_scans(keyword: str, offset: float, tmp_path: Path) -> None:
    if keyword == "ContentTime" and offset == 1:
        pytest.skip("parallel reconstruction of one volume looks the same")
    first, second = DIFFERENCES[keyword]
    places = np.arange(0, 12, 2.0)
    write(tmp_path / "ct", run(places, 100, **{keyword: first}), "a")
    write(tmp_path / "ct", run(places[:-1] + offset, 200, **{keyword: second}), "b")

    items = find_scans(tmp_path / "ct", tmp_path / "masks")
    one, other = read_items(tmp_path / "ct")

    assert (one == 100).all()
    assert (other == 200).all()
    assert (one.shape, other.shape) == ((5, 4, 6), (5, 4, 5))
    assert len({item["mask"] for item in items}) == 2
    for item in items:
        assert item["image"] == str(tmp_path / "ct")
        first_file = Path(item["files"][0]).name
        assert item["warnings"] == [
            f"its series holds 2 volumes that differ in {keyword}; this is the one with {first_file}"
        ]
    message = refusal(lambda: read(tmp_path / "ct"))
    assert message.startswith(f"{tmp_path / 'ct'}: it holds 2 volumes that differ in {keyword}: export each")


UP = np.arange(0, 12, 2.0)
SEQUENTIAL: dict[str, Sequence[Slice]] = {
    "a number for each slice": [(z, 0, {"AcquisitionNumber": i + 1}) for i, z in enumerate(UP)],
    "a number for each slice, downwards": [(z, 0, {"AcquisitionNumber": 9 - i}) for i, z in enumerate(UP)],
    "a time for each slice": [(z, 0, {"AcquisitionTime": f"10000{i}.5"}) for i, z in enumerate(UP)],
    "times in seconds": [(z, 0, {"AcquisitionTime": f"10000{i // 2}"}) for i, z in enumerate(UP)],
    "table positions": [(z, 0, {"AcquisitionNumber": i // 3, "KVP": 120}) for i, z in enumerate(UP)],
    "from the middle up, then down": run(UP[3:], 0, AcquisitionNumber=1) + run(UP[:3], 0, AcquisitionNumber=2),
    "one by one, both ways": [
        (z, 0, {"AcquisitionTime": time}) for z, time in zip(UP, (13, 12, 10, 11, 14, 15), strict=True)
    ],
    "times of reconstruction in disorder": [
        (z, 0, {"ContentTime": time}) for z, time in zip(UP, (3, 1, 1, 2, 3, 2), strict=True)
    ],
    "times of reconstruction in turns": [(z, 0, {"ContentTime": i % 2}) for i, z in enumerate(UP)],
    "measured phases": [
        (z, 0, {"TriggerTime": time}) for z, time in zip(UP, (402.5, 401, 402.5, 403, 401, 400), strict=True)
    ],
    "thickness at the ends": run(UP[:1], 0, SliceThickness=1) + run(UP[1:], 0, SliceThickness=2),
    "no numbers in part": run(UP[:3], 0) + run(UP[3:], 0, AcquisitionNumber=1),
    "empty and unreadable numbers": run(UP[:3], 0, AcquisitionNumber=None, KVP="") + run(UP[3:], 0),
}


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_scan_in_stacked_parts_stays_whole(name: str, tmp_path: Path) -> None:
    write(tmp_path / "ct", SEQUENTIAL[name])

    (item,) = find_scans(tmp_path / "ct", tmp_path / "masks")

    assert "warnings" not in item
    assert read_series(item["files"]).warnings == []
    assert read(tmp_path / "ct").shape == (5, 4, 6)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime"])
def test_passes_with_a_value_for_each_slice_or_table_position_are_separated(keyword: str, tmp_path: Path) -> None:
    places = np.arange(0, 12, 1.0)
    write(tmp_path / "slices", [(z, 100 * int(z % 2), {keyword: 100 * int(z % 2) + int(z)}) for z in places])
    write(tmp_path / "slabs", [(z, 0, {keyword: 10 + z // 4}) for z in places], "a")
    write(tmp_path / "slabs", [(z, 100, {keyword: 20 + z // 4}) for z in places + 0.35], "b")

    for name in ("slices", "slabs"):
        one, other = read_items(tmp_path / name)
        assert (one == 0).all()
        assert (other == 100).all()


def test_phases_of_each_kernel_are_separated(tmp_path: Path) -> None:
    for value, (kernel, phase) in enumerate((kernel, phase) for kernel in ("B30f", "B70f") for phase in (1, 2)):
        elements = {"ConvolutionKernel": kernel, "TemporalPositionIdentifier": phase}
        write(tmp_path / "ct", run(UP, value, **elements), f"{value}_")

    assert [np.unique(volume).tolist() for volume in read_items(tmp_path / "ct")] == [[0], [1], [2], [3]]


def test_different_kernels_are_different_volumes_even_if_stacked(tmp_path: Path) -> None:
    write(tmp_path / "ct", run(UP, 0, ConvolutionKernel="B30f") + run(UP + 12, 1, ConvolutionKernel="B70f"))

    assert [volume.shape[2] for volume in read_items(tmp_path / "ct")] == [6, 6]


UNCLEAR: dict[str, Sequence[Slice]] = {
    "a slice is missing": run(np.delete(UP, 2), 0, AcquisitionNumber=1) + run(UP + 1, 1, AcquisitionNumber=2),
    "one slice was repeated": run(UP, 0, AcquisitionNumber=1) + run(UP[2:3] + 1, 1, AcquisitionNumber=2),
    "one slice was replaced": run(np.delete(UP, 2), 0, AcquisitionNumber=1) + run(UP[2:3], 1, AcquisitionNumber=2),
    "both phases of each table position": [
        (z + 6 * table + 0.7 * phase, phase, {"AcquisitionNumber": 2 * table + phase})
        for table in range(3)
        for phase in range(2)
        for z in UP[:3]
    ],
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_overlapping_volumes_that_are_not_complete_are_refused_by_the_element(name: str, tmp_path: Path) -> None:
    write(tmp_path / "ct", UNCLEAR[name])

    assert refused(tmp_path / "ct").startswith(f"{tmp_path / 'ct'}: slices with different AcquisitionNumber overlap")


def test_a_damaged_slice_fails_the_series_and_not_one_of_its_volumes(tmp_path: Path) -> None:
    write(tmp_path / "ct", run(UP, 0, AcquisitionNumber=1), "a")
    write(tmp_path / "ct", run(UP, 1, AcquisitionNumber=2), "b")
    file = tmp_path / "ct" / "b003.dcm"
    file.write_bytes(file.read_bytes()[:-4])

    (item,) = find_scans(tmp_path / "ct", tmp_path / "masks")

    assert refusal(lambda: read_series(item["files"])).startswith(f"{file}: its voxels cannot be read")


def test_copies_of_slices_do_not_prevent_the_separation_of_volumes(tmp_path: Path) -> None:
    write(tmp_path / "ct", run(UP, 0, AcquisitionNumber=1), "a")
    write(tmp_path / "ct", run(UP, 1, AcquisitionNumber=2), "b")
    (tmp_path / "ct" / "c.dcm").write_bytes((tmp_path / "ct" / "a002.dcm").read_bytes())

    assert [np.unique(volume).tolist() for volume in read_items(tmp_path / "ct")] == [[0], [1]]


def test_masks_of_volumes_keep_their_names_when_another_volume_or_series_is_added(tmp_path: Path) -> None:
    def masks() -> dict[str, str]:
        return {Path(item["files"][0]).name: item["mask"] for item in find_scans(tmp_path / "ct", tmp_path / "masks")}

    write(tmp_path / "ct", run(UP, 0, AcquisitionNumber=2), "a")
    write(tmp_path / "ct", run(UP, 1, AcquisitionNumber=3), "b")
    before = masks()
    write(tmp_path / "ct", run(UP, 2, AcquisitionNumber=1), "0")
    write(tmp_path / "ct", run(UP, 3), "z", series="1.2.4")

    assert set(before) == {"a000.dcm", "b000.dcm"}
    assert len(set(masks().values())) == 4
    assert masks().items() >= before.items()


# --- Multi-frame files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [("TemporalPositionIndex", 1, 2), ("StackID", "1", "2"), ("FrameAcquisitionNumber", 1, 2)],
)
def test_a_multi_frame_file_of_two_volumes_is_refused(keyword: str, one: Any, other: Any, tmp_path: Path) -> None:
    heights = [0.0, 2.5, 5.0, 0.5, 3.0, 5.5]
    write_enhanced_ct(
        tmp_path / "ct" / "a.dcm", noise(), heights=heights, content=[{keyword: one}] * 3 + [{keyword: other}] * 3
    )

    assert "2 volumes that differ in" in refused(tmp_path / "ct")


def test_multi_frame_files_of_one_phase_each_are_scans_of_their_own(tmp_path: Path) -> None:
    for index, phase in enumerate("ab"):
        content = [{"TemporalPositionIndex": index + 1}] * 6
        write_enhanced_ct(tmp_path / "ct" / f"{phase}.dcm", noise(seed=index), content=content)

    volumes = read_items(tmp_path / "ct")

    assert len(volumes) == 2
    assert all(any(np.array_equal(volume, noise(seed=index)) for volume in volumes) for index in range(2))


def test_two_stacks_without_overlap_are_one_volume(tmp_path: Path) -> None:
    write_enhanced_ct(tmp_path / "ct" / "a.dcm", noise(), content=[{"StackID": "1"}] * 3 + [{"StackID": "2"}] * 3)

    assert np.array_equal(read(tmp_path / "ct"), noise())


# --- Whatever the acquisitions ----------------------------------------------------------------------------------------


def header(height: float, number: int) -> SliceHeader:
    traits = tuple(float(number) if keyword == "AcquisitionNumber" else None for keyword in TRAITS)
    return SliceHeader(
        Path("a"),
        sop_instance=str(generate_uid()),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        position=(0.0, 0.0, height),
        traits=traits,
    )


ACQUISITION = st.tuples(st.floats(0, 40), st.floats(0.3, 5), st.integers(2, 8))  # first height, step, slices


@given(acquisitions=st.lists(ACQUISITION, min_size=2, max_size=4), rotation=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_overlapping_acquisitions_are_never_one_volume(
    acquisitions: list[tuple[float, float, int]], rotation: int
) -> None:
    slices = [
        header(start + step * index, number)
        for number, (start, step, count) in enumerate(acquisitions)
        for index in range(count)
    ]
    ranges = sorted((start, start + step * (count - 1)) for start, step, count in acquisitions)
    apart = all(one[1] + 0.02 < other[0] for one, other in pairwise(ranges))

    found = find_volumes(slices[rotation:] + slices[:rotation])

    assert (found is None) == apart
    if found and found.whole:
        parts = [{one.traits for one in part} for part in found.slices.values()]
        by_number = len(parts) == len(acquisitions) and all(len(part) == 1 for part in parts)
        passes = len(parts) < len(acquisitions)
        assert by_number or passes
        for part in found.slices.values():
            gaps = np.diff(sorted(one.position[2] for one in part))
            assert np.abs(gaps - np.median(gaps)).max() <= max(0.1 * np.median(gaps), 0.1)
