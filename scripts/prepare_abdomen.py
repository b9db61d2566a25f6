"""Converts the CHAOS and BTCV downloads into a data set folder for MR to CT adaptation of the abdomen.

Example: python scripts/prepare_abdomen.py --chaos CHAOS_Train_Sets --btcv RawData --output_dir DATA/abdomen
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
from command_line import run_command_line
from dataset_folder import (
    CT_IMAGES,
    CT_TEST_LABELS,
    CT_TRAINING_LABELS,
    MR_IMAGES,
    MR_LABELS,
    LabeledVolume,
    open_output_dir,
    pair_volumes,
    remap_labels,
    require_folder,
    split_subjects,
    write_descriptions,
    write_nifti,
    write_volume,
)
from PIL import Image
from pydicom.errors import InvalidDicomError
from sifa.utils.errors import InputError
from tqdm import tqdm

LABELS = ("background", "liver", "right kidney", "left kidney", "spleen")
HELD_OUT_FRACTION = 0.2
CLASS_OF_CHAOS_GRAY = {
    0: 0,
    **dict.fromkeys(range(55, 71), 1),  # liver, 63
    **dict.fromkeys(range(110, 136), 2),  # right kidney, 126
    **dict.fromkeys(range(175, 201), 3),  # left kidney, 189
    **dict.fromkeys(range(240, 256), 4),  # spleen, 252
}
CLASS_OF_BTCV_VALUE = {**dict.fromkeys(range(14), 0), 6: 1, 2: 2, 3: 3, 1: 4}  # 4, 5, 7 to 13: other organs
SLICE_TOLERANCE = 0.1  # slice distances: how far a slice may lie from an evenly spaced stack

CHAOS_EXPECTED = "the CHAOS folder above Train_Sets, Train_Sets itself or Train_Sets/MR"
BTCV_EXPECTED = "the BTCV folder that holds Training/img/img0001.nii.gz and Training/label/label0001.nii.gz"


@dataclass(frozen=True)
class Stack:
    """The slices of one CHAOS subject, sorted along the slice normal.

    Attributes:
        dicoms: one DICOM file a slice.
        grounds: the ground truth PNG of each of these slices.
        affine: 4 x 4, from (column, row, slice) indices to millimeters in RAS.
    """

    dicoms: list[Path]
    grounds: list[Path]
    affine: npt.NDArray[np.float64]


def prepare_abdomen(chaos: str, btcv: str, output_dir: str, seed: int = 0, overwrite: bool = False) -> None:
    """Writes images, labels, dataset.json and supervised.json from CHAOS MR T2-SPIR (source) and BTCV CT (target).

    MR is split 80/20 into training and validation, CT 80/20 into training (images only) and test. CT images are
    hard-linked where possible, so changing one in place changes the download as well.

    Args:
        chaos: the CHAOS folder above Train_Sets, Train_Sets itself or Train_Sets/MR.
        btcv: the BTCV folder with Training/img and Training/label below it, at any depth.
        output_dir: folder to write, new or empty.
        seed: seed of the random split by subject.
        overwrite: replace files of the same name in output_dir.

    Raises:
        InputError: if a folder, a file or an option is not as expected.
    """
    ct_volumes = find_btcv_volumes(Path(str(btcv)))
    mr_stacks = find_chaos_stacks(Path(str(chaos)))
    mr_split = split_subjects(list(mr_stacks), HELD_OUT_FRACTION, seed)
    ct_split = split_subjects(list(ct_volumes), HELD_OUT_FRACTION, seed)
    root = Path(str(output_dir))
    open_output_dir(root, overwrite)

    for subject, stack in tqdm(mr_stacks.items(), desc="MR", unit="volume"):
        write_nifti(nifti_in_mm(load_image(stack), stack.affine), root / MR_IMAGES / f"{subject}.nii.gz")
        write_nifti(nifti_in_mm(load_label(stack), stack.affine), root / MR_LABELS / f"{subject}.nii.gz")
    for subject, volume in tqdm(ct_volumes.items(), desc="CT", unit="volume"):
        label_folder = root / (CT_TEST_LABELS if subject in ct_split[1] else CT_TRAINING_LABELS)
        name = f"{subject}.nii.gz"
        write_volume(volume, root / CT_IMAGES / name, label_folder / name, CLASS_OF_BTCV_VALUE)
    write_descriptions(root, "Abdomen, MR (CHAOS T2-SPIR) to CT (BTCV)", "axial", LABELS, mr_split, ct_split)
    print(f"Wrote {root / 'dataset.json'}: {len(mr_stacks)} MR and {len(ct_volumes)} CT volumes.")


def find_btcv_volumes(folder: Path) -> dict[str, LabeledVolume]:
    """Finds the labeled BTCV volumes and checks from their headers that labels and images belong together.

    Args:
        folder: a folder with sibling folders `img` and `label` somewhere below it, which hold the files directly.

    Returns:
        The volumes by subject, such as `ct_0001`, in the order of the subjects.

    Raises:
        InputError: if the folder is missing, holds no such pair of folders or several, if an image has no label or a
            label no image, or if a label is not on the grid of its image.
    """
    require_folder(folder, "--btcv", BTCV_EXPECTED)
    parents = [path.parent for path in sorted(folder.rglob("img")) if any(path.glob("img*.nii.gz"))]
    parents = [parent for parent in parents if any((parent / "label").glob("label*.nii.gz"))]
    if not parents:
        raise InputError(
            f"{folder} holds no folder img with img*.nii.gz beside a folder label with label*.nii.gz: "
            f"point --btcv at {BTCV_EXPECTED}."
        )
    if len(parents) > 1:
        raise InputError(
            f"{folder} holds several pairs of folders img and label, in {', '.join(map(str, parents))}: "
            "point --btcv at one of these."
        )
    return pair_volumes(
        {path.name.removesuffix(".nii.gz").replace("img", "ct_"): path for path in parents[0].glob("img/img*.nii.gz")},
        {
            path.name.removesuffix(".nii.gz").replace("label", "ct_"): path
            for path in parents[0].glob("label/label*.nii.gz")
        },
    )


def find_chaos_stacks(folder: Path) -> dict[str, Stack]:
    """Finds the T2-SPIR series of the CHAOS training subjects and reads their geometry.

    Args:
        folder: the folder above `Train_Sets`, `Train_Sets` itself or `Train_Sets/MR`.

    Returns:
        The slices by subject, such as `mr_01`, in the order of the subjects.

    Raises:
        InputError: if the folder is missing or holds no T2-SPIR series, or if a series is not as expected.
    """
    require_folder(folder, "--chaos", CHAOS_EXPECTED)
    for mr_folder in (folder / "Train_Sets" / "MR", folder / "MR", folder):
        series = sorted(path for path in mr_folder.glob("*/T2SPIR") if path.is_dir())
        if series:
            stacks = {f"mr_{path.parent.name.zfill(2)}": read_stack(path) for path in series}
            return dict(sorted(stacks.items()))
    raise InputError(f"{folder} holds no <subject>/T2SPIR folder: point --chaos at {CHAOS_EXPECTED}.")


def read_stack(series: Path) -> Stack:
    """Pairs the DICOM files of a series with their ground truth and reads the geometry from the DICOM headers.

    The files are paired in the order of their names. The pixel rows and columns of a PNG are those of its DICOM file.

    Args:
        series: a folder `T2SPIR` that holds `DICOM_anon/*.dcm` and `Ground/*.png`.

    Returns:
        The pairs in the order of their position along the slice normal, and the affine.

    Raises:
        InputError: if slices are missing on either side, sizes or orientations differ, or the slices are not evenly
            spaced.
    """
    dicoms = sorted(path for path in (series / "DICOM_anon").glob("*.dcm") if not path.name.startswith("."))
    grounds = sorted(path for path in (series / "Ground").glob("*.png") if not path.name.startswith("."))
    if len(dicoms) < 2 or len(dicoms) != len(grounds):
        raise InputError(
            f"{series} holds {len(dicoms)} DICOM_anon/*.dcm and {len(grounds)} Ground/*.png, expected two or more and "
            "as many of each: use the CHAOS training set, and unpack it again if files are missing."
        )
    dicom_names, ground_names = ([path.stem for path in paths] for paths in (dicoms, grounds))
    if dicom_names != ground_names and set(dicom_names) & set(ground_names):
        raise InputError(
            f"{series} holds Ground/*.png for other slices than DICOM_anon/*.dcm, among them "
            f"{min(set(dicom_names) ^ set(ground_names))}: unpack the CHAOS training set again."
        )
    headers = [read_dicom(path, pixels=False) for path in dicoms]
    for header, dicom, ground in zip(headers, dicoms, grounds, strict=True):
        if not np.allclose(in_plane_geometry(header), in_plane_geometry(headers[0]), atol=1e-3):
            raise InputError(f"{dicom} differs from {dicoms[0]} in orientation or size: keep one series in the folder.")
        rows, columns = read_png(ground).shape
        if (header.Rows, header.Columns) != (rows, columns):
            raise InputError(
                f"{ground} has {rows} x {columns} pixels but {dicom} has {header.Rows} x {header.Columns}: "
                "unpack the CHAOS training set again."
            )

    along_row, along_column = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=float)  # slices x 3, mm, LPS
    order = np.argsort(positions @ np.cross(along_row, along_column))
    positions = positions[order]
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    unevenness = np.linalg.norm(positions - positions[0] - np.arange(len(positions))[:, None] * step, axis=1).max()
    if not unevenness < SLICE_TOLERANCE * np.linalg.norm(step):
        raise InputError(
            f"{series / 'DICOM_anon'} is not an evenly spaced stack of slices, {unevenness:.2f} mm off: "
            "unpack the CHAOS training set again, or move files of another series away."
        )

    row_spacing, column_spacing = (float(spacing) for spacing in headers[0].PixelSpacing)  # mm
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * column_spacing, along_column * row_spacing, step, positions[0]], axis=1)
    affine[:2] *= -1  # DICOM axes point to the left and back (LPS), NIfTI axes to the right and front (RAS)
    return Stack([dicoms[index] for index in order], [grounds[index] for index in order], affine)


def read_dicom(path: Path, pixels: bool) -> pydicom.FileDataset:
    """Reads a DICOM file.

    Args:
        path: the file.
        pixels: whether to read the pixels as well as the header.

    Raises:
        InputError: if it is not a DICOM file, or its header lacks the position or orientation.
    """
    try:
        dicom = pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read as DICOM ({error}): unpack the CHAOS training set again.") from error
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        if name not in dicom:
            raise InputError(f"{path} has no {name} in its DICOM header: unpack the CHAOS training set again.")
    return dicom


def in_plane_geometry(header: pydicom.FileDataset) -> list[float]:
    """Returns the shared geometry of a stack's slices: orientation cosines, pixel spacing in mm, rows and columns."""
    return [
        float(value) for value in (*header.ImageOrientationPatient, *header.PixelSpacing, header.Rows, header.Columns)
    ]


def read_png(path: Path) -> npt.NDArray[Any]:
    """Returns the gray values of a ground truth PNG, of shape (rows, columns).

    Raises:
        InputError: if it is not an image of one gray channel.
    """
    try:
        with Image.open(path) as image:
            gray = np.asarray(image)
    except (OSError, SyntaxError) as error:  # Pillow reports a broken PNG chunk as a SyntaxError
        raise InputError(f"{path} cannot be read as PNG ({error}): unpack the CHAOS training set again.") from error
    if gray.ndim != 2:
        raise InputError(f"{path} has {gray.shape[-1]} channels, not one: unpack the CHAOS training set again.")
    return gray


def load_image(stack: Stack) -> npt.NDArray[np.float32]:
    """Returns the pixels of a stack as float32 of shape (columns, rows, slices), rescaled as the headers say.

    Raises:
        InputError: if the pixels of a file cannot be decoded.
    """
    slices = []
    for path in stack.dicoms:
        dicom = read_dicom(path, pixels=True)
        try:
            pixels = dicom.pixel_array.astype(np.float32)
        except (AttributeError, RuntimeError, ValueError) as error:
            raise InputError(f"The pixels of {path} cannot be decoded ({error}): unpack it again.") from error
        slices.append(pixels.T * float(dicom.get("RescaleSlope", 1)) + float(dicom.get("RescaleIntercept", 0)))
    return np.stack(slices, axis=-1)


def load_label(stack: Stack) -> npt.NDArray[np.uint8]:
    """Returns the ground truth of a stack as uint8 of shape (columns, rows, slices), values 0 to 4.

    Raises:
        InputError: if a gray value belongs to no organ.
    """
    return np.stack([remap_labels(read_png(path).T, CLASS_OF_CHAOS_GRAY, path)[0] for path in stack.grounds], axis=-1)


def nifti_in_mm(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> nib.Nifti1Image:
    """Returns a NIfTI image with the same affine as sform and qform.

    Args:
        voxels: array of shape (columns, rows, slices).
        affine: 4 x 4, from voxel indices to millimeters in RAS.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


if __name__ == "__main__":
    run_command_line(prepare_abdomen)
