"""The fingerprint: what a network was trained on, and how a scan has to be prepared for it.

It is computed from the training images and written beside the weights as `fingerprint.json`. Inference, evaluation and
export take preprocessing and network size from it alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from sifa.fingerprint.json_entries import JsonEntries
from sifa.fingerprint.statistics import TrainingStatistics, read_statistics
from sifa.io.terminology import check_terms
from sifa.transforms.intensity import AIR
from sifa.transforms.label_values import HIGHEST
from sifa.transforms.orientation import ACQUIRED, PLANES
from sifa.transforms.padding import PADDING
from sifa.utils.errors import InputError
from sifa.utils.files import write_json

FORMAT = 2
FORMAT_OF_VALUES = 3  # of files with `label_values`, which earlier versions would pass over
FORMAT_1_DEFAULTS = {"refinement_iterations": 0, "arrangement": {}}  # files of the first trainings lack these keys
MODES = ("window", "percentiles")
AXES = ("LR", "PA", "IS")  # codes of the two directions of each axis


@dataclass(frozen=True)
class TrainingSummary:
    """Statistics of one domain's training volumes, along rows, columns and slices."""

    volumes: int
    median_percentiles: tuple[float, float]  # intensities at the two percentiles of the rule, medians over volumes
    median_spacing: tuple[float, float, float]  # mm
    median_field_of_view: tuple[float, float, float]  # mm


@dataclass(frozen=True)
class Domain:
    """One domain: its modality, how its intensities are normalized, and its training volumes."""

    modality: str
    intensity: Mapping[str, Any]  # `mode`, `lower`, `upper` and perhaps `curve`; see `sifa.transforms.intensity`
    training: TrainingSummary


@dataclass(frozen=True)
class NetworkSize:
    """Arguments of `sifa.networks.Segmenter`."""

    in_channels: int
    out_channels: int  # number of classes, background included
    width: float  # factor on all channel numbers


@dataclass(frozen=True)
class VolumeRange:
    """Smallest and largest volume of a structure among training subjects in ml."""

    min: float
    max: float


class SpatialPrior(TypedDict):
    """Where a structure that is one connected component lies; see `sifa.postprocessing.spatial_prior`."""

    center: list[float]  # mm from the mean of all centers, RAS+
    radius_mm: float


@dataclass(frozen=True)
class Fingerprint:
    """What a network was trained on, and how a scan has to be prepared for it."""

    format: ClassVar[int] = FORMAT
    name: str  # of the data set
    labels: Mapping[int, str]  # names by class, 0, 1, 2, ...; 0 is the background
    slice_plane: str  # axial, coronal, sagittal or acquired
    orientation: str  # axis codes (nibabel) of rows, columns and slices, or acquired
    spacing: tuple[float, float, float]  # mm along rows, columns and slices; 0 across slices keeps each scan's own
    slice_size: tuple[int, int]  # rows and columns in pixels
    matched_in_plane: bool  # whether slices show what the smaller domain shows, and padding is hidden
    source_size: tuple[int, int]  # rows and columns of prepared source slices, from which slices are cropped
    pamr_iterations: int  # of `sifa.postprocessing.pamr` after the network; 0: none
    structures: Mapping[str, VolumeRange]  # by name, of the structures that training subjects show
    spatial_prior: Mapping[str, SpatialPrior]  # by class as a string; empty: masks keep all components
    source: Domain
    target: Domain
    network: NetworkSize
    versions: Mapping[str, str]  # of the software that computed this
    terminology: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # see `sifa.io.terminology.check_terms`
    label_values: Mapping[int, int] = field(default_factory=dict)  # in masks, by class; empty: the classes themselves
    statistics: TrainingStatistics | None = None  # what a plan follows from; files before 0.6.0 have none
    slice_view: tuple[float, float, float] | None = None  # RAS, from acquired slices of training toward the viewer

    @property
    def structure_names(self) -> dict[int, str]:
        """Names of the labels by class, without the background."""
        return {index: name for index, name in self.labels.items() if index != 0}

    @property
    def mask_values(self) -> dict[int, int]:
        """The value of each class in masks, as the labels of the data set have it; the background is 0."""
        return dict(self.label_values) or {index: index for index in self.labels}

    @property
    def mask_dtype(self) -> str:
        """Data type of masks: uint8, or int16 where a value exceeds 255."""
        return "uint8" if max(self.mask_values.values()) < 256 else "int16"

    @property
    def mask_names(self) -> dict[int, str]:
        """Names of the structures by their values in masks."""
        return {value: self.labels[index] for index, value in self.mask_values.items() if index != 0}

    def classes_of(self, values: int | Collection[int]) -> list[int]:
        """Returns the classes that have certain values in masks, in the order of the classes."""
        wanted = {values} if isinstance(values, int) else set(values)
        return [index for index, value in self.mask_values.items() if value in wanted]

    @property
    def padding(self) -> float:
        """Value of prepared training slices where nothing was scanned: air, or a mark where padding is hidden."""
        return PADDING if self.matched_in_plane else AIR

    @property
    def class_shares(self) -> list[float]:
        """Expected share of each class among the pixels of source slices, background first; the sum is 1.

        From the middle of the volumes of each structure, the extent of a slice, and the field of view of the source
        across the slices: an estimate for trainings that have no source labels.
        """
        rows, columns = (size * step for size, step in zip(self.slice_size, self.spacing[:2], strict=True))
        covered = rows * columns * self.source.training.median_field_of_view[2] / 1000  # ml
        volumes = [self.structures.get(name) for name in self.structure_names.values()]
        shares = [0.0 if volume is None else (volume.min + volume.max) / 2 / covered for volume in volumes]
        return [1 - sum(shares), *shares]

    @property
    def colors(self) -> dict[str, str]:
        """Colors of the structures that the data set gives one, by name, `#rrggbb`."""
        return {name: entry["color"] for name, entry in self.terminology.items() if "color" in entry}

    def summary(self) -> dict[str, Any]:
        """Returns a plain description of the training data, without per-volume statistics."""
        content = self.to_json()
        return {
            **{key: content[key] for key in ("name", "labels", "slice_plane", "slice_size", "spacing")},
            **{
                key: {"modality": domain.modality, "volumes": domain.training.volumes}
                for key, domain in (("source", self.source), ("target", self.target))
            },
        }

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `fingerprint.json`: plain types that JSON reads back as they are."""
        content: dict[str, Any] = _plain({"format": FORMAT_OF_VALUES if self.label_values else FORMAT, **asdict(self)})
        for key in ("terminology", "label_values", "statistics", "slice_view"):
            if not content[key]:
                del content[key]
        if not self.matched_in_plane:  # source slices are prepared at the size of a slice
            del content["matched_in_plane"], content["source_size"]
        return content

    @classmethod
    def from_json(cls, content: Any, path: str | Path) -> Fingerprint:
        """Returns the fingerprint that the content of a `fingerprint.json` describes, format 1 to 3, and checks it.

        Args:
            content: the parsed JSON.
            path: the file, for messages.

        Raises:
            InputError: when an entry is missing or has the wrong type, or when the format is another one.
        """
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: it is not a JSON object: copy it again from the training's output.")
        version = JsonEntries(content, path).integer("format", 1)
        if version > FORMAT_OF_VALUES:
            raise InputError(
                f"{path}: its format is {version}, this bundle reads 1 to {FORMAT_OF_VALUES}: use the bundle it came "
                "with."
            )
        iterations, prior, radius = "pamr_iterations", "spatial_prior", "radius_mm"
        if version == 1:
            content = {**FORMAT_1_DEFAULTS, **content}
            iterations, prior, radius = "refinement_iterations", "arrangement", "reach"
        content = {"matched_in_plane": False, "source_size": content.get("slice_size"), **content}
        entries = JsonEntries(content, path)
        network = _read_network(entries.section("network"))
        labels = _read_labels(entries, network.out_channels)
        return cls(
            name=entries.text("name"),
            labels=labels,
            slice_plane=_read_slice_plane(entries),
            orientation=_read_orientation(entries),
            spacing=_read_spacing(entries),
            slice_size=_read_slice_size(entries),
            matched_in_plane=entries.flag("matched_in_plane"),
            source_size=_read_source_size(entries),
            pamr_iterations=entries.integer(iterations, 0),
            structures=_read_volumes(entries.section("structures")),
            spatial_prior=_read_spatial_prior(entries, prior, radius, labels),
            source=_read_domain(entries.section("source")),
            target=_read_domain(entries.section("target")),
            network=network,
            versions=_read_texts(entries.section("versions")),
            terminology=check_terms(content.get("terminology", {}), labels, f"{path}: terminology"),
            label_values=_read_label_values(entries, labels) if version == FORMAT_OF_VALUES else {},
            statistics=read_statistics(entries.section("statistics")) if "statistics" in entries else None,
            slice_view=_read_slice_view(entries) if "slice_view" in entries else None,
        )


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Reads a `fingerprint.json`.

    Raises:
        InputError: when it is missing, is not JSON, or lacks an entry.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: there is no fingerprint: point --model_dir at a folder with the model.pt and fingerprint.json "
            "that training wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: this is not valid JSON ({error}): copy it again from the training's output."
        ) from error
    return Fingerprint.from_json(content, path)


def parse_fingerprint(text: str) -> Fingerprint:
    """Returns the fingerprint that an exported model carries as JSON text.

    Raises:
        InputError: when it lacks an entry.
    """
    return Fingerprint.from_json(json.loads(text), "the fingerprint in the exported model")


def write_fingerprint(fingerprint: Fingerprint, path: str | Path) -> None:
    """Writes a fingerprint as JSON, under a temporary name first."""
    write_json(Path(path), fingerprint.to_json())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _read_network(entries: JsonEntries) -> NetworkSize:
    width = entries.number("width")
    if width <= 0:
        entries.refuse("width", "a positive number")
    return NetworkSize(entries.integer("in_channels", 1), entries.integer("out_channels", 2), width)


def _read_labels(entries: JsonEntries, count: int) -> dict[int, str]:
    labels = _read_texts(entries.section("labels"))
    if set(labels) != {str(value) for value in range(count)}:
        entries.refuse("labels", f"one name for each of 0 to {count - 1} (network.out_channels is {count})")
    return {value: labels[str(value)] for value in range(count)}


def _read_label_values(entries: JsonEntries, labels: Mapping[int, str]) -> dict[int, int]:
    section = entries.section("label_values")
    if set(section) != {str(index) for index in labels}:
        entries.refuse("label_values", f"one value for each of 0 to {len(labels) - 1}")
    values = {index: section.integer(str(index), int(index > 0)) for index in labels}
    if values[0] != 0 or len(set(values.values())) < len(values) or max(values.values()) > HIGHEST:
        entries.refuse(
            "label_values", f"0 for the background and different values of 1 to {HIGHEST} for the structures"
        )
    return values


def _read_slice_plane(entries: JsonEntries) -> str:
    plane = entries.text("slice_plane")
    if plane not in PLANES:
        entries.refuse("slice_plane", f"one of {', '.join(PLANES)}")
    return plane


def _read_orientation(entries: JsonEntries) -> str:
    axcodes = entries.text("orientation")
    if entries.text("slice_plane") == ACQUIRED:
        if axcodes != ACQUIRED:
            entries.refuse("orientation", f"{ACQUIRED}, as slice_plane is")
        return axcodes
    if len(axcodes) != 3 or any(sum(code in axis for code in axcodes) != 1 for axis in AXES):
        entries.refuse("orientation", "three axis codes such as PLS")
    return axcodes


def _read_spacing(entries: JsonEntries) -> tuple[float, float, float]:
    rows, columns, slices = entries.numbers("spacing", 3)
    if rows <= 0 or columns <= 0 or slices < 0:
        entries.refuse("spacing", "two positive numbers and one of at least 0")
    return rows, columns, slices


def _read_slice_size(entries: JsonEntries) -> tuple[int, int]:
    rows, columns = entries.numbers("slice_size", 2)
    if any(size <= 0 or size % 8 for size in (rows, columns)):
        entries.refuse("slice_size", "two multiples of 8")
    return int(rows), int(columns)


def _read_source_size(entries: JsonEntries) -> tuple[int, int]:
    rows, columns = entries.numbers("source_size", 2)
    if any(size < least for size, least in zip((rows, columns), _read_slice_size(entries), strict=True)):
        entries.refuse("source_size", "two sizes of at least slice_size")
    return int(rows), int(columns)


def _read_slice_view(entries: JsonEntries) -> tuple[float, float, float]:
    x, y, z = entries.numbers("slice_view", 3)
    return x, y, z


def _read_volumes(entries: JsonEntries) -> dict[str, VolumeRange]:
    ranges = {name: entries.section(name) for name in entries}
    return {name: VolumeRange(volume.number("min"), volume.number("max")) for name, volume in ranges.items()}


def _read_spatial_prior(
    entries: JsonEntries, key: str, radius_key: str, labels: Mapping[int, str]
) -> dict[str, SpatialPrior]:
    structures = entries.section(key)
    if not set(structures) <= {str(value) for value in labels if value != 0}:
        entries.refuse(key, f"an object whose keys are values of structures, 1 to {len(labels) - 1}")
    priors: dict[str, SpatialPrior] = {}
    for value in structures:
        prior = structures.section(value)
        radius = prior.number(radius_key)
        if radius <= 0:
            prior.refuse(radius_key, "a positive number")
        priors[value] = {"center": prior.numbers("center", 3), "radius_mm": radius}
    return priors


def _read_domain(entries: JsonEntries) -> Domain:
    training = entries.section("training")
    lower, upper = training.numbers("median_percentiles", 2)
    spacing, field = (training.numbers(key, 3) for key in ("median_spacing", "median_field_of_view"))
    summary = TrainingSummary(
        volumes=training.integer("volumes", 1),
        median_percentiles=(lower, upper),
        median_spacing=(spacing[0], spacing[1], spacing[2]),
        median_field_of_view=(field[0], field[1], field[2]),
    )
    return Domain(entries.text("modality"), _read_intensity(entries.section("intensity")), summary)


def _read_intensity(entries: JsonEntries) -> dict[str, Any]:
    mode = entries.text("mode")
    if mode not in MODES:
        entries.refuse("mode", " or ".join(MODES))
    rule: dict[str, Any] = {"mode": mode, "lower": entries.number("lower"), "upper": entries.number("upper")}
    if "curve" in entries:
        curve = entries.section("curve")
        points = curve.numbers("from")
        rule["curve"] = {"from": points, "to": curve.numbers("to", len(points))}
    return rule


def _read_texts(entries: JsonEntries) -> dict[str, str]:
    return {key: entries.text(key) for key in entries}
