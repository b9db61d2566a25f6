"""`calibration.json`: how predicted Dice follows from signals, for the masks of one model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sifa.fingerprint.json_entries import JsonEntries
from sifa.quality_control.monotone_fit import MonotoneFit
from sifa.quality_control.resemblance import LEAST_SPREAD, LatentRange, Resemblance
from sifa.quality_control.signal_meter import SIGNALS
from sifa.utils.errors import InputError
from sifa.utils.files import hash_of_file, write_json

NAME = "calibration.json"
FORMAT = 2
AGAIN = "run calibrating for this model"


@dataclass(frozen=True)
class Calibration:
    """The content of the file."""

    model_sha256: str  # of the file model.pt
    scans: int  # held-out source scans
    masks: int  # measured
    kinds: list[str]  # of imitation
    resemblance: Resemblance  # of imitated scans and target scans of training
    latents: LatentRange  # of both
    fits: Mapping[str, MonotoneFit]  # by set of signals: `fast`, `full`


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Writes the file beside the model and returns its path."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "about": "predicted Dice, measured on imitated target scans",
        **{key: value for key, value in vars(calibration).items() if key not in ("resemblance", "latents", "fits")},
        "resemblance": calibration.resemblance._asdict(),
        "latents": calibration.latents._asdict(),
        "fits": {name: fitted._asdict() for name, fitted in calibration.fits.items()},
    }
    write_json(folder / NAME, content)
    return folder / NAME


def read_calibration(folder: Path) -> Calibration:
    """Reads the file beside a model.

    Raises:
        InputError: when it is unreadable, of another format, or of another model.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: it is not valid JSON: {AGAIN}, or remove it.") from error
    if not isinstance(content, Mapping) or type(content.get("format")) is not int or content["format"] != FORMAT:
        raise InputError(f"{path}: it is no calibration of format {FORMAT}: {AGAIN}, or remove it.")
    entries = JsonEntries(content, path)
    if entries.text("model_sha256") != hash_of_file(folder / "model.pt"):
        raise InputError(f"{path}: it belongs to another model.pt than the one beside it: {AGAIN}, or remove it.")
    sections = entries.section("fits")
    try:
        fits = {name: _read_fit(sections.section(name), signals) for name, signals in SIGNALS.items()}
        scans, masks = entries.integer("scans", 1), entries.integer("masks", 1)
        resemblance = _read_resemblance(entries.section("resemblance"))
        latents = _read_latents(entries.section("latents"))
    except (InputError, OverflowError) as error:
        raise InputError(f"{path}: it is damaged: {AGAIN}, or remove it.") from error
    for name, fitted in fits.items():
        if not _is_fit(fitted):
            raise InputError(f"{path}: fits.{name} is no fit of Dice: {AGAIN}, or remove it.")
    kinds = content.get("kinds")
    return Calibration(
        entries.text("model_sha256"),
        scans,
        masks,
        [*map(str, kinds)] if isinstance(kinds, list) else [],
        resemblance,
        latents,
        fits,
    )


def _read_resemblance(entries: JsonEntries) -> Resemblance:
    auroc = None if entries.content.get("auroc", 0) is None else entries.number("auroc")
    if not 0 <= (auroc or 0) <= 1:
        entries.refuse("auroc", "from 0 to 1")
    return Resemblance(entries.integer("target_scans", 1), auroc, entries.number("effective_scans"))


def _read_latents(entries: JsonEntries) -> LatentRange:
    mean = entries.numbers("mean")
    found = LatentRange(mean, entries.numbers("spread", len(mean)), entries.number("farthest"))
    if min(found.spread) < LEAST_SPREAD or found.farthest < 0:
        entries.refuse("spread", "positive")
    return found


def _read_fit(entries: JsonEntries, signals: Sequence[str]) -> MonotoneFit:
    scores = entries.numbers("scores")
    weights = entries.section("weights")
    return MonotoneFit(
        {name: weights.number(name) for name in signals},
        entries.number("offset"),
        scores,
        entries.numbers("dice", len(scores)),
        entries.numbers("edges"),
        entries.numbers("widths"),
        entries.numbers("cautious_widths"),
        entries.number("threshold"),
    )


def _is_fit(fitted: MonotoneFit) -> bool:
    """Returns whether numbers are those of a fit: in their ranges and in order, so that no prediction falls."""
    ordered = (fitted.scores, fitted.dice, fitted.edges)
    return (
        len(fitted.widths) == len(fitted.cautious_widths) == len(fitted.edges) + 1
        and all(list(values) == sorted(values) for values in ordered)
        and 0 <= fitted.dice[0] <= fitted.dice[-1] <= 1
        and min(*fitted.weights.values(), *fitted.widths) >= 0
        and all(wide >= usual for wide, usual in zip(fitted.cautious_widths, fitted.widths, strict=True))
        and 0 <= fitted.threshold <= 1
    )
