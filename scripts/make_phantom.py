"""Generates a phantom data set: unpaired scans of two modalities of procedurally drawn patients, with labels.

Every subject has a different anatomy, drawn in patient coordinates (RAS+, mm) and sampled on a grid of its own:
spacing, field of view, tilt and storage orientation vary, so that positions are known only through the NIfTI affine.
No patient data is involved, and nothing learned from these images says anything about patients.

Usage:
    python scripts/make_phantom.py OUTPUT_DIR --seed 0 --spacing 2.0 --workers 2  (--help lists all options)
    python scripts/make_phantom.py OUTPUT_DIR --source ct --target bssfp          hearts, CT to MR
    python scripts/make_phantom.py OUTPUT_DIR --anatomy abdomen                   upper abdomens, MR to CT
    python scripts/make_phantom.py OUTPUT_DIR --anatomy short_axis                tilted stacks, bSSFP to LGE

OUTPUT_DIR then holds dataset.json, supervised.json (the same target scans with all their labels: the upper bound), and
the folders mr_images, mr_labels, ct_images, ct_labels (of validation and test) and ct_training_labels. Where both
modalities are MR, the folders have the names of the sequences.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from command_line import run_command_line
from dataset_folder import open_output_dir
from phantoms.subjects import ANATOMIES, Part, Subject, Task, write_subject
from sifa.utils.errors import InputError
from sifa.utils.files import write_json
from tqdm import tqdm


def write_descriptions(
    subjects: Sequence[Subject], task: Task, name: str, folder: Path, labeled_target: int = 0
) -> None:
    """Writes supervised.json, and dataset.json last, which marks a complete folder.

    The first `labeled_target` target subjects to adapt to are also listed with their labels.
    """
    anatomy = ANATOMIES[task.anatomy]
    pairs: dict[Part, list[dict[str, str]]] = {part: [] for part in Part}
    for subject in subjects:
        pairs[subject.part].append({kind: subject.path(kind) for kind in ("image", "label")})
    source_name, target_name = (task.modality_name(part) for part in (Part.SOURCE_TRAINING, Part.TARGET_TRAINING))
    unlabeled = [{"image": pair["image"]} for pair in pairs[Part.TARGET_TRAINING]]
    training, validation = pairs[Part.SOURCE_TRAINING], pairs[Part.SOURCE_VALIDATION]
    source = {"modality": source_name, "training": training, "validation": validation}
    labeled_scans = {"modality": target_name, "training": pairs[Part.TARGET_TRAINING]}
    measured = {"modality": target_name, "validation": pairs[Part.TARGET_VALIDATION], "test": pairs[Part.TARGET_TEST]}
    upper_bound = f"{name}, upper bound trained on labeled {target_name}"
    supervised = {"name": upper_bound, "source": labeled_scans, "target": measured}
    labeled = {"labeled": pairs[Part.TARGET_TRAINING][:labeled_target]} if labeled_target else {}
    target = {"modality": target_name, "training": unlabeled, **labeled, **measured}
    adaptation = {"name": name, "source": source, "target": target}
    common = {"slice_plane": anatomy.slice_plane, "labels": anatomy.labels}
    for file, content in (("supervised.json", supervised), ("dataset.json", adaptation)):
        write_json(folder / file, {"name": content["name"], **common, **content})


def choose_task(anatomy: object, source: object, target: object) -> Task:
    """Returns the task that the options name; None stands for the anatomy's default modality."""
    if not isinstance(anatomy, str) or anatomy not in ANATOMIES:
        raise InputError(f"--anatomy is {anatomy!r}: choose {', '.join(ANATOMIES)}.")
    choices = ANATOMIES[anatomy].modalities
    names = [choices[0] if source is None else source, choices[1] if target is None else target]
    for option, name in zip(("source", "target"), names, strict=True):
        if name not in choices:
            raise InputError(f"--{option} is {name!r}: for --anatomy {anatomy} choose {', '.join(choices)}.")
    if names[0] == names[1]:
        raise InputError(f"--source and --target are both {names[0]}: choose two of {', '.join(choices)}.")
    return Task(anatomy, str(names[0]), str(names[1]))


def describe(task: Task, seed: int, spacing: float) -> str:
    """Returns the name of the data set."""
    modalities = [task.modality(part).replace("_", " ") for part in (Part.SOURCE_TRAINING, Part.TARGET_TRAINING)]
    pair = "" if task == choose_task("heart", None, None) else f", {' to '.join(modalities)}"
    return f"Generated {task.anatomy.replace('_', '-')} phantom{pair}, not patients (seed {seed}, {spacing:g} mm)"


def check_options(spacing: object, integers: dict[str, object]) -> None:
    """Checks the range of the spacing and that each integer option is an integer and large enough."""
    low, high = 0.5, 6.0  # mm
    if isinstance(spacing, bool) or not isinstance(spacing, int | float) or not low <= spacing <= high:
        raise InputError(f"--spacing is {spacing!r}: give a number from {low} to {high} mm.")
    for name, value in integers.items():
        smallest = 1 if name in ("workers", "source_training", "target_training") else 0
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise InputError(f"--{name} is {value!r}: give a whole number of at least {smallest}.")


def make_phantom(
    output_dir: str,
    *,
    anatomy: str = "heart",
    source: str | None = None,
    target: str | None = None,
    seed: int = 0,
    source_training: int = 16,
    source_validation: int = 2,
    target_training: int = 16,
    target_validation: int = 2,
    target_test: int = 6,
    labeled_target: int = 0,
    spacing: float = 2.0,
    workers: int = 2,
    overwrite: bool = False,
) -> None:
    """Generates a phantom data set: unpaired scans of two modalities of procedurally drawn patients, with labels.

    The anatomies are: `heart`, coronal slices about as thick as pixels are wide, in bssfp, ct and lge; `abdomen`, axial
    slices of 5.5 to 8 mm in mr_t1 and mr_t2, and longer scans with slices of 3 to 5 mm in ct; and `short_axis`, stacks
    of 8 to 10 mm across the long axis of the heart, tilted in the patient, in bssfp (240 mm wide), mr_t2 (220 mm) and
    lge (140 mm, with scars).

    Args:
        output_dir: Folder to write to, new or empty.
        anatomy: heart, abdomen or short_axis.
        source: Modality of the labeled scans: bssfp, lge, mr_t1, mr_t2 or ct; default: bssfp, for the abdomen mr_t2.
        target: Modality to adapt to, of the same names; default: ct, for short_axis lge.
        seed: Zero or more; the same seed gives the same files.
        source_training: Number of labeled source subjects to train on.
        source_validation: Number of labeled source subjects to measure on.
        target_training: Number of target subjects to adapt to.
        target_validation: Number of labeled target subjects to measure on while training.
        target_test: Number of labeled target subjects for the final measurement.
        labeled_target: Number of the target subjects to adapt to that are also listed with labels, in target.labeled.
        spacing: Voxel size in mm, 0.5 to 6, that the subjects' own spacings scatter around.
        workers: Number of processes, each with one thread.
        overwrite: Replace files of the same name in output_dir.

    Raises:
        InputError: If an option or the folder is not as expected.
    """
    counts = (source_training, source_validation, target_training, target_validation, target_test)
    sizes = {part.name.lower(): count for part, count in zip(Part, counts, strict=True)}
    check_options(spacing, {"seed": seed, "workers": workers, "labeled_target": labeled_target, **sizes})
    if labeled_target > target_training:
        raise InputError(f"--labeled_target is {labeled_target}: give at most --target_training, {target_training}.")
    task = choose_task(anatomy, source, target)
    subjects = [Subject(task, part, index) for part in Part for index in range(sizes[part.name.lower()])]
    folder = Path(str(output_dir))
    open_output_dir(folder, bool(overwrite))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the new processes when they import numpy
    with ProcessPoolExecutor(min(workers, len(subjects)), mp_context=get_context("spawn")) as pool:
        work = partial(write_subject, seed=seed, spacing=spacing, folder=folder)
        list(tqdm(pool.map(work, subjects), total=len(subjects), unit="subject"))
    write_descriptions(subjects, task, describe(task, seed, spacing), folder, labeled_target)
    print(f"Wrote {folder / 'dataset.json'}: {len(subjects)} subjects.")


if __name__ == "__main__":
    run_command_line(make_phantom)
