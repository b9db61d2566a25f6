"""Wrong commands through the real command line: one sentence with what is meant, status 2, before any work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import BUNDLE, run_python
from sifa.utils.command import COMMAND
from sifa.utils.command_checks import _explained, check_command
from sifa.utils.errors import missing_package
from sifa.utils.overlays import NEEDS

CONFIGS = BUNDLE / "configs"
STANDALONE = ("train.yaml", "inference.yaml", "terminology.yaml")
OVERLAYS = sorted(file.name for file in CONFIGS.glob("*.yaml") if file.name not in STANDALONE)


def listed(*stems: str) -> str:
    """Returns the value of --config_file that lists configs of the bundle."""
    return "[" + ",".join(f"'{CONFIGS / stem}.yaml'" for stem in stems) + "]"


def run(command: str, folder: Path, *configs: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m monai.bundle run`: `command`, then the configs, a data folder and an output folder."""
    flags = ["--config_file", listed(*configs)] if configs else []
    if configs and "--dataset_dir" not in command:
        flags += ["--dataset_dir", str(folder / "data"), "--output_dir", str(folder / "out")]
    words = [word.replace("CONFIGS", str(CONFIGS)) for word in shlex.split(command)]
    return run_python(["-m", "monai.bundle", "run", *words, *flags], folder, check=False)


def usage_error(result: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Returns the one sentence of a refused command, of which nothing else is left."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "out").exists()
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


TRAIN, COMPACT, RECOMMENDED, INFERENCE = (
    ("train",),
    ("train", "compact"),
    ("train", "recommended", "compact"),
    ("inference",),
)


@pytest.mark.parametrize(
    ("command", "configs", "words"),
    [
        ("training --batchsize 1", COMPACT, "did you mean --batch_size?"),
        ("training --epoch 1", TRAIN, "did you mean --epochs?"),
        ("training --ema_decay 0.9", COMPACT, "--ema_decay is an option of recommended.yaml: add recommended.yaml"),
        ("training --average_decay 0.9", RECOMMENDED, "did you mean --ema_decay?"),
        ("training --average_decay 0.9", TRAIN, "did you mean --ema_decay (of recommended.yaml"),
        ("training --refinement_iterations 3", TRAIN, "did you mean --pamr_iterations?"),
        ("training --learning_rate 5", TRAIN, "did you mean --segmenter_lr?"),
        ("training --zzzzz 5", TRAIN, "--zzzzz: there is no such option: --help lists the options"),
        ("training --network_def#widht 2", TRAIN, "did you mean --network_def#width?"),
        ("training --train#dataloader#num_worker 2", TRAIN, "did you mean --train#dataloader#num_workers?"),
        ("training --intensity#CT#wdith 2", TRAIN, "intensity#CT has no entry wdith"),
        ("inference --modeldir RUN", INFERENCE, "did you mean --model_dir?"),
        ("inference --largest_components [1]", INFERENCE, "did you mean --largest_component?"),
        ("inference --inferer#overlapp 0.5", INFERENCE, "did you mean --inferer#overlap?"),
        ("inference --pamr_iterations 0", INFERENCE, "did you mean --inferer#pamr_iterations?"),
        ("inference --spatial_prior False", INFERENCE, "did you mean --inferer#spatial_prior?"),
        ("inference --region_margin 3", INFERENCE, "did you mean --inferer#region_margin?"),
    ],
)
def test_an_unknown_option_is_refused_with_what_is_meant(
    command: str, configs: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    assert words in usage_error(run(command, tmp_path, *configs), tmp_path)


@pytest.mark.parametrize(
    ("command", "configs", "words"),
    [
        ("training --slice_size 64", COMPACT, '--slice_size 64: give a list such as "[64, 64]"'),
        ("training --slice_size [64]", COMPACT, 'give a list such as "[64, 64]"'),
        ("training --slice_size [a,b]", COMPACT, 'give a list such as "[64, 64]"'),
        ("training --epochs abc", TRAIN, "--epochs abc: give a number such as 20"),
        ("training --epochs", TRAIN, "give a number such as 20"),
        ("training --epochs 0", TRAIN, "--epochs 0: give a whole number from 1"),
        ("training --epochs 2.5", TRAIN, "--epochs 2.5: give a whole number from 1"),
        ("training --iterations_per_epoch 0", TRAIN, "--iterations_per_epoch 0: give a whole number from 1"),
        ("training --val_interval -1", TRAIN, "--val_interval -1: give a whole number from 0"),
        ("training --lr_gamma 0", TRAIN, "--lr_gamma 0: give a positive number"),
        ("training --seed abc", TRAIN, "--seed abc: give a number such as 0"),
        (
            "training --loss_weights#segmenter#segmentation abc",
            TRAIN,
            "give a number, or a list with one for each epoch",
        ),
        ("training --method SIFA", TRAIN, "--method SIFA: give a mapping"),
        ("training --method#_target_ sifa.adaptation.None", TRAIN, "sifa.adaptation.None: there is no such class"),
        ("training --on_nan 3", TRAIN, "--on_nan 3: give a name such as stop"),
        ("training --keep_epochs 3", TRAIN, "--keep_epochs 3: write True or False"),
        ("training --resume", TRAIN, "--resume: give a path after it"),
        ("training --pool_seed @seeed", TRAIN, "refers to an entry of the config"),
        ("training --device foo", TRAIN, "--device foo: there is no such device here: choose cpu"),
        ("inference --device cuda:99", INFERENCE, "--device cuda:99: there is no such device here: choose cpu"),
        ("inference --overwrite no", INFERENCE, "--overwrite no: write True or False"),
        ("inference --region_step -5", INFERENCE, "--region_step -5: give a positive number"),
        ("inference --inferer#overlap abc", INFERENCE, "--inferer#overlap abc: give a number such as 0.25"),
        ("inference --dataset_dir /x/IN#H", INFERENCE, "--dataset_dir /x/IN#H: MONAI's configs cannot hold a path"),
        ("inference --dataset_dir @x", INFERENCE, "a path is ./@x"),
        ("inference --dataset_dir $x", INFERENCE, "--dataset_dir $x: it cannot be used (NameError"),
        ("inference --dataset_dir 2024", INFERENCE, "--dataset_dir 2024: this is read as"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(
    command: str, configs: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    assert words in usage_error(run(command, tmp_path, *configs), tmp_path)


@pytest.mark.parametrize(
    ("command", "configs", "words"),
    [
        ("train", TRAIN, "run train: did you mean training?"),
        ("run train", TRAIN, "train: MONAI reads it as --init_id"),
        ("epochs", TRAIN, "run epochs: there is no such run: these configs have training and planning"),
        ("foo", TRAIN, "run foo: there is no such run: these configs have training and planning"),
        ("plan", TRAIN, "run plan: did you mean planning?"),
        ("planning", INFERENCE, "run planning: planning needs train.yaml"),
        (
            "planning",
            ("train", "multi_gpu_train"),
            "run planning: planning needs train.yaml: these configs have training",
        ),
        ("validate", TRAIN, "evaluating needs train.yaml and evaluate.yaml"),
        ("evaluating", TRAIN, "evaluating needs train.yaml and evaluate.yaml"),
        ("infer", INFERENCE, "run infer: did you mean inference?"),
        ("evaluating", INFERENCE, "these configs have inference and merge"),
        ("training", INFERENCE, "training needs train.yaml"),
        ("training extra", TRAIN, "extra: MONAI reads it as --init_id"),
        ("training --config_file CONFIGS/train.yaml - extra", (), "Could not consume arg: extra"),
        ("training CONFIGS/compact.yaml", TRAIN, f'several configs are one list: --config_file "{listed(*COMPACT)}"'),
        ("CONFIGS/compact.yaml", TRAIN, f'several configs are one list: --config_file "{listed(*COMPACT)}"'),
    ],
)
def test_an_id_that_runs_nothing_is_refused(command: str, configs: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in usage_error(run(command, tmp_path, *configs), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_alone_or_before_train_yaml_is_refused(overlay: str, tmp_path: Path) -> None:
    stem = overlay.removesuffix(".yaml")
    needed = (NEEDS[stem],) if stem in NEEDS else ()
    alone, first = (
        usage_error(run("training", tmp_path, *configs), tmp_path) for configs in ((stem,), (stem, "train"))
    )
    for error in (alone, first):
        assert f"{overlay} is an overlay and comes after train.yaml" in error
        assert error.endswith(f'write --config_file "{listed("train", *needed, stem)}".')


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (("train", "source_only", "recommended"), ("train", "recommended", "source_only")),
        (("train", "source_only", "simultaneous"), ("train", "simultaneous", "source_only")),
        (("train", "recommended", "recommended"), ("train", "recommended")),
        (("train", "supervised"), ("train", "source_only", "supervised")),
        (("train", "abdomen", "compact"), ("train", "compact", "abdomen")),
        (("train", "released_slices", "compact"), ("train", "compact", "released_slices")),
        (("train", "released_slices", "recommended"), ("train", "recommended", "released_slices")),
        (("train", "multi_gpu_train", "compact"), ("train", "compact", "multi_gpu_train")),
        (("train", "evaluate", "adapt_batch_norm"), ("train", "evaluate")),
        (("inference", "compact"), ("inference",)),
    ],
)
def test_overlays_in_an_order_in_which_one_undoes_another_are_refused(
    given: tuple[str, ...], right: tuple[str, ...], tmp_path: Path
) -> None:
    error = usage_error(run("training", tmp_path, *given), tmp_path)
    assert error.endswith(f'write --config_file "{listed(*right)}".')


def test_every_config_reports_errors_alike_and_is_readable_without_the_others() -> None:
    contents = {name: yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")) for name in OVERLAYS}
    train, inference = (yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8")) for name in STANDALONE[:2])
    for name, content in contents.items():
        assert content["initialize"] == train["initialize"] == inference["initialize"], name
        assert not [key for key in content if "#" in key], name


def test_an_overlay_alone_is_refused_with_the_list_to_write(tmp_path: Path) -> None:
    error = usage_error(run("training", tmp_path, "compact"), tmp_path)
    assert error.endswith(f'write --config_file "{listed(*COMPACT)}".')


def test_several_processes_without_multi_gpu_train_yaml_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "add multi_gpu_train.yaml" in usage_error(run("training", tmp_path, *COMPACT), tmp_path)


def test_help_among_the_options_lists_runs_and_options_and_runs_nothing(tmp_path: Path) -> None:
    result = run("training --help", tmp_path, *RECOMMENDED)
    assert result.returncode == 0
    assert "runs of these configs: training, planning\n" in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  --")}
    assert "  --width 0.25 " in lines["--width"]
    assert "the paper's" in lines["--width"]
    assert "--ema_decay" in lines
    assert not {"--method", "--initialize", "--training"} & set(lines)
    assert not (tmp_path / "out").exists()


def test_a_start_shows_no_lines_of_other_programs_except_in_debugging(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.nii.gz").write_text("no image", encoding="utf-8")
    notices = ("NvImgCodec", "input summary", "Setting logging properties")
    plain = run("inference", tmp_path, *INFERENCE)
    assert not [notice for notice in notices if notice in plain.stdout + plain.stderr]
    debugging = run("inference --logging_file CONFIGS/logging_debug.conf", tmp_path, *INFERENCE)
    assert [notice for notice in notices if notice in debugging.stdout + debugging.stderr] == list(notices)


def documented() -> list[str]:
    """Returns the commands of the documents, each in one line, with the folder of the configs filled in."""
    texts = [file.read_text(encoding="utf-8") for file in (*BUNDLE.parent.glob("*.md"), *BUNDLE.glob("docs/*.md"))]
    lines = [line for text in texts for line in text.replace("\\\n", " ").splitlines()]
    commands = [line.split("monai.bundle run ")[1] for line in lines if "monai.bundle run " in line and "--" in line]
    complete = [command for command in commands if "$CONFIGS" not in command and "`" not in command]
    in_full = [re.sub(r"\[(--\w+ \w+)\]", r"\1", command) for command in complete]
    filled = [re.sub(r"[\w$./]*configs/", f"{CONFIGS}/", command) for command in in_full]
    return [command.replace("NAME.yaml", "authors.yaml").replace("$overlay", "authors") for command in filled]


def benchmarked() -> list[str]:
    """Returns the commands of the methods of `scripts/benchmark.yaml`, on both data sets."""
    declared = yaml.safe_load((BUNDLE.parent / "scripts" / "benchmark.yaml").read_text(encoding="utf-8"))
    commands = []
    for method in declared["methods"].values():
        for data in (["compact"], ["compact", "abdomen"]):
            before, after = ([Path(name).stem for name in method.get(key, ())] for key in ("base", "configs"))
            measured = method.get("run") == "evaluating"
            configs = ["train", "evaluate"] if measured else ["train", *before, *data, *after]
            flags = [part for name, value in method.get("options", {}).items() for part in (f"--{name}", str(value))]
            words = [method.get("run", "training"), "--config_file", listed(*configs), *flags]
            commands.append(shlex.join(words))
    return commands


@pytest.mark.parametrize("command", [*documented(), *benchmarked()])
def test_each_command_of_the_documents_and_of_the_benchmark_is_accepted(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "plan.yaml").write_text("epochs: 15\n", encoding="utf-8")  # as `run planning` writes it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", lambda *error: None)
    monkeypatch.setattr(sys, "argv", [COMMAND, "run", *shlex.split(command)])
    check_command()


def test_a_process_that_is_no_command_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = sys.excepthook
    monkeypatch.setattr(sys, "argv", ["monailabel", "run", "--modeldir", "x"])
    check_command()
    assert sys.excepthook is hook


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it() -> None:
    error = RuntimeError("Failed to instantiate component")
    error.__cause__ = ModuleNotFoundError("No module named 'skimage'")
    assert "skimage is not installed: pip install scikit-image" in str(missing_package(error))
    error.__cause__ = ModuleNotFoundError("No module named 'sifa.nothing'")
    assert missing_package(error) is None


def test_importing_the_errors_does_not_load_torch() -> None:
    code = "import sys, sifa.utils.errors; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_command_is_judged_once_and_not_again_by_configs_that_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "train.yaml"
    config.write_text((CONFIGS / "train.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    command = [COMMAND, "run", "training", "--config_file", str(config), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    check_command()
    config.unlink()
    check_command()
    with pytest.raises(RuntimeError, match="out of memory"):
        raise _explained(RuntimeError("out of memory"))


@pytest.mark.parametrize(
    ("command", "configs", "words"),
    [
        ("evaluating --pamr_iterations 5", ("train", "evaluate"), "--pamr_iterations: it has no effect on evaluating"),
        ("adapting --epochs 5", ("train", "adapt_batch_norm"), "--epochs: it has no effect on adapting"),
        ("training", ("train", "evaluate"), "these configs have evaluating"),
        ('inference --dataset_dir ""', INFERENCE, "--dataset_dir: give a path after it"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    command: str, configs: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    assert words in usage_error(run(f'{command} --config_file "{listed(*configs)}"', tmp_path), tmp_path)


def test_an_entry_of_an_overlay_that_nothing_uses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr_gama: 0.5\nown: 3\nlr_step_epochs: '@own'\n", encoding="utf-8")
    files = f"['{CONFIGS / 'train.yaml'}','{tmp_path / 'mine.yaml'}']"
    result = run(f'training --config_file "{files}" --dataset_dir x --output_dir y', tmp_path)
    assert "nothing uses its entry lr_gama: did you mean lr_gamma?" in usage_error(result, tmp_path)
