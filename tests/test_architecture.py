"""Which room of the package may import which: the table of `bundle/docs/architecture.md`, held against the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BUNDLE

PACKAGE = BUNDLE / "sifa"
ALLOWED = {  # beside `utils` and a room's own modules
    "utils": set(),
    "networks": set(),
    "transforms": set(),
    "postprocessing": set(),
    "metrics": set(),
    "io": set(),
    "data": {"io", "transforms"},
    "planning": {"data", "fingerprint", "io", "transforms"},
    "fingerprint": {"data", "io", "transforms", "postprocessing"},
    "training": {"networks", "data", "fingerprint"},
    "adaptation": {"training", "networks", "data", "transforms", "postprocessing"},
    "reports": {"transforms", "metrics"},
    "inference": {"networks", "io", "transforms", "postprocessing", "fingerprint", "reports"},
    "quality_control": {"networks", "data", "io", "transforms", "postprocessing", "fingerprint", "inference"},
    "handlers": {"adaptation", "training", "data", "networks", "metrics", "reports"},
    "api": {"networks", "io", "transforms", "fingerprint", "inference", "quality_control"},
    "monailabel": {"data", "fingerprint", "inference", "io", "quality_control", "training", "transforms"},
}


def room_of(module: str) -> str:
    """Returns the room of `sifa.room.module`; an empty string for `sifa` itself, which holds the version only."""
    return module.split(".")[1] if "." in module else ""


def imports_of(path: Path) -> Iterator[str]:
    """Yields the modules of the package that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from [str(node.module)] if node.module != "sifa" else [f"sifa.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_rooms_that_its_own_room_may_use(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if relative.as_posix() == "__init__.py":
        return
    room = relative.parts[0].removesuffix(".py")
    used = {room_of(module) for module in imports_of(path) if module.split(".")[0] == "sifa"}
    assert used - {"", "__version__", "utils", room} <= ALLOWED[room]


def test_every_room_is_in_the_table_and_no_module_lies_loose() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ALLOWED)
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


HEAVY = ("sifa.reports.previews", "sifa.fingerprint.extractor", "sifa.training", "sifa.adaptation")


def test_importing_inference_loads_nothing_that_draws_or_trains() -> None:
    # matplotlib itself is loaded all the same: MONAI imports it
    code = f"import sys, sifa.inference; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
