"""Converts the MM-WHS 2017 download into a data set folder for MR to CT adaptation of the heart.

Example: python scripts/prepare_mmwhs.py --mr DOWNLOADS/mr_train --ct DOWNLOADS/ct_train --output_dir DATA/heart
"""

from __future__ import annotations

import sys
from pathlib import Path

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
    require_folder,
    split_subjects,
    write_descriptions,
    write_volume,
)
from sifa.utils.errors import InputError
from tqdm import tqdm

LABELS = (
    "background",
    "left ventricle myocardium",
    "left atrium blood cavity",
    "left ventricle blood cavity",
    "ascending aorta",
)
MISLABELED_LEFT_ATRIUM = 421  # occurs in one public volume, inside the left atrium (420)
CLASS_OF_VALUE = {
    0: 0,
    205: 1,  # myocardium of the left ventricle
    420: 2,  # left atrium blood cavity
    MISLABELED_LEFT_ATRIUM: 2,
    500: 3,  # left ventricle blood cavity
    820: 4,  # ascending aorta
    550: 0,  # right atrium blood cavity
    600: 0,  # right ventricle blood cavity
    850: 0,  # pulmonary artery
}


def prepare_mmwhs(
    mr: str,
    ct: str,
    output_dir: str,
    seed: int = 0,
    validation_fraction: float = 0.2,
    overwrite: bool = False,
) -> None:
    """Writes images, remapped labels, dataset.json and supervised.json of the MM-WHS 2017 training data.

    MR is the labeled source, split into training and validation. CT is the target, split into training (images
    only) and test. Images are hard-linked where possible, so changing one in place changes the download as well.

    Args:
        mr: folder that holds mr_train_1001_image.nii.gz, mr_train_1001_label.nii.gz and so on.
        ct: folder that holds ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz and so on.
        output_dir: folder to write, new or empty.
        seed: seed of the random split by subject.
        validation_fraction: share of the subjects to hold out, as MR validation and as CT test.
        overwrite: replace files of the same name in output_dir.

    Raises:
        InputError: if a folder, a file or an option is not as expected.
    """
    mr_volumes = find_volumes(Path(str(mr)), "mr")
    ct_volumes = find_volumes(Path(str(ct)), "ct")
    mr_split = split_subjects(list(mr_volumes), validation_fraction, seed)
    ct_split = split_subjects(list(ct_volumes), validation_fraction, seed)
    root = Path(str(output_dir))
    open_output_dir(root, overwrite)

    for subject, volume in tqdm(mr_volumes.items(), desc="MR", unit="volume"):
        write_heart(volume, root / MR_IMAGES / f"{subject}.nii.gz", root / MR_LABELS / f"{subject}.nii.gz")
    for subject, volume in tqdm(ct_volumes.items(), desc="CT", unit="volume"):
        label_folder = root / (CT_TEST_LABELS if subject in ct_split[1] else CT_TRAINING_LABELS)
        write_heart(volume, root / CT_IMAGES / f"{subject}.nii.gz", label_folder / f"{subject}.nii.gz")
    write_descriptions(root, "Heart, MR to CT (MM-WHS 2017)", "coronal", LABELS, mr_split, ct_split)
    print(f"Wrote {root / 'dataset.json'}: {len(mr_volumes)} MR and {len(ct_volumes)} CT volumes.")


def find_volumes(folder: Path, modality: str) -> dict[str, LabeledVolume]:
    """Finds the volumes of one modality and checks from their headers that labels and images belong together.

    Args:
        folder: the folder that directly holds the files.
        modality: `mr` or `ct`, as in the file names.

    Returns:
        The volumes by subject, such as `mr_train_1001`, in the order of the subjects.

    Raises:
        InputError: if the folder is missing or holds no such files, if an image has no label or a label no image,
            or if a label is not on the grid of its image.
    """
    pattern = f"{modality}_train_*_image.nii.gz"
    expected = f"the MM-WHS folder that directly holds {pattern} and the labels"
    require_folder(folder, f"--{modality}", expected)
    images = {path.name.removesuffix("_image.nii.gz"): path for path in folder.glob(pattern)}
    labels = {path.name.removesuffix("_label.nii.gz"): path for path in folder.glob(f"{modality}_train_*_label.nii.gz")}
    if not images:
        raise InputError(f"{folder} holds no {pattern}: point --{modality} at {expected}.")
    return pair_volumes(images, labels)


def write_heart(volume: LabeledVolume, image_path: Path, label_path: Path) -> None:
    """Links or copies an image and writes its remapped label; warns if the stray value occurs.

    Args:
        volume: the files of the download.
        image_path: image to write.
        label_path: label to write, uint8, values 0 to 4.

    Raises:
        InputError: if the label cannot be read or holds an unknown value.
    """
    counts = write_volume(volume, image_path, label_path, CLASS_OF_VALUE)
    if MISLABELED_LEFT_ATRIUM in counts:
        tqdm.write(
            f"warning: {volume.label} holds {counts[MISLABELED_LEFT_ATRIUM]} voxel(s) of the stray value "
            f"{MISLABELED_LEFT_ATRIUM}, taken as left atrium blood cavity (420).",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_command_line(prepare_mmwhs)
