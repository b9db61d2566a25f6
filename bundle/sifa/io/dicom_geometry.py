"""DICOM series: checks that the slices form one volume, stages a folder for the reader, replaces padding."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from sifa.io.dicom_acquisitions import find_volumes
from sifa.io.dicom_headers import in_slice_order, read_headers
from sifa.io.dicom_pixels import check_pixels, have_same_pixels
from sifa.io.dicom_slice import SCENE_TAGS, SliceHeader, slice_normal
from sifa.utils.errors import InputError, find_input_error

AIR, CEILING = -1024, 3071  # HU: the smallest and largest value of a 12-bit CT
PADDING_BELOW = -1500  # HU: no tissue and no noise in air is that low; scanners pad with -2000, -2048 or -3024
PLAUSIBLE_PADDING = -900  # HU: a declared padding between this and the ceiling could be tissue, and is ignored
SLICES = 16  # processed at once
INTERCEPTS = 500.0  # HU by which the RescaleIntercepts of a series may differ without a warning


class CheckedSeries(NamedTuple):
    """A series that may be segmented; axes of `shape` and `spacing` (mm) are columns, rows and slices."""

    files: list[Path]
    warnings: list[str]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    padding: float | None  # PixelPaddingValue in HU
    slices: list[SliceHeader]  # in the order of the volume


def read_series(files: Sequence[Path | str]) -> CheckedSeries:
    """Reads the headers of a series, in any order, and checks its geometry.

    Raises:
        InputError: when a file cannot be read or is cut short, and as `check_geometry` does.
    """
    return check_geometry(read_headers(files))


def check_geometry(headers: Sequence[SliceHeader]) -> CheckedSeries:
    """Checks that the slices of a series form one volume on a regular grid, as readers assume.

    Duplicates of a slice are left out, with a warning. Gaps between slices that differ from their median by more
    than 10 % and 0.1 mm give a warning (a file of several frames: a refusal), by more than 50 % a refusal.

    Args:
        headers: what `read_headers` returned, in any order.

    Returns:
        The files in slice order, warnings, and the shape and spacing of the volume.

    Raises:
        InputError: when slices are missing, at the same position, tilted or shifted, differ in size, orientation or
            pixel spacing, or belong to several volumes; and as `check_pixels` does.
    """
    folder = headers[0].file.parent
    unique = _without_repeats(headers, folder)
    _check_alike(unique, folder)
    _check_one_volume(unique, folder)
    slices = in_slice_order(unique)
    _check_stack(slices, folder)
    warnings = []
    if len(unique) < len(headers):
        repeats = len(headers) - len(unique)
        warnings.append(f"{folder}: {repeats} of {len(headers)} slices repeat others and are left out.")
    heights = np.array([np.dot(slice_normal(slices[0]), header.position) for header in slices])
    gaps = np.diff(heights)
    usual, worst = _check_gaps(gaps, folder)
    if abs(worst - usual) > max(0.1 * usual, 0.1):
        warnings.append(f"{folder}: slices lie unevenly: {worst:.2f} mm apart where {usual:.2f} mm are usual.")
    intercepts = [header.rescale[1] for header in slices]
    least, most = min(intercepts), max(intercepts)
    if most - least > INTERCEPTS:
        warnings.append(f"{folder}: its RescaleIntercepts go from {least:g} to {most:g}: some slices may not be in HU.")
    rows, columns = slices[0].size
    between_rows, between_columns = slices[0].pixel_spacing
    step = math.dist(slices[0].position, slices[-1].position) / len(gaps)
    spacing = (between_columns, between_rows, step)
    files = list(dict.fromkeys(header.file for header in slices))
    padding = slices[0].padding
    return CheckedSeries(files, warnings, (columns, rows, len(slices)), spacing, padding, _in_volume_order(slices))


def _without_repeats(headers: Sequence[SliceHeader], folder: Path) -> list[SliceHeader]:
    """Returns slices without copies of others; refuses different slices that claim to be the same."""
    kept: dict[tuple[str, int], SliceHeader] = {}
    copies: dict[tuple[Path, Path], list[tuple[SliceHeader, SliceHeader]]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: (header.file, header.frame)):
        first = kept.setdefault((header.sop_instance or str(header.file), header.frame), header)
        if first is not header:
            copies[first.file, header.file].append((first, header))
    for pairs in copies.values():
        firsts, others = zip(*pairs, strict=True)
        alike = all(replace(first, file=other.file) == other for first, other in pairs)
        if not alike or not have_same_pixels(firsts, others):
            raise InputError(f"{folder}: different slices carry the same SOP instance UID: export the series again.")
    return list(kept.values())


def _check_alike(slices: Sequence[SliceHeader], folder: Path) -> None:
    for header in slices:
        _check_place(header)
        check_pixels(header)
    first = slices[0]
    for index, keyword in enumerate(("RescaleSlope", "RescaleIntercept")):
        without = [header.file for header in slices if not header.rescale_given[index]]
        if 0 < len(without) < len(slices):
            raise InputError(
                f"{without[0]}: it lacks {keyword}, which other slices of its series have: export the series again."
            )
    for index, keyword in enumerate(SCENE_TAGS):
        # as many values as slices are of a program that replaced UIDs file by file
        if 1 < len({header.scene[index] for header in slices} - {None}) < len(slices):
            raise InputError(f"{folder}: its slices have different values of {keyword}, so they are no scan: split it.")
    row, column = first.orientation[:3], first.orientation[3:]
    if abs(np.dot(row, column)) > 1e-2 or abs(np.dot(row, row) - 1) > 1e-2 or abs(np.dot(column, column) - 1) > 1e-2:
        raise InputError(
            f"{folder}: its orientation is not a pair of right-angled directions: export the series again."
        )
    for words, values, tolerance in (
        ("numbers of rows or columns", [header.size for header in slices], 0.0),
        ("orientations", [header.orientation for header in slices], 1e-3),
        ("pixel spacings", [header.pixel_spacing for header in slices], 1e-3 * min(first.pixel_spacing)),
    ):
        if np.ptp(np.array(values, dtype=float), axis=0).max() > tolerance:
            raise InputError(f"{folder}: its slices have different {words}: split it into series that are uniform.")


def _check_place(header: SliceHeader) -> None:
    """Refuses a slice whose position, orientation or pixel spacing is missing or wrong."""
    places = {
        "PixelSpacing": (header.pixel_spacing, 2),
        "ImageOrientationPatient": (header.orientation, 6),
        "ImagePositionPatient": (header.position, 3),
    }
    for keyword, (numbers, length) in places.items():
        if not numbers:
            fault = f"it lacks {keyword}"
        elif len(numbers) != length or not all(map(math.isfinite, numbers)):
            fault = f"its {keyword} is not {length} numbers"
        elif keyword == "PixelSpacing" and min(numbers) <= 0:
            fault = f"its {keyword} is not positive"
        else:
            continue
        raise InputError(f"{header.file}: {fault}, so its position is unknown: export the original axial series.")


def _check_one_volume(slices: Sequence[SliceHeader], folder: Path) -> None:
    found = find_volumes(slices)
    if found is None:
        return
    if not found.whole:
        raise InputError(
            f"{folder}: slices with different {found.keyword} overlap, but do not form complete volumes: export each "
            "acquisition as a separate series."
        )
    raise InputError(
        f"{folder}: it holds {len(found.slices)} volumes that differ in {found.keyword}: export each as a separate "
        "series to a separate folder."
    )


def _check_stack(slices: Sequence[SliceHeader], folder: Path) -> None:
    """Refuses a single slice, and slices that are tilted or shifted against each other."""
    if len(slices) < 2:
        raise InputError(f"{folder}: it holds a single slice: give it the whole series.")
    normal = slice_normal(slices[0])
    steps = np.array([header.position for header in slices]) - slices[0].position
    heights = steps @ normal
    sideways = steps - np.outer(heights, normal)
    if heights[-1] < 1e-2:
        return  # all at one position, which `_check_gaps` refuses
    tilt = math.degrees(math.atan2(float(np.linalg.norm(sideways[-1])), heights[-1]))
    if tilt > 0.5:
        raise InputError(
            f"{folder}: its slices are tilted by {tilt:.1f} degrees against the direction of their stack (gantry "
            "tilt), which the reader would ignore: resample the series to a straight grid first."
        )
    shift = np.linalg.norm(sideways - np.outer(heights / heights[-1], sideways[-1]), axis=1).max()
    if shift > max(slices[0].pixel_spacing):
        raise InputError(
            f"{folder}: its slices are shifted sideways by up to {shift:.1f} mm: split it into series that are uniform."
        )


def _check_gaps(gaps: npt.NDArray[np.float64], folder: Path) -> tuple[float, float]:
    """Returns the median gap and the gap that differs most from it; refuses missing and doubled slices."""
    if gaps.min() < 1e-2:
        raise InputError(
            f"{folder}: several slices lie at the same place (phases or reconstructions in one series): export one "
            "phase as a series of its own."
        )
    usual = float(np.median(gaps))
    worst = float(gaps[np.argmax(np.abs(gaps - usual))])
    if gaps.max() > 1.5 * usual:
        raise InputError(
            f"{folder}: slices are missing: there is a gap of {gaps.max():.2f} mm where {usual:.2f} mm are usual: copy "
            "the whole series."
        )
    if gaps.min() < 0.5 * usual:
        raise InputError(
            f"{folder}: slices lie {gaps.min():.2f} mm apart where {usual:.2f} mm are usual: split it into series that "
            "are uniform."
        )
    return usual, worst


def _in_volume_order(slices: list[SliceHeader]) -> list[SliceHeader]:
    """Returns sorted slices as they are, or reversed where they are the frames of one file in that order."""
    frames = [header.frame for header in slices]
    one_file = len({header.file for header in slices}) == 1
    return slices[::-1] if one_file and frames == sorted(frames, reverse=True) else slices


def check_loaded(folder: Path | str, checked: CheckedSeries, shape: Sequence[int], affine: Any) -> None:
    """Checks that the reader read the whole series: some silently leave out a file that is cut short.

    Args:
        folder: the series' folder, for the message.
        checked: what `check_geometry` returned.
        shape: of the loaded volume, without channels.
        affine: of the loaded volume, 4 x 4.

    Raises:
        InputError: when the volume does not have the shape and the spacing of the headers.
    """
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    if tuple(shape) != checked.shape or not np.allclose(spacing, checked.spacing, rtol=1e-2):
        raise InputError(
            f"{folder}: it reads as {_grid(shape, spacing)} where its headers announce "
            f"{_grid(checked.shape, checked.spacing)}: a file is damaged or cut short; copy the series again."
        )


def _grid(shape: Sequence[int], spacing: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{size:.2f}' for size in spacing)} mm"


@contextmanager
def staged_series(files: Sequence[Path | str]) -> Iterator[Path]:
    """Yields a temporary folder that holds exactly this series, for readers that take a folder.

    It holds links `000000.dcm`, `000001.dcm`, ... in the given order, or copies where the system has no links. An
    `InputError` about one of them is raised with the name of the original file.

    Args:
        files: the slices' files, as `check_geometry` returned them.
    """
    with tempfile.TemporaryDirectory(prefix="sifa-series-") as name:
        staged = {Path(name) / f"{index:06d}.dcm": Path(file).absolute() for index, file in enumerate(files)}
        for target, file in staged.items():
            _link(file, target)
        try:
            yield Path(name)
        except Exception as error:
            found = find_input_error(error)
            named = [target for target in staged if str(target) in str(found)]
            if not named:
                raise
            raise InputError(str(found).replace(str(named[0]), str(staged[named[0]]))) from error


def _link(file: Path, target: Path) -> None:
    """Links `target` to `file`; where the system has no links, copies it."""
    for link in (os.symlink, os.link):
        with suppress(OSError):
            link(file, target)
            return
    shutil.copyfile(file, target)


Volume = TypeVar("Volume", npt.NDArray[Any], torch.Tensor)


def replace_padding_with_air(image: Volume, padding: float | None = None) -> Volume:
    """Sets voxels outside the scanner's field of view to air, -1024 HU, in place.

    Scanners fill the corners of a slice with values far below air (-2000, -2048, -3024), which would spoil the skin
    beside them when the slice is resampled. Values of -1500 HU and less are replaced, and values equal to the header's
    PixelPaddingValue, unless that is between -900 and 3071 HU and so could be tissue. A ceiling of 3071 HU
    (metal) is kept.

    Args:
        image: HU, of any shape.
        padding: PixelPaddingValue in HU (`CheckedSeries.padding`), or None.

    Returns:
        `image` itself.
    """
    if padding is not None and PLAUSIBLE_PADDING < padding <= CEILING:
        padding = None
    voxels = image.numpy() if isinstance(image, torch.Tensor) else image
    steps = np.abs(voxels.strides) * (np.array(voxels.shape) > 1)
    slabs = np.moveaxis(voxels, int(np.argmax(steps)), 0)  # parts along this axis are contiguous in memory
    for start in range(0, len(slabs), SLICES):  # comparisons of the whole would take as much memory as the scan
        part = slabs[start : start + SLICES]
        part[part <= PADDING_BELOW] = AIR
        if padding is not None:
            part[(part > padding - 0.5) & (part < padding + 0.5)] = AIR
    return image
