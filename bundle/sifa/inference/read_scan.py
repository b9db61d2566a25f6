"""Reads one scan for inference: a file, or a DICOM series whose geometry is checked before and after."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.input_checks import check_file
from sifa.io.dicom_geometry import check_loaded, read_series, replace_padding_with_air, staged_series
from sifa.utils.errors import InputError, find_input_error, innermost
from sifa.utils.memory import require_memory, scan_memory

Preprocessing = Callable[[Mapping[str, Any]], dict[str, Any]]


class Scan(NamedTuple):
    """A scan as it was read."""

    data: dict[str, Any]  # what the preprocessing returned
    files: list[str]  # of a DICOM series, in slice order
    warnings: list[str]  # about its file or its geometry


def read_scan(item: Mapping[str, Any], preprocessing: Preprocessing, fingerprint: Fingerprint) -> Scan:
    """Reads a scan.

    Args:
        item: of `find_scans`.
        preprocessing: maps `{"image": scan}` to `image` (C, X, Y, Z) with an affine, in the scan's own grid.
        fingerprint: what the network was trained on.

    Raises:
        InputError: when it cannot be read, or its headers show that it is no volume that can be segmented.
    """
    if not item.get("files"):
        scan = Path(item["image"])
        warnings = [] if scan.is_dir() else check_file(scan, fingerprint)
        return Scan(_load(item["image"], preprocessing), [], warnings)
    series = read_series(item["files"])
    require_memory(item["image"], scan_memory(series.shape, 2))
    with staged_series(series.files) as folder:
        data = _load(str(folder), preprocessing)
    check_loaded(item["image"], series, data["image"].shape[1:], data["image"].affine)
    replace_padding_with_air(data["image"], series.padding)
    doubts = [*series.warnings, *item.get("warnings", [])]
    warnings = [doubt.removeprefix(f"{item['image']}: ").rstrip(".") for doubt in doubts]
    return Scan(data, [str(file) for file in series.files], warnings)


def _load(image: str, preprocessing: Preprocessing) -> dict[str, Any]:
    try:
        return preprocessing({"image": image})
    except Exception as error:
        cause = innermost(error)
        damaged = isinstance(cause, (OSError, EOFError, ValueError, zlib.error)) or "Unable to decode" in str(cause)
        if find_input_error(error) is not None or not damaged:
            raise
        kind = type(cause).__name__
        raise InputError(f"its voxels cannot be read ({kind}): it is damaged or cut short; copy it again.") from error
