"""From what labels hold to classes: by `--label_map`, by the names of a layout, or by the values themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sifa.transforms.label_values import HIGHEST, LOWEST
from sifa.utils.errors import InputError

BACKGROUND = "background"
REST = "*"
IGNORED = "ignore"  # nnU-Net's name of voxels that are not to be trained on
NUMBER = re.compile(r"-?\d+")

Key = int | str  # a value of a label file, or the name of a structure in DICOM, in lower case
Entry = tuple[str, str]  # what a label holds, and its class: numbers or names


def unnamed_structure(key: object) -> str:
    """Returns the name of a structure of which only the value in labels is known."""
    return f"label {key}"


@dataclass(frozen=True)
class Vocabulary:
    """What the labels of a domain hold."""

    domain: str  # source or target
    option: str  # of the command line that maps it
    names: Mapping[Key, str]  # of structures, background included; empty: unknown
    found: Mapping[Key, Path]  # a label that holds it

    def keys_of(self, text: str) -> list[Key]:
        """Returns the keys that a text on the left of a map means; none where it means nothing here."""
        by_name = [key for key, name in self.names.items() if name.casefold() == text.casefold()]
        if by_name or any(isinstance(key, str) for key in self.found) or not NUMBER.fullmatch(text):
            return by_name
        return [int(text)]

    def name_of(self, key: Key) -> str:
        """Returns the name of a structure, made from its value where there is none."""
        return self.names.get(key, unnamed_structure(key))


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and the class of everything that the labels of each domain may hold."""

    names: Sequence[str]  # background first
    source: Mapping[Key, int]
    target: Mapping[Key, int]
    notes: Sequence[str]


def parse_label_map(text: object, option: str) -> list[Entry]:
    """Returns the entries of a map such as `205:1,420:2`, `205:myocardium,420:left atrium` or `1:liver,*:0`.

    Args:
        text: as given on the command line, which may have read it as an object; None: there is no map.
        option: the command-line option.

    Raises:
        InputError: when it is no such map, or maps something twice.
    """
    if text is None:
        return []
    given = text.items() if isinstance(text, Mapping) else [part.rsplit(":", 1) for part in str(text).split(",")]
    entries = [tuple(str(side).strip() for side in part) for part in given]
    if not all(len(entry) == 2 and all(entry) for entry in entries):
        raise InputError(
            f'{option} is {text!r}: write what labels hold and its class, such as "205:1,420:2" or "205:myocardium".'
        )
    left = [entry[0].casefold() for entry in entries]
    twice = next((name for name in left if left.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{option} maps {twice} twice: leave one of the entries out.")
    if any(entry[0] == REST and entry[1].casefold() not in ("0", BACKGROUND) for entry in entries):
        raise InputError(f"{option} maps {REST} to a structure: the rest can only be the background, {REST}:0.")
    return [(entry[0], entry[1]) for entry in entries]


def find_classes(
    source: Vocabulary, target: Vocabulary | None, label_map: Sequence[Entry], target_map: Sequence[Entry]
) -> Classes:
    """Returns the classes, and the class of everything that the labels of both domains hold.

    Without a map the classes are the structures that the source's layout names, else the values that its labels hold.
    Labels of the target without a map of their own follow the same map, or have the class of the same name; without a
    map and without names they hold the same values. What the layout of the target names beyond the classes is
    background.

    Args:
        source: what the source's labels hold.
        target: what the target's labels hold; None: it has none.
        label_map: of the source, and of the target without one of its own.
        target_map: of the target.

    Raises:
        InputError: when something that a label holds has no class, or a class is in no map of a domain.
    """
    names = _class_names(label_map, source) if label_map else [BACKGROUND, *_own_structures(source, target).values()]
    if len(names) == 1:
        raise InputError(f"{source.option} has no class but the background: give each structure a class.")
    if len(set(map(str.casefold, names))) < len(names):
        raise InputError(f"the classes {', '.join(names)} have a name in common: name each with {source.option}.")
    notes: list[str] = []
    if label_map:
        of_source = _apply(label_map, source, names)
    else:
        own = {key: index for index, key in enumerate(_own_structures(source, target), start=1)}
        of_source = {**_backgrounds(source), **own}
    of_target = dict(of_source)
    if target is not None and target_map:
        of_target = _apply(target_map, target, names)
    elif target is not None and (label_map or target.names):
        of_target = _by_map_or_name(label_map, target, names)
        beyond = [name for key, name in target.names.items() if key not in of_target]
        if beyond and not label_map:
            of_target = {**of_target, **dict.fromkeys((key for key in target.names if key not in of_target), 0)}
            notes.append(f"no classes, so background in labels of the target: {', '.join(beyond)}")
    for vocabulary, classes in ((source, of_source), *([(target, of_target)] if target is not None else [])):
        _require_complete(vocabulary, classes, names)
    unseen = [name for index, name in enumerate(names) if index and not _shows(source, of_source, index)]
    if unseen:
        notes.append(f"in no label of the source: {', '.join(unseen)}")
    return Classes(names, _in_order(of_source), _in_order(of_target), notes)


def _own_structures(source: Vocabulary, target: Vocabulary | None) -> dict[Key, str]:
    """Returns the structures of the source by what labels hold, in the order of the classes, without a map."""
    if any(name.casefold() == IGNORED for name in source.names.values()):
        raise InputError(
            f"labels of the {source.domain} have a value named {IGNORED}, which training cannot leave out: map it, and "
            f"all others, with {source.option}."
        )
    keys = [key for key in source.names or source.found if key not in _backgrounds(source)]
    if not keys:
        raise InputError(f"labels of the {source.domain} hold only background: give labels that show structures.")
    borrowed = {} if source.names or target is None else target.names
    return {key: borrowed.get(key, source.name_of(key)) for key in sorted(keys, key=lambda key: (str(type(key)), key))}


def _backgrounds(vocabulary: Vocabulary) -> dict[Key, int]:
    named = [key for key, name in vocabulary.names.items() if name.casefold() == BACKGROUND]
    return dict.fromkeys([0, *named], 0)


def _class_names(label_map: Sequence[Entry], source: Vocabulary) -> list[str]:
    """Returns the names of the classes that a map names or numbers."""
    rights = [right for left, right in label_map if left != REST]
    numbers = [int(right) for right in rights if right.isdigit()]
    if numbers and any(not right.isdigit() and right.casefold() != BACKGROUND for right in rights):
        raise InputError(f"{source.option} names some classes and numbers others: write either names or numbers.")
    if not numbers:
        first: dict[str, str] = {BACKGROUND: BACKGROUND}
        for right in rights:
            first.setdefault(right.casefold(), right)
        return list(first.values())
    names = {int(right): left for left, right in reversed(label_map) if left != REST and right.isdigit()}
    structures = sorted({number for number in numbers if number != 0})
    if structures != list(range(1, len(structures) + 1)) or not structures:
        raise InputError(f"{source.option} has the classes {structures}: number them 1, 2, ... without gaps.")
    return [BACKGROUND, *(_name_of_class(names[index], source) for index in structures)]


def _name_of_class(left: str, source: Vocabulary) -> str:
    keys = source.keys_of(left)
    return source.name_of(keys[0]) if keys else left


def _apply(entries: Sequence[Entry], vocabulary: Vocabulary, names: Sequence[str]) -> dict[Key, int]:
    """Returns the class of each key of a map, all of whose entries have to mean something."""
    classes: dict[Key, int] = {0: 0}
    for left, right in entries:
        keys = [] if left == REST else vocabulary.keys_of(left)
        if not keys and left != REST:
            raise InputError(
                f"{vocabulary.option} maps {left}, and labels of the {vocabulary.domain} hold {_held(vocabulary)}: "
                "correct the name."
            )
        classes.update(dict.fromkeys(keys, _class_of(right, names, vocabulary)))
    return _with_rest(entries, vocabulary, classes)


def _by_map_or_name(label_map: Sequence[Entry], target: Vocabulary, names: Sequence[str]) -> dict[Key, int]:
    """Returns the class of each key of the target by the source's map, and of the others by the names of classes."""
    classes: dict[Key, int] = _backgrounds(target)
    for left, right in label_map:
        keys = [] if left == REST else target.keys_of(left)
        classes.update(dict.fromkeys(keys, _class_of(right, names, target)))
    for index, name in enumerate(names):
        if index not in classes.values():
            classes.update(dict.fromkeys(target.keys_of(name), index))
    return _with_rest(label_map, target, classes)


def _with_rest(entries: Sequence[Entry], vocabulary: Vocabulary, classes: Mapping[Key, int]) -> dict[Key, int]:
    """Returns a map with everything else that labels hold as background, where the entries say so."""
    has_rest = any(left == REST for left, _ in entries)
    others = (*vocabulary.names, *vocabulary.found) if has_rest else ()
    return {**dict.fromkeys((key for key in others if key not in classes), 0), **classes}


def _class_of(right: str, names: Sequence[str], vocabulary: Vocabulary) -> int:
    if right.isdigit() and int(right) < len(names):
        return int(right)
    known = [name.casefold() for name in names]
    if right.casefold() not in known:
        raise InputError(f"{vocabulary.option} has the class {right}, which is none of {', '.join(names)}: correct it.")
    return known.index(right.casefold())


def _require_complete(vocabulary: Vocabulary, classes: Mapping[Key, int], names: Sequence[str]) -> None:
    """Refuses something that a label holds without a class, a class without a value, and values out of range."""
    for key, path in vocabulary.found.items():
        if key not in classes:
            what = f"the value {key}" if isinstance(key, int) else f"the structure {vocabulary.names[key]}"
            raise InputError(
                f"{path}: it holds {what}, which has no class: list it in {vocabulary.option}, or add {REST}:0 there "
                "for everything else."
            )
    for index, name in enumerate(names):
        if index and index not in classes.values():
            raise InputError(
                f"nothing in the labels of the {vocabulary.domain} is {name}; they hold {_held(vocabulary)}: say what "
                f"it is with {vocabulary.option}."
            )
    for key, index in classes.items():
        if isinstance(key, int) and not (1 if index else LOWEST) <= key <= HIGHEST:
            raise InputError(f"{vocabulary.option} maps the value {key}: structures have the values 1 to {HIGHEST}.")


def _shows(vocabulary: Vocabulary, classes: Mapping[Key, int], index: int) -> bool:
    return any(classes[key] == index for key in vocabulary.found)


def _held(vocabulary: Vocabulary) -> str:
    """Returns what the labels of a domain hold, as a text."""
    keys = [key for key in vocabulary.names or vocabulary.found if key != 0]
    names = {key: vocabulary.names.get(key, str(key)) for key in keys}
    texts = [
        f"{key} ({name})" if isinstance(key, int) and key in vocabulary.names else name for key, name in names.items()
    ]
    return ", ".join(texts) or "only background"


def _in_order(classes: Mapping[Key, int]) -> dict[Key, int]:
    """Returns a map with the background first; within a class, the first value is the one that masks have."""
    return dict(sorted(classes.items(), key=lambda entry: entry[1]))
