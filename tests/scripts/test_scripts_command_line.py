"""The command line of the scripts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, run_python

SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, {scripts!r})
from command_line import run_command_line
from sifa.utils.errors import InputError


def main(output: str, *, seed: int = 0, bad: bool = False, full: bool = False, {more}) -> None:
    \"\"\"Writes the seed.

    Args:
        output: where to.
    \"\"\"
    Path(output).write_text(repr(seed))
    if bad:
        try:
            raise InputError("scan.nii.gz is bad: give another.")
        except InputError as error:
            raise RuntimeError("as MONAI's config parser wraps it") from error
    if full:
        raise OSError(28, "No space left on device")


if __name__ == "__main__":
    run_command_line(main)
"""


def run(folder: Path, *arguments: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a script whose `main` takes `more` parameters."""
    script = folder / "script.py"
    script.write_text(SCRIPT.format(scripts=str(ROOT / "scripts"), more=more), encoding="utf-8")
    return run_python([str(script), *arguments], folder, check=False)


def test_options_reach_the_script_with_their_types(tmp_path: Path) -> None:
    for given in (["out", "--seed", "3"], ["--output=out", "--seed=3"]):
        result = run(tmp_path, *given)

        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert (tmp_path / "out").read_text() == "3"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["out", "--sed", "3"], "--sed"),
        (["out", "3"], "3"),
        (["--seed", "3"], "output"),
        (["out", "--seed=3", "x"], "x"),
    ],
)
def test_what_no_option_takes_is_refused_in_a_sentence_before_the_work(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    result = run(tmp_path, *arguments)

    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("error: ")
    assert f": {named}: " in result.stderr
    assert "--help" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", ["", "**folders: str"])
@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["out", "--help"], ["out", "--seed", "3", "--help"]])
def test_help_shows_the_options_and_does_nothing(tmp_path: Path, arguments: list[str], more: str) -> None:
    result = run(tmp_path, *arguments, more=more)

    assert result.returncode == 0
    assert "Writes the seed." in result.stdout
    assert "--seed" in result.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("--bad", "scan.nii.gz is bad: give another."), ("--full", "[Errno 28] No space left on device")],
)
def test_bad_input_and_a_full_disk_end_with_a_sentence(tmp_path: Path, option: str, sentence: str) -> None:
    result = run(tmp_path, "out", option)

    assert (result.returncode, result.stderr) == (2, f"error: {sentence}\n")


def test_every_script_reads_its_command_line_in_this_way() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")}

    assert [name for name, text in texts.items() if re.search(r"^(import|from) fire\b", text, re.M)] == [
        "command_line.py"
    ]
