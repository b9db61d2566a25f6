"""Checks of the options of a command: each exists in the config, and its value is of the kind that the config has."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from sifa.utils.command import Command
from sifa.utils.errors import UsageError
from sifa.utils.options import require_switches
from sifa.utils.overlays import LAST, TRAINING, config_file

OTHER_NAMES = {  # of options in version 0.1.0 and in other programs
    "adversarial_rate": "adversarial_lr",
    "arrangement": "spatial_prior",
    "average_decay": "ema_decay",
    "batch": "batch_size",
    "choose_epoch": "model_selection",
    "data_dir": "dataset_dir",
    "gpu": "device",
    "gpus": "device",
    "input_dir": "dataset_dir",
    "keep_arrangement": "spatial_prior",
    "learning_rate": "segmenter_lr",
    "lr": "segmenter_lr",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "refinement_iterations": "pamr_iterations",
    "segmenter_decay": "lr_gamma",
    "segmenter_rate": "segmenter_lr",
}
PATHS = ("initial_weights", "resume")  # beside all names that end in _dir or _file
HELP = "--help lists the options"


def check_options(command: Command, config: Mapping[str, Any]) -> None:
    """Refuses options that the config does not have, and values of another kind than its own.

    Args:
        command: the command.
        config: its config files, merged but without its options.

    Raises:
        UsageError: with the option that is probably meant, or the values that it takes.
    """
    tracked = of_tracking(command.tracking)
    for name, value in command.settings.items():
        keys = [str(key) for key in ReferenceResolver.split_id(name)]
        if name not in tracked:
            _check_value(name, keys, _find(name, keys, config), value, config)


def of_tracking(tracking: Any) -> Mapping[str, Any]:
    """Returns the settings that `--tracking` adds to a config."""
    if tracking is None:
        return {}
    known = tracking if isinstance(tracking, dict) else DEFAULT_EXP_MGMT_SETTINGS.get(tracking)
    settings: Mapping[str, Any] = ConfigParser.load_config_files(tracking) if known is None else known
    return dict(settings.get("configs", {}))


def _find(name: str, keys: list[str], config: Mapping[str, Any]) -> Any:
    """Returns the config's value of an option, or None if the option gives what the config leaves to a default."""
    node: Any = config
    for position, key in enumerate(keys):
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif position and key == keys[-1] and _takes(keys[:position], node, key):
            return None
        else:
            raise UsageError(_unknown(name, keys[: position + 1], node, config))
    return node


def _takes(section: list[str], node: Any, key: str) -> bool:
    """Returns whether a section of the config takes an entry that it does not have."""
    return section[0] == "loss_weights" or section == ["intensity"] or key in _arguments(node)


def _arguments(node: Any) -> list[str]:
    """Returns the names that a component takes, or an empty list if it is none."""
    if not ConfigComponent.is_instantiable(node):
        return []
    target = pydoc.locate(_module_of(node))
    parameters = dict(inspect.signature(target).parameters) if callable(target) else {}
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()) and inspect.ismethod(target):
        parameters.update(inspect.signature(target.__self__).parameters)  # type: ignore[arg-type]
    named = [one.name for one in parameters.values() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    return [*named, "_target_", "_disabled_", "_requires_", "_desc_", "_mode_"]


def _module_of(component: dict[str, Any]) -> str:
    """Returns the full name of a component's target; MONAI's own are named without their module."""
    return str(ConfigComponent(component, locator=ComponentLocator()).resolve_module_name())


def _unknown(name: str, keys: list[str], node: Any, config: Mapping[str, Any]) -> str:
    """Returns the sentence about an option whose last key in `keys` is not in `node`, with what may be meant."""
    key, within = keys[-1], "#".join(keys[:-1])
    if within:
        if isinstance(node, list):
            return f"--{name}: {within} has the entries 0 to {len(node) - 1}."
        there = [entry for entry in _arguments(node) or list(node) if not entry.startswith("_")]
        near = get_close_matches(key, there, n=1)
        meant = f"did you mean --{within}#{near[0]}? It" if near else within
        return f"--{name}: {within} has no entry {key}: {meant} takes {', '.join(there)}."
    plain = [option for option in config if not option.startswith("_")]
    overlays = _options_of_overlays(config)
    if key in overlays:
        return f"--{name} is an option of {overlays[key]}: add {overlays[key]} to --config_file, or leave it out."
    inner = next((option for option in plain if key in _arguments(config[option])), None)
    if inner is not None:
        return f"--{name}: there is no such option: did you mean --{inner}#{key}? {HELP}."
    known = [*plain, *overlays]
    near = [OTHER_NAMES[key]] if OTHER_NAMES.get(key) in known else get_close_matches(key, known, n=1)
    if near:
        home = f" (of {overlays[near[0]]}, which --config_file lacks)" if near[0] in overlays else ""
        return f"--{name}: there is no such option: did you mean --{near[0]}{home}? {HELP}."
    return f"--{name}: there is no such option: {HELP}."


def _options_of_overlays(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the name of the overlay that adds an option, for each option that a training's `config` does not have."""
    if "training" not in config:
        return {}
    found: dict[str, str] = {}
    for stem in (*TRAINING, *LAST):
        text = config_file(stem).read_text(encoding="utf-8")
        for name in set(re.findall(r"(?m)^([a-z_]+):", text)) - set(config):
            found.setdefault(name, f"{stem}.yaml")
    return found


def _check_value(name: str, keys: list[str], present: Any, value: Any, config: Mapping[str, Any]) -> None:
    """Refuses a value whose type differs from the config's; None and expressions are always accepted."""
    if isinstance(value, str) and value[:1] == "@" and ReferenceResolver.split_id(value[1:])[0] not in config:
        raise UsageError(
            f"--{name} {value}: a value that begins with @ refers to an entry of the config: a path is ./{value}."
        )
    if keys[-1] == "_target_" and pydoc.locate(_module_of({"_target_": str(value)})) is None:
        raise UsageError(f"--{name} {value}: there is no such class or function.")
    scheduled = keys[0] == "loss_weights" or keys[0].endswith("_weight")
    if len(keys) == 1 and (name.endswith(("_dir", "_file")) or name in PATHS):
        may_be_several = f"{name}s" in config and isinstance(value, list | tuple)  # such as model_dir, for model_dirs
        for path in value if may_be_several else [value]:
            _check_path(name, path)
    elif isinstance(value, str) and value[:1] in ("$", "@", "%"):
        return
    elif scheduled and isinstance(present, int | float | list):
        _require(name, value, (int, float, list, tuple), "a number, or a list with one for each epoch")
    elif isinstance(present, bool):
        if value is not None and (not isinstance(value, int | str) or value not in (0, 1)):
            _check_switch(name, value)
    elif isinstance(present, int | float):
        _require(name, value, (int, float), f"a number such as {present}")
    elif isinstance(present, list | tuple):
        number = () if present else (int, float)
        example = f'a list such as "{present}"' if present else 'a list such as "[1, 2]"'
        _require(name, value, (list, tuple, *number), example)
        if isinstance(value, list | tuple) and present and all(isinstance(one, int | float) for one in present):
            for one in value:
                _require(name, one, (int, float), example)
            if len(value) != len(present):
                raise UsageError(f"--{name} {value}: give {example}.")
    elif isinstance(present, dict):
        _require(
            name, value, (dict, list), "a mapping; one entry of it is --" + f"{name}#{next(iter(present), 'NAME')}"
        )
    elif isinstance(present, str) and present[:1] not in ("$", "@", "%"):
        _require(name, value, (str,), f"a name such as {present}")


def _check_switch(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise UsageError(f"--{name} {value}: write True or False.")
    require_switches(**{name: value})


def _require(name: str, value: Any, kinds: tuple[type, ...], what: str) -> None:
    if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        raise UsageError(f"--{name} {value}: give {what}.")


def _check_path(name: str, value: Any) -> None:
    """Refuses a path that python-fire or MONAI's parser reads as something else."""
    if value is None:
        return
    if isinstance(value, bool) or value == "":
        raise UsageError(f"--{name}: give a path after it.")
    if not isinstance(value, str):
        raise UsageError(
            f"--{name} {value}: this is read as a {type(value).__name__}, not as a path: begin a name with ./"
        )
    if value[:1] == "$" and Path(value).exists():
        raise UsageError(
            f"--{name} {value}: a value that begins with $ is an expression: write ./{value} for the path."
        )
    if value[:1] not in ("$", "@", "%") and ("#" in value or "::" in value):
        raise UsageError(
            f"--{name} {value}: MONAI's configs cannot hold a path with '#' or '::': rename the folder, or give a link "
            "to it (ln -s)."
        )
