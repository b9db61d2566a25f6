"""What a run did to adapt, in a sentence, by the class of its method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADAPTED = "It was trained on labeled {source} and adapted to {target} by"
SENTENCES = {
    "SIFA": f"{ADAPTED} SIFA, with the updates in the paper's order.",
    "SIFASimultaneous": f"{ADAPTED} SIFA, with all updates of an iteration at once.",
    "SourceOnly": "It was trained on labeled {source} without adaptation.",
    "SourceFree": "A network trained on labeled {source} was adapted to {target} alone, by self-training.",
    "DANN": f"{ADAPTED} DANN.",
    "ADDA": f"{ADAPTED} ADDA.",
    "CycleGAN": f"{ADAPTED} CycleGAN.",
    "CyCADA": f"{ADAPTED} CyCADA.",
    "PnPAdaNet": f"{ADAPTED} PnP-AdaNet.",
    "MasksAlone": f"{ADAPTED} an adversary of masks alone.",
}
SETTINGS = (  # of the config, in its order, all of them numbers, words, or lists of numbers
    *("seed", "batch_size", "epochs", "iterations_per_epoch", "precision", "segmenter_lr", "adversarial_lr"),
    *("cycle_weight", "auxiliary_adversarial_weight", "prediction_adversarial_weight", "random_appearance_weight"),
    *("self_training_weight", "target_segmentation_weight", "guided_translation", "ema_decay", "match_field_of_view"),
    *("model_selection", "match_intensity", "pamr_iterations", "spatial_prior"),
)
WORDS = ("float32", "bfloat16", "float16")


def method_class(config: Mapping[str, Any]) -> str:
    """Returns the name of the class of a run's method; empty where it is unknown."""
    method = config.get("method")
    return str(method.get("_target_", "")).rpartition(".")[2] if isinstance(method, Mapping) else ""


def describe_method(config: Mapping[str, Any], source: str, target: str) -> str:
    """Returns a sentence about the method of a run.

    Args:
        config: of the run.
        source: modality of the source.
        target: modality of the target.
    """
    name = method_class(config)
    if not name:
        return "The run does not say by which method it was trained."
    return SENTENCES.get(name, f"{ADAPTED} {name}.").format(source=source, target=target)


def task_of(config: Mapping[str, Any], source: str, target: str) -> str:
    """Returns the task of a model for `metadata.json`."""
    if method_class(config) == "SourceOnly":
        return f"Segmentation of {target}, trained on labeled {source} without adaptation"
    return f"Segmentation of {target} by unsupervised adaptation from labeled {source}"


def trains_on_target_labels(config: Mapping[str, Any]) -> bool:
    """Returns whether labels of target scans were part of the loss."""
    return bool(config.get("labeled_target"))


def plain_settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the settings of a run that are plain values, as text; expressions and paths are left out."""
    settings = [(name, _text(config[name])) for name in SETTINGS if name in config and _is_plain(config[name])]
    return [*settings, ("initial_weights", "those of another run")] if config.get("initial_weights") else settings


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return isinstance(value, bool | int | float) or value in WORDS


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return f"[{', '.join(_text(part) for part in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
