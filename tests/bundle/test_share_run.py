"""The zip of a trained run: it works alone, says what the run holds, and tells nothing about machine and patients."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import read_json
from conftest import BUNDLE, ROOT, SHARED, run_bundle, run_script
from package_bundle import find_files
from sharing.methods import describe_method, plain_settings
from sharing.model_card import MARKER, model_card
from sharing.run_metadata import run_metadata
from sharing.trained_run import PATH, TrainedRun, read_run
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.utils.files import HOST

NAME = "tiny_heart"


@dataclass
class Packed:
    """A packed run: the zip, its folder unzipped under another name, and what the command printed."""

    archive: Path
    folder: Path
    printed: list[str]

    def text(self, inside: str) -> str:
        return (self.folder / inside).read_text(encoding="utf-8")


def pack(run: Path, folder: Path, *flags: str) -> Packed:
    """Packs a run and unzips it."""
    flags = (f"--model_dir={run}", f"--name={NAME}", f"--output_dir={folder}", *flags)
    printed = run_script("package_bundle.py", *flags).stdout.splitlines()
    archive = Path(printed[0])
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return Packed(archive, (folder / NAME).rename(folder / "another name"), printed)


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run in a folder whose path says who made it, as an author would have it."""
    folder = tmp_path_factory.mktemp("doctor_who") / "run"
    return Path(shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints", "images")))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(run, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def evaluation(phantom: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results.json of the run, measured by the command."""
    folder = tmp_path_factory.mktemp("evaluation")
    options: dict[str, Any] = {"dataset_dir": phantom, "model_dir": run, "output_dir": folder, "resamples": 20}
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], **options)
    return folder / "results.json"


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def rows_of(text: str) -> list[list[str]]:
    """Returns the cells of all table rows of a Markdown text."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_unzipped_folder_makes_the_same_bytes_as_the_run(
    phantom: Path, run: Path, packed: Packed, tmp_path: Path
) -> None:
    scans = phantom / "ct_images"
    for name, options in (("run", {"model_dir": run}), ("zip", {"bundle": packed.folder})):
        output = tmp_path / name
        run_bundle("inference", ["inference.yaml"], cwd="/", dataset_dir=scans, output_dir=output, **options)  # type: ignore[arg-type]

    masks = {name: sorted((tmp_path / name).rglob("*_seg.nii.gz")) for name in ("run", "zip")}
    assert len(masks["run"]) == len(masks["zip"]) == 5
    for one, other in zip(masks["run"], masks["zip"], strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_command_started_in_another_bundle_does_not_use_its_weights(
    phantom: Path, packed: Packed, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dataset_dir": phantom / "ct_images", "output_dir": tmp_path / "out", "check": False}
    result = run_bundle("inference", ["inference.yaml"], bundle=packed.folder, cwd=BUNDLE, **options)

    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"it belongs to the bundle in {packed.folder}" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_unzipped_folder_passes_the_checks_of_the_model_zoo(packed: Packed, tmp_path: Path) -> None:
    checks = "license,files,version,file sizes,absolute paths,readme,data license,metadata schema,network in and out"
    rows = tmp_path / "rows.json"
    run_script("verify_bundle.py", str(packed.folder), f"--only={checks}", f"--json={rows}")

    results = {row["check"]: row["result"] for row in json.loads(rows.read_text(encoding="utf-8"))}
    schema = results.pop("metadata schema")
    assert set(results.values()) == {"passed"}
    assert schema == ("passed" if (SHARED / "data").is_dir() else "skipped")


def test_the_zip_holds_the_files_of_the_bundle_and_one_folder_with_its_pages(packed: Packed) -> None:
    found = {name.removeprefix(f"{NAME}/") for name in zipfile.ZipFile(packed.archive).namelist()}
    ours = {name for name, _ in find_files(BUNDLE)}
    pages = {name for name in ours if name.startswith("docs/")}

    own = {"docs/README.md", "docs/data_license.txt"}
    moved = {name.replace("docs/", "docs/bundle/") for name in pages}
    assert found == ours - pages | own | moved
    assert packed.archive.name == f"{NAME}_v{read_json(BUNDLE / 'configs' / 'metadata.json')['version']}.zip"
    for page in (*packed.folder.glob("docs/bundle/*.md"), packed.folder / "docs" / "bundle" / "data_license.txt"):
        assert "docs/README.md` describes these" in page.read_text(encoding="utf-8").splitlines()[0]


def test_nothing_in_the_zip_tells_paths_machine_or_cases(phantom: Path, trained: Path, packed: Packed) -> None:
    entries = zipfile.ZipFile(packed.archive)
    data = read_json(phantom / "dataset.json")
    cases = {
        Path(item["image"]).name.split(".")[0]
        for domain in ("source", "target")
        for items in data[domain].values()
        if isinstance(items, list)
        for item in items
    }
    secret = [str(phantom), str(trained), str(packed.archive.parent), "doctor_who", HOST, *cases]
    made = {f"{NAME}/{name}" for name in ("models/model.pt", "models/fingerprint.json", "configs/metadata.json")}
    made |= {f"{NAME}/docs/README.md", f"{NAME}/docs/data_license.txt"}

    assert len(cases) == 7
    assert f"{HOST}" in str(zipfile.ZipFile(trained / "model.pt").namelist())  # which is why the weights are saved anew
    for name in entries.namelist():
        content = entries.read(name)
        words = secret if name in made else secret[:4]  # pages of the bundle name scans of the phantom
        assert not [word for word in words if word.encode() in content], name


def test_the_weights_in_the_zip_are_those_of_the_run(run: Path, packed: Packed) -> None:
    ours, theirs = (torch.load(folder / "model.pt", weights_only=True) for folder in (run, packed.folder / "models"))

    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read_fingerprint(run / "fingerprint.json") == read_fingerprint(packed.folder / "models/fingerprint.json")


def test_the_card_says_what_the_run_holds(run: Path, packed: Packed) -> None:
    card, rows = packed.text("docs/README.md"), rows_of(packed.text("docs/README.md"))
    fingerprint, record = read_json(run / "fingerprint.json"), read_json(run / "run.json")
    weights = (packed.folder / "models" / "model.pt").read_bytes()

    assert f"Trained on: {fingerprint['name']}." in card
    assert ["source, labeled", "MR", "2"] in rows
    assert ["target, without labels", "CT", "2"] in rows
    for value, name in list(fingerprint["labels"].items())[1:]:
        volume = fingerprint["structures"][name]
        assert [value, name, f"{volume['min']:.1f} to {volume['max']:.1f}"] in rows
    assert "SIFA, with all updates of an iteration at once" in card
    assert ["configs", "`train.yaml`, `recommended.yaml`, `compact.yaml`"] in rows
    assert ["epochs", "2"] in rows
    assert f"Slices are coronal, 32 x 32 pixels of {fingerprint['spacing'][0]:g} x" in card
    assert f"clipped to {fingerprint['target']['intensity']['lower']:g} to" in card
    for package, version in record["sessions"][-1]["versions"].items():
        assert f"{package} {version}" in card
    assert f"{len(weights)} bytes, SHA-256 `{hashlib.sha256(weights).hexdigest()}`" in card
    assert "Not measured." in card


def test_the_card_names_the_epoch_with_the_highest_score(copy: Path, tmp_path: Path) -> None:
    with open(copy / "selection.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for scores, best in (((0.3, 0.1), 1), ((0.1, 0.3), 2), ((0.2, 0.2), 2), ((0.2, "nan"), 1)):
        lines = [f"{row['epoch']},{row['iteration']},{score},0,0" for row, score in zip(rows, scores, strict=True)]
        text = "\n".join(["epoch,iteration,score,agreement,plausibility", *lines, ""])
        (copy / "selection.csv").write_text(text, encoding="utf-8")
        assert f"of epoch {best} of 2, selected by a score" in card_of(read_run(copy))
    (copy / "selection.csv").unlink()
    assert "of the last epoch, 2, after 4 iterations" in card_of(read_run(copy))


def card_of(run: TrainedRun, measured: Any = None) -> str:
    return model_card(NAME, run, measured, BUNDLE / "configs")


def test_metadata_and_card_follow_other_modalities_values_and_methods(run: Path) -> None:
    found = read_run(run)
    values = dict(zip(found.fingerprint.labels, (0, 205, 420, 500, 550), strict=True))
    target = replace(found.fingerprint.target, modality="MR", intensity=found.fingerprint.source.intensity)
    other = replace(found.fingerprint, label_values=values, target=target, spacing=(1.5, 1.5, 3.0))
    config = {"method": {"_target_": "sifa.adaptation.SourceOnly"}, "seed": 3, "labeled_target": {"_target_": "x"}}
    changed = replace(found, fingerprint=other, config=config)
    card, metadata = card_of(changed), run_metadata(NAME, changed, None)

    assert ["420", "left atrium blood cavity"] in [row[:2] for row in rows_of(card)]
    assert "across slices, scans are resampled to 3 mm" in card
    assert "without adaptation" in card
    assert "Labels of some target scans were trained on" in card
    assert metadata["label_classes"].startswith("0: background, 205: ")
    assert metadata["network_data_format"]["inputs"]["image"]["format"] == "magnitude"
    assert "HU" not in metadata["image_classes"]
    assert "without adaptation" in metadata["task"]


def test_every_method_has_a_sentence_and_expressions_are_no_settings() -> None:
    import sifa.adaptation

    for name in ("SIFA", "SIFASimultaneous", "DANN", "ADDA", "CycleGAN", "CyCADA", "PnPAdaNet", "MasksAlone"):
        assert hasattr(sifa.adaptation, name)
        sentence = describe_method({"method": {"_target_": f"sifa.adaptation.{name}"}}, "MR", "CT")
        assert sentence.startswith("It was trained on labeled MR and adapted to CT by")
    assert "by my.Own" not in describe_method({"method": {"_target_": "my.Own"}}, "MR", "CT")
    config = {"seed": "$1 + 1", "epochs": 2, "precision": "float32", "match_intensity": {"source": [-1, 0.5]}}
    assert plain_settings({**config, "initial_weights": f"{ROOT}/run"}) == [
        ("epochs", "2"),
        ("precision", "float32"),
        ("match_intensity", "source: [-1, 0.5]"),
        ("initial_weights", "those of another run"),
    ]


def test_card_metadata_and_last_line_name_what_the_author_has_to_fill_in(packed: Packed) -> None:
    last, card = packed.printed[-1], packed.text("docs/README.md")
    metadata = json.loads(packed.text("configs/metadata.json"))

    assert {key for key, value in metadata.items() if MARKER in str(value)} == {"authors", "copyright", "intended_use"}
    assert "(authors, copyright, intended_use)" in last
    fields = re.search(r"To be completed by the author\*\*: (.*?)\. Each", card)
    assert fields is not None
    assert f"docs/README.md ({fields[1]})" in last
    for heading in ("Intended use", "Data", "Limitations"):
        assert MARKER in card.split(f"## {heading}\n")[1].split("\n## ")[0]
    for field in ("License of the data", "Citation of the data", "**Authors**"):
        assert re.search(rf"{re.escape(field)}[^\n]*{re.escape(MARKER)}", card)
    assert MARKER in packed.text("docs/data_license.txt")
    assert "docs/data_license.txt" in last


def test_figures_of_an_evaluation_in_the_run_are_found_and_written_down(
    copy: Path, evaluation: Path, tmp_path: Path
) -> None:
    shutil.copytree(evaluation.parent, copy / "evaluation")
    packed = pack(copy, tmp_path / "dist")
    dice = read_json(evaluation)["metrics"]["mean_dice"]
    metadata = json.loads(packed.text("configs/metadata.json"))

    assert metadata["eval_metrics"]["mean_dice"] == pytest.approx(dice["mean"] / 100, abs=1e-6)
    for name, entry in dice["structures"].items():
        assert metadata["eval_metrics"]["dice"][name] == pytest.approx(entry["mean"] / 100, abs=1e-6)
        (row,) = [row for row in rows_of(packed.text("docs/README.md")) if row[0] == name]
        spread = np.std([value for value in entry["volumes"] if value is not None], ddof=1)
        assert row[1] == f"{entry['mean']:.2f} ± {spread:.2f}"
    assert "2 scans, in their own grid." in packed.text("docs/README.md")
    assert "does not name the weights" not in packed.text("docs/README.md")


def test_figures_without_the_hash_of_the_weights_count_only_when_given_and_are_to_be_confirmed(
    copy: Path, evaluation: Path, tmp_path: Path
) -> None:
    shutil.copy(evaluation, copy / "results.json")
    change_json(copy / "results.json", lambda content: content.pop("weights_sha256"))

    assert "Not measured." in pack(copy, tmp_path / "found").text("docs/README.md")
    given = pack(copy, tmp_path / "given", f"--results={copy}")
    assert "confirm that it measures these weights" in given.text("docs/README.md")
    assert "weights that were measured" in given.printed[-1]


def test_the_same_run_gives_the_same_bytes(run: Path, packed: Packed, tmp_path: Path) -> None:
    assert pack(run, tmp_path).archive.read_bytes() == packed.archive.read_bytes()


def test_the_unzipped_folder_can_be_completed_and_packed_again(packed: Packed, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed.folder, tmp_path / "completed"))
    flags = (f"--bundle={folder}", f"--output_dir={tmp_path}")
    printed = run_script("package_bundle.py", *flags).stdout.splitlines()
    assert Path(printed[0]).name == packed.archive.name
    assert Path(printed[0]).read_bytes() == packed.archive.read_bytes()

    change_json(folder / "configs" / "metadata.json", lambda content: content.update(authors="We"))
    again = Path(run_script("package_bundle.py", *flags).stdout.splitlines()[0])
    metadata = json.loads(zipfile.ZipFile(again).read(f"{NAME}/configs/metadata.json"))
    assert metadata["authors"] == "We"


def test_without_a_run_the_zip_holds_the_files_of_the_bundle_byte_for_byte(tmp_path: Path) -> None:
    printed = run_script("package_bundle.py", f"--output_dir={tmp_path}").stdout.splitlines()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for inside, file in sorted(find_files(BUNDLE)):
            entry = zipfile.ZipInfo(f"{Path(printed[0]).name.split('_v')[0]}/{inside}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, file.read_bytes())

    assert Path(printed[0]).read_bytes() == stream.getvalue()
    assert printed[1:] == [f"sha256 {hashlib.sha256(stream.getvalue()).hexdigest()}"]


def unfinished(run: Path) -> None:
    change_json(run / "run.json", lambda content: content["sessions"][-1].update(ended=None))


def of_two_channels(run: Path) -> None:
    change_json(run / "fingerprint.json", lambda content: content["network"].update(in_channels=2))


def named_by_a_path(run: Path) -> None:
    change_json(run / "fingerprint.json", lambda content: content.update(name=f"scans in {ROOT}/data"))


FAULTS: dict[str, tuple[Callable[[Path], Any], Mapping[str, str], str]] = {
    "no run": (shutil.rmtree, {}, "there is no such folder"),
    "no weights": (lambda run: (run / "model.pt").unlink(), {}, "it holds no model.pt"),
    "no record": (lambda run: (run / "run.json").unlink(), {}, "run.json: there is no such file"),
    "a record of something else": (
        lambda run: (run / "run.json").write_text("[]", encoding="utf-8"),
        {},
        "it is not the record of a training",
    ),
    "unfinished": (unfinished, {}, "this training has not finished"),
    "no fingerprint": (lambda run: (run / "fingerprint.json").unlink(), {}, "there is no fingerprint"),
    "weights of another network": (
        lambda run: shutil.copy(BUNDLE / "models" / "model.pt", run / "model.pt"),
        {},
        "its weights do not fit",
    ),
    "several channels": (of_two_channels, {}, "its network takes 2 channels"),
    "a path as the data set's name": (named_by_a_path, {}, "name holds a path"),
    "no name": (lambda run: None, {"name": ""}, "--name"),
    "a name with a space": (lambda run: None, {"name": "Tiny heart"}, "it is no name of a bundle"),
    "a name with a version": (lambda run: None, {"name": "heart_v2"}, "it is no name of a bundle"),
    "damaged scores": (
        lambda run: (run / "selection.csv").write_text("epoch,iteration,score\n1,4,high\n", encoding="utf-8"),
        {},
        "selection.csv: this is no table of scores",
    ),
    "no results": (lambda run: None, {"results": "nowhere.json"}, "nowhere.json: there is no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_packed_is_refused_in_a_sentence(fault: str, copy: Path, tmp_path: Path) -> None:
    change, options, said = FAULTS[fault]
    change(copy)
    assert_refused(said, tmp_path, **{"model_dir": copy, "name": NAME, **options})


def assert_refused(said: str, folder: Path, **options: Any) -> None:
    """Checks that the command ends with status 2 and one sentence, and writes no zip."""
    before = sorted(folder.glob("dist/*"))
    flags = [f"--{name}={value}" for name, value in {"output_dir": folder / "dist", **options}.items()]
    result = run_script("package_bundle.py", *flags, check=False)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert said in result.stderr
    assert sorted(folder.glob("dist/*")) == before


def test_configs_that_are_not_the_bundles_own_are_not_shared(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("__pycache__", "output", "eval"))
    (bundle / "configs" / "our_hospital.yaml").write_text("dataset_dir: /secret/place\n", encoding="utf-8")
    (bundle / "models" / "notes.txt").write_text("private", encoding="utf-8")
    said = "our_hospital.yaml: it is no config of the bundle, and it would be shared: move it to another folder."
    assert_refused(said, tmp_path, bundle=bundle, model_dir=run, name=NAME)
    (bundle / "configs" / "our_hospital.yaml").unlink()
    run_script(
        "package_bundle.py", f"--bundle={bundle}", f"--model_dir={run}", f"--name={NAME}", f"--output_dir={tmp_path}"
    )
    (archive,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        models = [name for name in content.namelist() if "/models/" in name]
    assert models == [f"{NAME}/models/fingerprint.json", f"{NAME}/models/model.pt"]


def test_results_of_other_labels_or_other_weights_are_refused(run: Path, evaluation: Path, tmp_path: Path) -> None:
    def rename(content: Any) -> None:
        for metric in content["metrics"].values():
            metric["structures"]["liver"] = metric["structures"].pop("ascending aorta")

    changes: dict[str, Callable[[Any], Any]] = {
        "it measures": rename,
        "it measures other weights": lambda content: content.update(weights_sha256="0" * 64),
        "it holds no Dice": lambda content: content["metrics"].pop("mean_dice"),
    }
    for said, change in changes.items():
        changed = tmp_path / "results.json"
        shutil.copy(evaluation, changed)
        change_json(changed, change)
        assert_refused(said, tmp_path, model_dir=run, name=NAME, results=changed)


def test_a_zip_that_exists_is_kept_and_options_without_a_run_are_refused(run: Path, tmp_path: Path) -> None:
    version = read_json(BUNDLE / "configs" / "metadata.json")["version"]
    archive = tmp_path / "dist" / f"{NAME}_v{version}.zip"
    archive.parent.mkdir()
    archive.write_bytes(b"of somebody")

    assert_refused("it exists", tmp_path, model_dir=run, name=NAME)
    assert archive.read_bytes() == b"of somebody"
    assert_refused("give its output folder as --model_dir", tmp_path, name=NAME)
    assert_refused("--name is missing", tmp_path, model_dir=run)


@pytest.mark.parametrize("text", ["/home/me/ct", "~/ct", "C:\\ct", "in /mnt/x/y", "\\\\server\\share", "(~me/ct)"])
def test_paths_are_recognized(text: str) -> None:
    assert PATH.search(text)


@pytest.mark.parametrize("text", ["CHAOS/BTCV", "MR to CT", "T1/T2/FLAIR", "abdomen (MR / CT)", "2: liver, 3: spleen"])
def test_names_with_a_slash_are_no_paths(text: str) -> None:
    assert not PATH.search(text)
