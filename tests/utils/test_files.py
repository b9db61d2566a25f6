"""Files are written completely or not at all, even if the process is killed while writing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sifa.utils.files import temporary_beside, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from sifa.utils.files import temporary_beside
with temporary_beside(Path(sys.argv[1])) as temporary:
    temporary.write_text("half", encoding="utf-8")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")

    def fail() -> None:
        with temporary_beside(tmp_path / "a.json") as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "a_seg.nii.gz"
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].startswith(".")
    write_text(tmp_path / "b_seg.nii.gz", "another file")
    assert len(names(tmp_path)) == 2
    write_text(target, "whole")
    assert names(tmp_path) == ["a_seg.nii.gz", "b_seg.nii.gz"]


@pytest.mark.skipif(os.name == "nt", reason="there every process counts as running")
def test_what_a_running_process_writes_is_left_to_it(tmp_path: Path) -> None:
    with temporary_beside(tmp_path / "a.json") as mine:
        mine.write_text("mine", encoding="utf-8")
        write = "from sifa.utils.files import write_text; "
        write += f"from pathlib import Path; write_text(Path({str(tmp_path / 'a.json')!r}), 'theirs')"
        subprocess.run([sys.executable, "-c", write], check=True)
        assert mine.is_file()
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_another_machine_writes_is_left_to_it(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    elsewhere = KILLED.replace("import os", "import platform; platform.node = lambda: 'elsewhere'; import os")
    subprocess.run([sys.executable, "-c", elsewhere, str(target)], check=False)
    (theirs,) = names(tmp_path)
    write_text(target, "mine")
    assert names(tmp_path) == sorted([theirs, "a.json"])


@pytest.mark.parametrize("ending", [".nii.gz", ".png", ".json"])
def test_a_name_as_long_as_the_file_system_allows_can_be_written(ending: str, tmp_path: Path) -> None:
    target = tmp_path / ("n" * (255 - len(ending)) + ending)
    with temporary_beside(target) as temporary:
        assert temporary.name.endswith(ending)
        temporary.write_text("whole", encoding="utf-8")
    assert names(tmp_path) == [target.name]
