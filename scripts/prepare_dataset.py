"""Makes a data set of folders of scans, without a file written by hand, and checks one.

Example: python scripts/prepare_dataset.py --source MR --target CT --output_dir DATA
"""

from __future__ import annotations

import logging
import shlex
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from command_line import run_command_line
from preparation.check import check_dataset
from preparation.label_maps import Classes, Entry, find_classes, parse_label_map, unnamed_structure
from preparation.labels import convert_named_labels, read_vocabulary
from preparation.layouts import MAY_LACK_LABELS, find_domain
from preparation.report import ListFacts, print_lists
from preparation.scans import Domain
from preparation.splits import Shares, split_scans
from preparation.survey import ImageFacts, require_units, survey_image
from preparation.writing import Plan, require_free, write_dataset
from sifa.fingerprint.modality import canonical_modality, rule_name
from sifa.planning.slice_plane import PlaneChoice, choose_plane
from sifa.transforms.orientation import PLANES
from sifa.utils.errors import InputError, UsageError
from sifa.utils.options import require_switches
from tqdm import tqdm

RULES: Mapping[str, Mapping[str, object]] = {"CT": {}, "default": {}}  # the intensity rules of train.yaml
NO_LABELS = "none"  # in the place of the folder of the target's labels
MODALITIES = {"source": "MR", "target": "CT"}  # where neither the command nor the layout tells


def prepare_dataset(
    *,
    source: str | None = None,
    target: str | None = None,
    output_dir: str | None = None,
    source_labels: str | None = None,
    target_labels: str | None = None,
    label_map: str | None = None,
    target_label_map: str | None = None,
    slice_plane: str | None = None,
    test_fraction: float | None = None,
    validation_fraction: float = 0.0,
    source_validation_fraction: float = 0.0,
    seed: int = 0,
    channel: str | None = None,
    target_channel: str | None = None,
    source_modality: str | None = None,
    target_modality: str | None = None,
    name: str | None = None,
    copy: bool = False,
    overwrite: bool = False,
    check_units: bool = True,
    check: str | None = None,
) -> None:
    """Makes a data set of a folder of labeled source scans (MR) and one of target scans (CT).

    It writes dataset.json, which refers to the files where they are, and supervised.json (the upper bound) where
    scans of the target that are trained on have labels. Layouts that are recognized: nnU-Net raw data (both versions),
    Medical Segmentation Decathlon, BIDS (labels under derivatives/), DICOM series with a folder a patient (labels as
    DICOM SEG, RTSTRUCT or NIfTI), and plain files (NIfTI, NRRD, MetaImage) in two folders, images/ and labels/, or side
    by side, as case.nii.gz and case_seg.nii.gz. Everything is checked before anything is written.

    A label map gives the values of labels, or their names (in DICOM, nnU-Net and the Decathlon), classes by name or by
    number, as "205:myocardium,420:left atrium" or "205:1,420:2"; "*:0" makes everything else background. Masks of the
    trained network have the values of the labels.

    Examples:
      python scripts/prepare_dataset.py --source nnUNet_raw/Dataset001_MR --target CT --output_dir DATA
      python scripts/prepare_dataset.py --source MR --source_labels MR_LABELS --target CT --target_labels CT_LABELS
        --output_dir DATA
      python scripts/prepare_dataset.py --source MR --target CT --label_map "205:myocardium,420:left atrium,*:0"
        --output_dir DATA
      python scripts/prepare_dataset.py --source Task05_Prostate --channel T2 --target CT --output_dir DATA
      python scripts/prepare_dataset.py --check DATA

    Args:
        source: folder of the labeled source scans, in any of the layouts.
        target: folder of the target scans; labels that it holds are used for testing only.
        output_dir: folder to write.
        source_labels: folder of the source's labels, where they are not where the layout has them.
        target_labels: folder of labels of some or all target scans, likewise; "none", to use no label of the target.
        label_map: class of what labels hold, of the target too unless target_label_map is given. Default, all
            structures of the source.
        target_label_map: the same for labels of the target, where they differ, with the classes of label_map.
        slice_plane: axial, coronal, sagittal, or acquired: each scan's own slices. Default: the plane in which the
            scans were acquired, or acquired where they are tilted or were acquired in different planes.
        test_fraction: share of the labeled target subjects to test on. Default: 0.2 where all are labeled, else 1.
        validation_fraction: share of the labeled target subjects to measure on during training.
        source_validation_fraction: share of the source subjects to hold out.
        seed: of the random split by subject.
        channel: number or name of the source's channel, where it has several (files _0000 and _0001, a fourth axis,
            T1w of BIDS).
        target_channel: the same for the target.
        source_modality: such as MR or CT. Default: as the layout says, else MR.
        target_modality: the same for the target. Default: as the layout says, else CT.
        name: of the data set.
        copy: copy all files to output_dir.
        overwrite: replace a data set in output_dir.
        check_units: False: also take scans whose values contradict their modality, such as CT that is not in HU.
        check: check the data set in this folder, and do nothing else.

    Raises:
        InputError: if a folder, a file or an option is not as expected.
        SystemExit: with status 1, if a data set that is checked has problems.
    """
    logging.getLogger("monai.data").setLevel(logging.ERROR)  # it warns of each scan that a reader for GPUs is missing,
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")  # twice
    if check is not None:
        _check_only(check, [source, target, output_dir])
        return
    require_switches(copy=copy, overwrite=overwrite, check_units=check_units)
    required = {"--source": source, "--target": target, "--output_dir": output_dir}
    missing = [option for option, value in required.items() if value is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)}: it is missing: run with --help to see examples.")
    if slice_plane is not None and slice_plane not in PLANES:
        raise UsageError(f"--slice_plane {slice_plane}: choose {', '.join(PLANES)}.")
    shares = Shares.checked(source_validation_fraction, validation_fraction, test_fraction, seed)
    maps = Maps(parse_label_map(label_map, "--label_map"), parse_label_map(target_label_map, "--target_label_map"))
    given = {
        "source": Given.checked(source, source_labels, channel, source_modality),
        "target": Given.checked(target, target_labels, target_channel, target_modality),
    }
    output = Path(str(output_dir))
    require_free(output, [folder for one in given.values() for folder in (one.folder, one.labels) if folder], overwrite)

    domains, modalities, notes = _find(given)
    facts = _survey(domains, modalities, check_units)
    title = str(name) if name is not None else f"{given['source'].folder.name} to {given['target'].folder.name}"
    with tempfile.TemporaryDirectory(prefix="sifa-labels-") as folder:
        classes, converted = _read_labels(domains, facts, maps, Path(folder))
        split = split_scans(domains["source"].scans, domains["target"].scans, shares)
        choice = PlaneChoice(slice_plane, "as given") if slice_plane else _propose_plane(domains, facts)
        plan = Plan(title, choice.plane, modalities, classes, split, converted, copy)
        written = write_dataset(output, plan, overwrite)
    _report(written, plan, facts, [*notes, *classes.notes, *split.notes], choice)


class Given(NamedTuple):
    """What the command line says about a domain."""

    folder: Path
    labels: Path | None
    channel: int | str | None
    modality: str | None
    uses_labels: bool = True

    @classmethod
    def checked(cls, folder: object, labels: object, channel: object, modality: object) -> Given:
        """Returns the options as paths and texts; python-fire reads some as numbers."""
        return cls(
            Path(str(folder)),
            None if labels in (None, NO_LABELS) else Path(str(labels)),
            channel if channel is None or type(channel) is int else str(channel),
            None if modality is None else str(modality),
            labels != NO_LABELS,
        )


class Maps(NamedTuple):
    """The entries of the label maps; empty where none is given."""

    both: Sequence[Entry]
    target: Sequence[Entry]


def _find(given: Mapping[str, Given]) -> tuple[dict[str, Domain], dict[str, str], list[str]]:
    """Returns the scans of each domain, its modality, and notes on what is left out."""
    domains, modalities, notes = {}, {}, list[str]()
    for domain, one in given.items():
        found = find_domain(domain, one.folder, one.labels, one.channel, one.modality)
        if not one.uses_labels:
            found = replace(found, scans=[replace(scan, label=None) for scan in found.scans])
        modalities[domain] = _modality_of(domain, one.modality, found)
        domains[domain], left_out = _labeled(found) if domain == "source" else (found, [])
        notes += left_out
    return domains, modalities, notes


def _read_labels(
    domains: Mapping[str, Domain], facts: Mapping[Path, ImageFacts], maps: Maps, work: Path
) -> tuple[Classes, dict[Path, Path]]:
    """Returns the classes, and the converted file, in `work`, of each label that cannot be used as it is."""
    converted: dict[Path, Path] = {}
    target_option = "--target_label_map" if maps.target or not maps.both else "--label_map"
    source = read_vocabulary("source", domains["source"], facts, "--label_map", converted, work)
    target = read_vocabulary("target", domains["target"], facts, target_option, converted, work)
    assert source is not None  # its scans are labeled
    classes = find_classes(source, target, maps.both, maps.target)
    for domain, of_domain in (("source", classes.source), ("target", classes.target)):
        convert_named_labels(domain, domains[domain].scans, facts, of_domain, converted, work)
    return classes, converted


def _check_only(folder: object, others: Sequence[object]) -> None:
    """Checks a data set and ends the process with status 1 where it has problems."""
    if folder is True or any(other is not None for other in others):
        raise UsageError("--check: give it the folder of a data set and no other option: --check DATA.")
    if check_dataset(Path(str(folder))):
        sys.exit(1)


def _modality_of(domain: str, given: str | None, found: Domain) -> str:
    """Returns the modality of a domain: as given, as the layout has it, or the usual one."""
    if given is not None:
        rule_name(str(given), RULES, f"--{domain}_modality")
        return canonical_modality(str(given))
    try:
        rule_name(found.modality or "", RULES, found.folder)
    except InputError:  # nnU-Net's names of normalizations, such as noNorm
        return MODALITIES[domain]
    return canonical_modality(found.modality or "")


def _labeled(found: Domain) -> tuple[Domain, list[str]]:
    """Returns the labeled scans of the source, and what is left out; refuses a scan that should have a label."""
    labeled = [scan for scan in found.scans if scan.label is not None]
    others = [scan for scan in found.scans if scan.label is None]
    if not labeled:
        raise InputError(
            f"{found.folder}: no scan of the source has a label: give the folder of the labels (--source_labels), or "
            "name labels like their scans."
        )
    unexpected = [scan for scan in others if not scan.is_test]
    if unexpected and found.layout not in MAY_LACK_LABELS:
        raise InputError(
            f"{unexpected[0].image}: this scan of the source has no label: add the label, name it like the scan, or "
            "move the scan away."
        )
    notes = [f"{len(others)} scans of the source have no label and are left out"] if others else []
    return replace(found, scans=labeled), notes


def _survey(domains: Mapping[str, Domain], modalities: Mapping[str, str], check_units: bool) -> dict[Path, ImageFacts]:
    """Reads all scans; refuses one whose units are wrong, and one that is there twice."""
    facts: dict[Path, ImageFacts] = {}
    digests: dict[str, Path] = {}
    listed = [(domain, scan) for domain, found in domains.items() for scan in found.scans]
    for domain, scan in tqdm(listed, desc="scans", leave=False, disable=None):
        found = survey_image(scan.image, modalities[domain], scan.channel)
        if check_units:
            require_units(scan.image, found, modalities[domain], domain)
        if found.digest in digests:
            raise InputError(f"{scan.image}: it is the same scan as {digests[found.digest]}: move one of them away.")
        digests[found.digest] = scan.image
        facts[scan.image] = found
    return facts


def _propose_plane(domains: Mapping[str, Domain], facts: Mapping[Path, ImageFacts]) -> PlaneChoice:
    return choose_plane(
        {name: [facts[scan.image].grid.affine for scan in domain.scans] for name, domain in domains.items()}
    )


def _report(
    written: Sequence[Path],
    plan: Plan,
    facts: Mapping[Path, ImageFacts],
    notes: Sequence[str],
    choice: PlaneChoice,
) -> None:
    """Prints what the data set holds."""
    rows = [
        ListFacts(place, len(scans), [facts[scan.image] for scan in scans], {})
        for place, scans in plan.split.lists.items()
    ]
    print_lists(plan.name, rows)
    values: dict[int, str] = {}
    for key, index in plan.classes.source.items():
        values.setdefault(index, str(key))
    names = {index: name for index, name in enumerate(plan.classes.names) if index}
    structures = [f"{index} {name} ({values[index]})" for index, name in names.items()]
    print(f"classes (and what labels of the source hold): {', '.join(structures)}")
    unnamed = [values[index] for index, name in names.items() if name == unnamed_structure(values[index])]
    if unnamed:
        print(f'note: some structures have no names: name all of them, as in --label_map "{unnamed[0]}:NAME"')
    print(f"slice plane: {choice.plane} ({choice.reason}; --slice_plane gives another one)")
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {' and '.join(map(str, written))}; train with --dataset_dir {shlex.quote(str(written[0].parent))}")


if __name__ == "__main__":
    run_command_line(prepare_dataset)
