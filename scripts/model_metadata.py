"""The bundle's `metadata.json` with the description of another model, taken from its fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sifa.fingerprint.fingerprint import Fingerprint
from sifa.fingerprint.modality import is_in_hu

METADATA = Path(__file__).resolve().parents[1] / "bundle" / "configs" / "metadata.json"


def metadata_of(fingerprint: Fingerprint) -> dict[str, Any]:
    """Returns the bundle's metadata, with data, labels and network format of the model that a fingerprint describes."""
    content: dict[str, Any] = json.loads(METADATA.read_text(encoding="utf-8"))
    structures = ", ".join(fingerprint.structure_names.values())
    modality, channels = fingerprint.target.modality, fingerprint.network.out_channels
    units = "HU" if is_in_hu(modality) else "arbitrary units"
    content["description"] = f"Segments {modality}: {structures}. Trained on: {fingerprint.name}."
    content["data_source"] = f"Trained on: {fingerprint.name}"
    content["image_classes"] = f"single channel {modality} in {units}, normalized to [-1, 1] by the fingerprint"
    values = fingerprint.mask_values
    content["label_classes"] = ", ".join(f"{values[index]}: {name}" for index, name in fingerprint.labels.items())
    content["pred_classes"] = f"{channels} channels of logits, one a class"
    formats = content["network_data_format"]
    image = {"num_channels": fingerprint.network.in_channels, "modality": modality}
    formats["inputs"]["image"] |= {**image, "format": "hounsfield" if is_in_hu(modality) else "magnitude"}
    formats["outputs"]["pred"] |= {"num_channels": channels, "channel_def": fingerprint.to_json()["labels"]}
    return content
