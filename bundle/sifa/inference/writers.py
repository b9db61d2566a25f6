"""Writers of optional files beside each mask: a preview, DICOM objects, maps of uncertainty and probabilities."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import sifa
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.inference.output_names import PROBABILITIES_SUFFIX, UNCERTAINTY_SUFFIX, beside
from sifa.inference.results import PROBABILITY_SCALE, UNCERTAINTY_SCALE, SegmentedScan, prediction_clause
from sifa.io.dicom_seg import require_highdicom, write_dicom_seg
from sifa.io.nifti_writer import write_mask
from sifa.io.rtstruct import write_rtstruct
from sifa.io.terminology import structure_terms
from sifa.reports.colors import colors_of
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
        path = beside(scan.mask, "_preview.png")
        predicted = {
            name: prediction_clause(entry) for name, entry in scan.quality.items() if "predicted_dice" in entry
        }
        write_preview(
            path,
            scan.volume,
            scan.labels,
            scan.affine,
            self.fingerprint.structure_names,
            {name: entry["volume_ml"] for name, entry in scan.quality.items()},
            {name: entry["flags"] for name, entry in scan.quality.items() if entry["flags"]},
            scan.window,
            colors_of(self.fingerprint.structure_names, self.fingerprint.colors),
            {name: clause for name, clause in predicted.items() if clause not in scan.quality[name]["flags"]},
        )
        return {"preview": os.path.relpath(path, self.output_dir)}


class DicomSegWriter:
    """Writes a DICOM SEG beside the mask of each DICOM series: `<mask without .nii.gz>.dcm`.

    Args:
        output_dir: folder of the masks.
        fingerprint: with the labels, their terminology and the name of the model.

    Raises:
        InputError: when highdicom is not installed.
    """

    def __init__(self, output_dir: str | Path, fingerprint: Fingerprint) -> None:
        require_highdicom()
        self.output_dir = Path(output_dir)
        self.fingerprint = fingerprint
        self.terms = structure_terms(fingerprint.structure_names, fingerprint.terminology)

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the object and returns `{"dicom_seg": path below output_dir}`; nothing for a NIfTI scan."""
        if not scan.files:
            return {}
        path = beside(scan.mask, "_seg.dcm")
        write_dicom_seg(
            scan.labels,
            scan.affine,
            scan.files,
            self.fingerprint.structure_names,
            path,
            f"SIFA, {self.fingerprint.name}",
            sifa.__version__,
            self.terms,
            self.fingerprint.label_values,
        )
        return {"dicom_seg": os.path.relpath(path, self.output_dir)}


class RtStructWriter:
    """Writes an RTSTRUCT beside the mask of each DICOM series: `<mask without _seg.nii.gz>_rtstruct.dcm`.

    Args:
        output_dir: folder of the masks.
        fingerprint: with the labels, their terminology and the name of the model.
    """

    def __init__(self, output_dir: str | Path, fingerprint: Fingerprint) -> None:
        self.output_dir = Path(output_dir)
        self.fingerprint = fingerprint
        self.terms = structure_terms(fingerprint.structure_names, fingerprint.terminology)
        self.colors = colors_of(fingerprint.structure_names, fingerprint.colors)

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the object and returns `{"rtstruct": path below output_dir}`; nothing for a NIfTI scan."""
        if not scan.files:
            return {}
        path = beside(scan.mask, "_rtstruct.dcm")
        model, names = f"SIFA, {self.fingerprint.name}", self.fingerprint.structure_names
        write_rtstruct(
            scan.labels, scan.affine, scan.files, names, path, model, sifa.__version__, self.terms, self.colors
        )
        return {"rtstruct": os.path.relpath(path, self.output_dir)}


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
        path = beside(scan.mask, UNCERTAINTY_SUFFIX)
        write_mask(scan.uncertainty, scan.image, scan.affine, path, slope=1 / UNCERTAINTY_SCALE)
        return {"uncertainty": os.path.relpath(path, self.output_dir)}


class ProbabilityWriter:
    """Writes the class probabilities beside each mask: `<mask without _seg.nii.gz>_probabilities.nii.gz`.

    The file is 4-D, in the scan's own grid, with one volume for each class, the background first: probabilities from 0
    to 1 in steps of 1/200.

    Args:
        output_dir: folder of the masks.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, scan: SegmentedScan) -> dict[str, Any]:
        """Writes the file and returns `{"probabilities": path below output_dir}`."""
        assert scan.probabilities is not None  # the config gives `probabilities: true` to SegmentScan as well
        path = beside(scan.mask, PROBABILITIES_SUFFIX)
        volumes = np.moveaxis(scan.probabilities, 0, -1)
        write_mask(volumes, scan.image, scan.affine, path, slope=1 / PROBABILITY_SCALE)
        return {"probabilities": os.path.relpath(path, self.output_dir)}
