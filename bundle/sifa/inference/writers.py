"""Writers of optional files beside each mask: a preview, a DICOM SEG, an uncertainty map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sifa
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.find_scans import MASK_SUFFIX, UNCERTAINTY_SUFFIX
from sifa.inference.results import UNCERTAINTY_SCALE, SegmentedScan
from sifa.io.dicom_seg import require_highdicom, write_dicom_seg
from sifa.io.nifti_writer import write_mask
from sifa.reports.previews import write_preview


class PreviewWriter:
    """Draws each scan with its mask: `<mask without _seg.nii.gz>_preview.png` beside the mask.

    Args:
        output_dir: folder of the masks.
        fingerprint: with the structures' names and the window of the target's intensities.
    """

    def __init__(self, output_dir: str | Path, fingerprint: Fingerprint) -> None:
        self.output_dir = Path(output_dir)
        self.fingerprint = fingerprint

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the preview and returns `{"preview": path below output_dir}`."""
        path = _beside(scan, "_preview.png")
        write_preview(
            path,
            scan.volume,
            scan.labels,
            scan.affine,
            self.fingerprint.structure_names,
            {name: entry["volume_ml"] for name, entry in scan.quality.items()},
            {name: entry["flags"] for name, entry in scan.quality.items() if entry["flags"]},
            scan.window,
        )
        return {"preview": os.path.relpath(path, self.output_dir)}


class DicomSegWriter:
    """Writes a DICOM SEG beside the mask of each DICOM series: `<mask without .nii.gz>.dcm`.

    Args:
        output_dir: folder of the masks.
        fingerprint: with the labels and the name of the model.

    Raises:
        InputError: when highdicom is not installed.
    """

    def __init__(self, output_dir: str | Path, fingerprint: Fingerprint) -> None:
        require_highdicom()
        self.output_dir = Path(output_dir)
        self.fingerprint = fingerprint

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the object and returns `{"dicom_seg": path below output_dir}`; nothing for a NIfTI scan."""
        if not scan.files:
            return {}
        path = _beside(scan, "_seg.dcm")
        model = f"SIFA, {self.fingerprint.name}"
        write_dicom_seg(
            scan.labels, scan.affine, scan.files, self.fingerprint.structure_names, path, model, sifa.__version__
        )
        return {"dicom_seg": os.path.relpath(path, self.output_dir)}


class UncertaintyWriter:
    """Writes an uncertainty map beside each mask: `<mask without _seg.nii.gz>_uncertainty.nii.gz`.

    The map is in the scan's own grid. It holds the entropy of the class probabilities as a share of the greatest
    possible, from 0 (certain) to 1 (all classes equally likely), in steps of 1/200.

    Args:
        output_dir: folder of the masks.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the map and returns `{"uncertainty": path below output_dir}`."""
        assert scan.uncertainty is not None  # the inferer has `uncertainty: true`
        path = _beside(scan, UNCERTAINTY_SUFFIX)
        write_mask(scan.uncertainty, scan.image, scan.affine, path, slope=1 / UNCERTAINTY_SCALE)
        return {"uncertainty": os.path.relpath(path, self.output_dir)}


def _beside(scan: SegmentedScan, ending: str) -> Path:
    return scan.mask.with_name(scan.mask.name.removesuffix(MASK_SUFFIX) + ending)
