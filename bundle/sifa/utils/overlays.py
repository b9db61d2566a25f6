"""The order of the bundle's configs on a command line: which are complete, and what each overlay has to follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sifa.utils.errors import UsageError
from sifa.utils.paths import bundle_root

COMPLETE = ("train", "inference")  # the configs that run alone; all others are overlays of train.yaml
OTHER_METHODS = (
    "dann",
    "adda",
    "cyclegan",
    "cycada",
    "pnp_adanet",
    "masks_alone",
    "source_free",
)  # than SIFA, which train.yaml has
METHODS = (*OTHER_METHODS, "source_only")  # of which one can be given
ONLY_SIFA = ("authors", "image_adaptation", "prediction_adaptation", "simultaneous")  # what other methods do not have
TRAINING: dict[str, tuple[str, ...]] = {  # overlays, and those that each has to follow wherever both are given
    "authors": (),
    "recommended": (),
    "image_adaptation": ("recommended", "published"),
    "prediction_adaptation": ("recommended", "published"),
    "simultaneous": ("recommended",),
    "compact": (),
    "abdomen": ("recommended", "compact"),
    "released_slices": ("recommended", "compact"),
    "published": ("recommended", "compact", "abdomen", "plan"),
    "source_only": ("recommended", "simultaneous", "abdomen", "plan"),
    "supervised": ("source_only",),
    "appearance": (),
    "labeled_target": ("recommended", "compact", "abdomen", "published", "source_only", *OTHER_METHODS),
    **dict.fromkeys(OTHER_METHODS, ("recommended",)),
    "source_free": ("recommended", "compact", "abdomen", "plan"),
}
WRITTEN = {"plan": ("recommended", "compact", "abdomen", "released_slices")}  # overlays that a run writes
LAST = (
    "monailabel",
    "multi_gpu_train",
    "evaluate",
    "adapt_batch_norm",
    "calibrate",
)  # after all others; each has a `run` of its own
NEEDS = {
    "supervised": "source_only",
    "published": "recommended",
    "source_free": "recommended",
}  # an overlay that makes no sense without another one
EXCLUDES = {  # overlays that cannot be combined with a method
    **{stem: [name for name in (*METHODS, *ONLY_SIFA) if name != stem] for stem in OTHER_METHODS},
    "source_only": [*OTHER_METHODS, "labeled_target"],  # whose loss has no further terms
}
FOLLOWS = {**TRAINING, **WRITTEN, **dict.fromkeys(LAST, (*TRAINING, *WRITTEN))}


def config_file(stem: str) -> Path:
    """Returns the path of a config of the bundle."""
    return Path(bundle_root()) / "configs" / f"{stem}.yaml"


def check_order(files: Sequence[str]) -> None:
    """Refuses an overlay alone, before `train.yaml`, twice, or in an order in which one undoes another.

    A config that the bundle does not have may come first in the place of `train.yaml` (the `config.yaml` of an earlier
    run), or anywhere after it (an experiment).

    Args:
        files: paths of config files in the order in which they are merged.

    Raises:
        UsageError: with the right order.
    """
    stems = [Path(file).stem for file in files]
    for position, stem in enumerate(stems):
        problem = _problem(stem, stems[:position], stems[position + 1 :])
        if problem is not None:
            raise UsageError(f"{stem}.yaml {problem}: {_correction(files, stems)}")


def _problem(stem: str, before: Sequence[str], after: Sequence[str]) -> str | None:
    """Returns what is wrong with the place of one config among the others, or None."""
    if stem in COMPLETE:
        return "comes first, before everything that changes it" if before else None
    if stem not in FOLLOWS:
        return None
    if not before:
        return "is an overlay and comes after train.yaml"
    if before[0] == "inference":
        return "is an overlay of train.yaml and cannot follow inference.yaml, which reads the model's fingerprint"
    if stem in before:
        return "is given twice"
    others = [name for name in LAST if stem in LAST and name in (*before, *after) and name != stem]
    if others:
        return f"and {others[0]}.yaml each define `run`, so only one can be given"
    excluded = [name for name in EXCLUDES.get(stem, ()) if name in (*before, *after)]
    if excluded:
        return f"and {excluded[0]}.yaml cannot be combined"
    late = [name for name in FOLLOWS[stem] if name in after]
    if late:
        return f"comes after {late[0]}.yaml"
    if stem in NEEDS and NEEDS[stem] not in before:
        return f"needs {NEEDS[stem]}.yaml before it"
    return None


def _correction(files: Sequence[str], stems: Sequence[str]) -> str:
    """Returns what to write instead: the configs in the right order, each once, with those that are missing."""
    given = dict(zip(stems, files, strict=True))
    if "inference" in given:
        rest = ["inference"]
    else:
        named = [*given, *(NEEDS[stem] for stem in given if stem in NEEDS), "train"]
        last = [stem for stem in given if stem in LAST]
        method = next((stem for stem in given if stem in EXCLUDES), None)
        dropped = [*last[1:], *EXCLUDES.get(method or "", ())]
        rest = [stem for stem in dict.fromkeys(named) if stem not in dropped]
    rest.sort(key=lambda stem: stem not in COMPLETE)
    ordered: list[str] = []
    while rest:  # next is the first one that has to follow none of the others
        stem = next(stem for stem in rest if not set(FOLLOWS.get(stem, ())) & set(rest))
        rest.remove(stem)
        ordered.append(stem)
    folder = Path(files[0]).parent
    listed = ",".join(f"'{given.get(stem, folder / f'{stem}.yaml')}'" for stem in ordered)
    return f'write --config_file "[{listed}]".'
