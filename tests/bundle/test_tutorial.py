"""The commands of the tutorial, as they stand there, on a tiny phantom and with tiny networks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BUNDLE, ROOT, TINY, as_flags

pytestmark = pytest.mark.slow

TUTORIAL = (BUNDLE / "docs" / "tutorial.md").read_text(encoding="utf-8")


def commands() -> str:
    """Returns all commands but those that set up an environment and generate the phantom; networks are tiny."""
    _, arrange, *others = re.findall(r"^```\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)
    generate, arrange = arrange.split("\n", 1)
    assert generate == "python scripts/make_phantom.py PHANTOM"
    tiny = " ".join(as_flags(TINY))
    for number, command in enumerate(others):
        if "run training" in command:
            others[number] = command.replace("--resume auto", f"--resume auto {tiny}")
        if "run planning" in command:
            others[number] = command.rstrip("\n") + f" --minutes 1 {tiny}\n"
    return "\n".join([arrange, *others])


def test_the_tutorial_leads_from_two_nnunet_data_sets_to_masks_and_a_table(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "PHANTOM").symlink_to(phantom)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-e", "-c", commands()],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "BUNDLE": str(BUNDLE)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "RUN" / "plan.yaml").is_file()
    assert (tmp_path / "RUN" / "report.html").is_file()
    manifest = json.loads((tmp_path / "MASKS" / "manifest.json").read_text(encoding="utf-8"))
    assert [case["input"] for case in manifest["cases"]] == ["ct_test_000_0000.nii.gz", "ct_test_001_0000.nii.gz"]
    results = json.loads((tmp_path / "RESULTS" / "results.json").read_text(encoding="utf-8"))
    assert list(results["metrics"]["mean_dice"]["structures"]) == [
        "myocardium",
        "left atrium",
        "left ventricle",
        "aorta",
    ]


def test_pictures_of_the_tutorial_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", TUTORIAL)
    assert pictures == ["tutorial_report.png", "tutorial_index.png"]
    assert all((BUNDLE / "docs" / picture).is_file() for picture in pictures)
