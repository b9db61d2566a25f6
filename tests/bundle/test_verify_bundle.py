"""The table of checks: green on this bundle, and each fault turns its own row red."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import read_json
from conftest import BUNDLE, run_script

pytestmark = pytest.mark.slow

SCHEMA = {  # what the published schema asks of the entries that these tests break
    "type": "object",
    "properties": {"version": {"type": "string"}, "task": {"type": "string"}},
    "required": ["schema", "version", "task", "network_data_format"],
}


def verify(bundle: Path, folder: Path, *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Runs the script and returns its exit status and, by check, what it found."""
    rows = folder / "rows.json"
    result = run_script("verify_bundle.py", str(bundle), *flags, f"--json={rows}", check=False)
    assert rows.is_file(), result.stderr
    return result.returncode, {row["check"]: row for row in read_json(rows)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundle, to break, without its docs' pictures."""
    ignored = shutil.ignore_patterns("__pycache__", "eval", "output", "*.png")
    return Path(shutil.copytree(BUNDLE, tmp_path / "a copy", ignore=ignored))


def change_metadata(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / "configs" / "metadata.json"
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def with_large_file(bundle: Path) -> None:
    with open(bundle / "models" / "generator.bin", "wb") as stream:
        stream.truncate(26 * 2**20)


FAULTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "no license": ("license", lambda bundle: (bundle / "LICENSE").unlink()),
    "no weights": ("files", lambda bundle: (bundle / "models" / "model.pt").unlink()),
    "metadata cut short": ("files", lambda bundle: append(bundle / "configs" / "metadata.json", "}")),
    "version without changelog": ("version", lambda bundle: change_metadata(bundle, lambda m: m["changelog"].clear())),
    "another version in the package": (
        "version",
        lambda bundle: (bundle / "sifa" / "__init__.py").write_text('__version__ = "9.9.9"\n', encoding="utf-8"),
    ),
    "a file over 25 MB": ("file sizes", with_large_file),
    "somebody's home": ("absolute paths", lambda bundle: append(bundle / "docs" / "README.md", "\n/home/me/scans\n")),
    "somebody's disk": (
        "absolute paths",
        lambda bundle: replace(bundle / "configs" / "train.yaml", "dataset_dir: ./data", "dataset_dir: /data/mr"),
    ),
    "a heading left out": (
        "readme",
        lambda bundle: replace(bundle / "docs" / "README.md", "## Performance", "## How good it is"),
    ),
    "no data license": ("data license", lambda bundle: (bundle / "docs" / "data_license.txt").unlink()),
    "metadata without a task": ("metadata schema", lambda bundle: change_metadata(bundle, lambda m: m.pop("task"))),
    "no trainer": ("train properties", lambda bundle: replace(bundle / "configs" / "train.yaml", "  trainer:", "  t:")),
    "no inferer": (
        "inference properties",
        lambda bundle: replace(bundle / "configs" / "inference.yaml", "evaluator:", "segmenter:"),
    ),
    "another number of classes": (
        "network in and out",
        lambda bundle: change_metadata(
            bundle, lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=7)
        ),
    ),
    "weights of another network": (
        "TorchScript",
        lambda bundle: replace(bundle / "models" / "fingerprint.json", '"width": 0.25', '"width": 0.5'),
    ),
    "TorchScript that does not load": (
        "TorchScript",
        lambda bundle: (bundle / "models" / "model.ts").write_bytes(b"cut short"),
    ),
}


def test_every_check_of_this_bundle_passes(tmp_path: Path) -> None:
    status, rows = verify(BUNDLE, tmp_path)
    skipped = {"metadata schema"} if rows["metadata schema"]["result"] == "skipped" else set()
    assert {name: row["detail"] for name, row in rows.items() if row["result"] == "failed"} == {}
    assert {name for name, row in rows.items() if row["result"] == "skipped"} == skipped
    assert len(rows) == 12
    assert status == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_turns_its_row_red(fault: str, copy: Path, tmp_path: Path) -> None:
    check, break_it = FAULTS[fault]
    if check == "metadata schema" and importlib.util.find_spec("jsonschema") is None:
        pytest.skip("verify_metadata needs jsonschema, which is not installed")
    break_it(copy)
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    status, rows = verify(copy, tmp_path, f"--only={check}", f"--schema={schema}")
    assert rows[check]["result"] == "failed"
    assert rows[check]["detail"]
    assert status == 1


def test_without_a_schema_the_row_says_skipped_and_nothing_is_downloaded(copy: Path, tmp_path: Path) -> None:
    change_metadata(copy, lambda metadata: metadata.update(schema="http://127.0.0.1:9/no_such_schema.json"))
    status, rows = verify(copy, tmp_path, "--only=metadata schema")
    assert rows["metadata schema"]["result"] == "skipped"
    assert "--schema" in rows["metadata schema"]["detail"]
    assert status == 0


def test_the_table_is_printed_with_the_reason_of_a_failure(copy: Path) -> None:
    (copy / "LICENSE").unlink()
    result = run_script("verify_bundle.py", str(copy), "--only=license,data license", check=False)
    lines = [line for line in result.stdout.splitlines() if "│" in line]
    assert "failed" in lines[0]
    assert "LICENSE is missing" in lines[0]
    assert "passed" in lines[1]
    assert result.returncode == 1


def test_checking_leaves_nothing_in_the_bundle(copy: Path, tmp_path: Path) -> None:
    before = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    verify(copy, tmp_path, "--only=network in and out,TorchScript,absolute paths")
    assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == before


def test_an_unknown_check_or_folder_is_refused(tmp_path: Path) -> None:
    unknown = run_script("verify_bundle.py", str(BUNDLE), "--only=licence", check=False)
    assert unknown.returncode == 1
    assert "choose from license, files" in unknown.stderr
    absent = run_script("verify_bundle.py", str(tmp_path / "nothing"), check=False)
    assert absent.returncode == 1
    assert "is not a folder" in absent.stderr
