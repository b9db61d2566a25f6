"""The model card of a run that is shared, and the marks at the places that only its author can fill in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sifa.fingerprint.fingerprint import Fingerprint
from sifa.fingerprint.modality import is_in_hu
from sifa.utils.overlays import WRITTEN

from sharing.measured import Measured
from sharing.methods import describe_method, method_class, plain_settings, trains_on_target_labels
from sharing.trained_run import TrainedRun

MARKER = "[FILL IN:"
OPEN_FIELDS = (
    "authors, intended use, origin of the data, license of the data and of the weights, citation of the data, "
    "limitations"
)
UNCHANGED = "across slices, scans keep their own spacing"
ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=False,  # it is Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def fill_in(what: str) -> str:
    """Returns the mark of a place that the author has to fill in."""
    return f"{MARKER} {what}]"


def open_fields(measured: Measured | None) -> str:
    """Returns the fields of the card that the author has to fill in."""
    if measured is None:
        return OPEN_FIELDS
    unnamed = "" if measured.names_weights else ", weights that were measured"
    return f"{OPEN_FIELDS}, scans that were measured{unnamed}"


def model_card(name: str, run: TrainedRun, measured: Measured | None, known_configs: Path) -> str:
    """Returns the model card as Markdown.

    Args:
        name: of the bundle.
        run: the training.
        measured: its evaluation; None: not measured.
        known_configs: the folder of the bundle's configs; other files of the command are not named.
    """
    fingerprint, config = run.fingerprint, run.config
    source, target = fingerprint.source, fingerprint.target
    rows, columns, slices = fingerprint.spacing
    return ENVIRONMENT.get_template("model_card.md.j2").render(
        name=name,
        marker=MARKER,
        open_fields=open_fields(measured),
        fill_in=fill_in,
        tags=["segmentation", source.modality, target.modality, "SIFA", *fingerprint.structure_names.values()],
        width=f"{fingerprint.network.width:g}",
        method=describe_method(config, source.modality, target.modality),
        configs=_known(run, known_configs),
        settings=plain_settings(config) or [("seed", str(run.seed))],
        epoch=_epoch(run),
        data=fingerprint.name,
        source=source.modality,
        source_scans=source.training.volumes,
        target=target.modality,
        target_scans=target.training.volumes,
        target_labels=trains_on_target_labels(config),
        earlier_data=method_class(config) == "SourceFree",
        structures=_structures(fingerprint),
        plane=fingerprint.slice_plane,
        size=" x ".join(map(str, fingerprint.slice_size)),
        spacing=f"{rows:g} x {columns:g}",
        across=f"across slices, scans are resampled to {slices:g} mm" if slices else UNCHANGED,
        target_rule=_rule(target.modality, target.intensity),
        source_rule=_rule(source.modality, source.intensity),
        refinement=_refinement(fingerprint),
        measured=measured,
        versions=", ".join(f"{package} {version}" for package, version in run.versions.items()),
        weights_bytes=len(run.weights),
        weights_sha256=run.packed_sha256,
    )


def _known(run: TrainedRun, folder: Path) -> str:
    """Returns the configs of the training that belong to the bundle, and how many others there were."""
    planned = ["the plan of `run planning`"] if any(Path(name).stem in WRITTEN for name in run.configs) else []
    known = [f"`{name}`" for name in run.configs if (folder / name).is_file()] + planned
    others = len(run.configs) - len(known)
    more = [f"{others} of the author's own"] if others else []
    return ", ".join([*known, *more]) or "not recorded"


def _epoch(run: TrainedRun) -> str:
    after = f"{run.iterations} iterations"
    if run.epoch is None:
        return f"of the end of the training, {after}"
    if run.selected:
        return f"of epoch {run.epoch} of {run.epochs}, selected by a score on unlabeled target slices; {after} in all"
    return f"of the last epoch, {run.epoch}, after {after}"


def _structures(fingerprint: Fingerprint) -> list[dict[str, Any]]:
    """Returns value in masks, name and range of volumes of each structure."""
    listed = []
    for value, name in fingerprint.mask_names.items():
        volume = fingerprint.structures.get(name)
        text = "n/a" if volume is None else f"{volume.min:.1f} to {volume.max:.1f}"
        listed.append({"value": value, "name": name, "volume": text})
    return listed


def _rule(modality: str, intensity: Mapping[str, Any]) -> str:
    """Returns an intensity rule in words."""
    lower, upper = intensity["lower"], intensity["upper"]
    if intensity["mode"] == "window":
        text = f"clipped to {lower:g} to {upper:g}{' HU' if is_in_hu(modality) else ''}"
    else:
        text = f"each scan clipped to its own percentiles {lower:g} and {upper:g}"
    curve = " and mapped to the target's by histogram matching" if "curve" in intensity else ""
    return f"{text}, scaled to [-1, 1]{curve}"


def _refinement(fingerprint: Fingerprint) -> str:
    """Returns what inference does to masks, as sentences."""
    iterations = fingerprint.pamr_iterations
    pamr = f"Probabilities are refined by {iterations} iterations of PAMR." if iterations else ""
    prior = "Components at implausible positions are removed (spatial prior)." if fingerprint.spatial_prior else ""
    return " ".join(sentence for sentence in (pamr, prior) if sentence) or "Masks are not refined."


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


ENVIRONMENT.filters["cell"] = _cell
