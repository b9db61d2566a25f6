"""The identity of a checkpoint: every hyper-parameter is part of it, or in a list of harmless ones with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import BUNDLE, RECOMMENDED
from monai.bundle import ConfigParser

CONFIGS = BUNDLE / "configs"
WEIGHTS = (
    "cycle",
    "auxiliary_adversarial",
    "prediction_adversarial",
    "random_appearance",
    "self_training",
    "target_segmentation",
)
METHODS = ("dann", "adda", "cyclegan", "cycada", "pnp_adanet", "masks_alone", "source_free")
HARMLESS = {  # settings of a run that may change when it resumes
    **dict.fromkeys(
        ("imports", "initialize", "run", "training", "finalize", "switches", "limits", "hyper"), "not a setting"
    ),
    **dict.fromkeys(("planning", "planned", "minutes"), "about a plan, which is not a setting"),
    **dict.fromkeys(
        ("bundle_root", "dataset_dir", "dataset_file", "output_dir", "resume", "cache_dir"), "where files are"
    ),
    **dict.fromkeys(("device", "memory_format", "num_workers", "cache_rate"), "the machine"),
    **dict.fromkeys(("checkpoint_interval", "image_interval", "val_interval", "keep_epochs"), "what is written"),
    **dict.fromkeys(("on_nan", "on_collapse", "check_units"), "what stops a run"),
    "epochs": "a run may be extended",
    "initial_weights": "the identity holds the hashes of the weights",
    "pool_seed": "follows from the seed",
    "width": "in the fingerprint, as are the next ones",
    **dict.fromkeys(
        ("slice_plane", "slice_size", "pixel_spacing", "slice_spacing", "intensity", "match_intensity"), "fingerprint"
    ),
    **dict.fromkeys(("pamr_iterations", "spatial_prior", "match_in_plane"), "fingerprint"),
    **dict.fromkeys((f"{term}_weight" for term in WEIGHTS), "in loss_weights"),
    **dict.fromkeys(("framing_transforms", "augmentation_transforms"), "the identity holds a digest of both"),
    "needs_source": "follows from the method",
    "source_frequencies": "follows from the fingerprint or the source labels",
    **dict.fromkeys(("feature_adversarial_weight", "semantic_weight", "within_class_weight"), "in loss_weights"),
    "self_training": "a part of the method; null where there is none",
    **dict.fromkeys(
        ("labeled_target", "labeled_target_preprocessing"), "in the fingerprint, as a list of the data set"
    ),
    "label_maps": "of the data set, whose labels the fingerprint measures",
    "target_training": "in the fingerprint, as a list of the data set",
    "target_validation": "it only measures",
}


def config(*names: str) -> dict[str, Any]:
    loaded: Any = ConfigParser.load_config_files([str(CONFIGS / name) for name in names])
    return loaded


def settings_of(content: dict[str, Any]) -> dict[str, Any]:
    """The top-level entries that are values and not components or expressions of others."""
    return {
        name: value
        for name, value in content.items()
        if not (isinstance(value, dict) and "_target_" in value)
        and not (isinstance(value, str) and value.startswith(("$@", "@")))
    }


@pytest.mark.parametrize(
    "names",
    [
        ("train.yaml",),
        (*RECOMMENDED, "abdomen.yaml"),
        (*RECOMMENDED, "released_slices.yaml"),
        *((*RECOMMENDED, f"{method}.yaml") for method in METHODS),
        (*RECOMMENDED, "published.yaml"),
        (*RECOMMENDED, "labeled_target.yaml"),
    ],
)
def test_every_setting_is_a_hyper_parameter_of_the_identity_or_harmless(names: tuple[str, ...]) -> None:
    content = config(*names)
    components = {"train", "validate", "field_lengths", "reader", "networks", "saved_generators", "optimizers"}
    components |= {"score"}
    open_settings = set(settings_of(content)) - components - set(content["hyper"]) - set(HARMLESS)
    assert open_settings == set()


def test_the_identity_holds_data_method_initial_weights_and_all_hyper_parameters() -> None:
    content = config("train.yaml", "recommended.yaml")
    assert content["training_state"]["identity"] == {
        "fingerprint": "$@fingerprint.to_json()",
        "method": "$@train#iteration_update.identity()",
        "initial_weights": "$@start.sha256",
        "slice_augmentation": {"_target_": "sifa.utils.settings_digest", "value": "@train#augmentation"},
        "hyper": "@hyper",
    }
    assert {name: f"@{name}" for name in content["hyper"]} == content["hyper"]
    assert "statistics_slices" in content["hyper"]


def test_settings_called_harmless_exist(tmp_path: Path) -> None:
    contents = [config(*RECOMMENDED, name) for name in ("abdomen.yaml", *(f"{method}.yaml" for method in METHODS))]
    assert set(HARMLESS) <= set().union(*contents)
