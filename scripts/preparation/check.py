"""Checks a data set: every file of `dataset.json` and `supervised.json`, and what is in two lists."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sifa.data.dataset_json import NAME, DatasetDescription, Item, check_label, parse_dataset, require_files
from sifa.io.dicom_headers import read_slices
from sifa.utils.errors import InputError
from tqdm import tqdm

from preparation.report import ListFacts, print_lists
from preparation.survey import ImageFacts, require_units, survey_image
from preparation.writing import SUPERVISED

SUBJECT = re.compile(r"(.*[/\\])?sub-[^_/\\]+")  # of BIDS, with the folder of its data set


def check_dataset(folder: Path) -> int:
    """Prints a table of the lists of a data set, and everything that is wrong with it.

    Args:
        folder: with `dataset.json` and perhaps `supervised.json`.

    Returns:
        The number of problems.
    """
    surveyed: dict[tuple[str, str], ImageFacts | InputError] = {}
    names = [NAME, *([SUPERVISED] if (folder / SUPERVISED).is_file() else [])]
    problems = []
    for name in names:
        try:
            description = parse_dataset(folder / name, needs_target=False)
        except InputError as error:
            problems.append(str(error))
            continue
        rows, found = _check(description, surveyed)
        print_lists(f"{description.path}: {description.name}", rows)
        problems += found
    problems = list(dict.fromkeys(problems))
    for problem in problems:
        print(f"wrong: {problem}")
    count = len(problems)
    print(f"{count} problem{'s' if count != 1 else ''} found." if count else "No problem found.")
    return count


def _check(
    description: DatasetDescription, surveyed: dict[tuple[str, str], ImageFacts | InputError]
) -> tuple[list[ListFacts], list[str]]:
    """Returns what each list holds, and what is wrong.

    Args:
        description: of the data set.
        surveyed: what was found in scans so far, by path and modality; scans are added.
    """
    rows, problems = [], []
    digests: dict[str, tuple[str, str]] = {}
    subjects: dict[str, tuple[str, str]] = {}
    total = sum(map(len, description.lists.values()))
    with tqdm(total=total, desc=description.path.name, leave=False, disable=None) as bar:
        for place, items in description.lists.items():
            facts: list[ImageFacts] = []
            shown: dict[int, int] = defaultdict(int)
            for number, item in enumerate(items):
                try:
                    found, values = _check_item(description, place, number, item, surveyed)
                except InputError as error:
                    problems.append(str(error))
                else:
                    facts.append(found)
                    for index in {description.label_map_of(place)[value] for value in values}:
                        shown[index] += 1
                    problems += _repeated(item, place, found, digests)
                problems += _in_two_lists(item, place, subjects)
                bar.update()
            structures = {name: shown[index] for index, name in description.labels.items() if index and shown[index]}
            rows.append(ListFacts(place, len(items), facts, structures))
    return rows, problems


def _check_item(
    description: DatasetDescription,
    place: str,
    number: int,
    item: Item,
    surveyed: dict[tuple[str, str], ImageFacts | InputError],
) -> tuple[ImageFacts, list[int]]:
    """Returns what was found in a scan, and the values of its label."""
    require_files(item, f"{description.path}: {place}[{number}]")
    domain = place.split(".")[0]
    modality = description.source_modality if domain == "source" else description.target_modality
    key = (item["image"], modality)
    if key not in surveyed:
        try:
            surveyed[key] = survey_image(Path(item["image"]), modality)
        except InputError as error:
            surveyed[key] = error
    facts = surveyed[key]
    if isinstance(facts, InputError):
        raise facts
    values = []
    if "label" in item:
        values = check_label(item["label"], item["image"], description.label_map_of(place))
    require_units(Path(item["image"]), facts, modality, domain)
    return facts, values


def _repeated(item: Item, place: str, facts: ImageFacts, digests: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yields a sentence where the same intensities are listed already."""
    image, first = item["image"], digests.setdefault(facts.digest, (item["image"], place))
    if first != (image, place):
        yield f"{image} ({place}): it is the same scan as {first[0]} ({first[1]}): list it once."


def _in_two_lists(item: Item, place: str, subjects: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yields a sentence where another list holds a scan of the same subject."""
    for subject in _subjects_of(Path(item["image"])):
        first = subjects.setdefault(subject, (item["image"], place))
        if first[1] != place and first[0] != item["image"]:
            yield (
                f"{item['image']} ({place}): it is of the same subject as {first[0]} ({first[1]}): keep all scans of a "
                "subject in one list."
            )


def _subjects_of(image: Path) -> Iterator[str]:
    """Yields what identifies the subject of a scan: its folder in BIDS, and its study in DICOM."""
    found = SUBJECT.match(str(image))
    if found is not None:
        yield found[0]
    if image.is_dir():
        files = sorted(file for file in image.iterdir() if file.is_file() and not file.name.startswith("."))
        headers = next((headers for headers in map(read_slices, files) if headers), [])
        yield from (str(header.scene[0]) for header in headers[:1] if header.scene[0] is not None)
