"""The memory that is left: of the machine and of each control group around the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from sifa.utils.errors import InputError
from sifa.utils.memory import available_memory, require_memory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def machine(folder: Path, kib: int, membership: str) -> tuple[Path, Path]:
    write(folder / "proc" / "meminfo", f"MemTotal: 99999999 kB\nMemAvailable:   {kib} kB\n")
    write(folder / "proc" / "self" / "cgroup", membership)
    return folder / "proc", folder / "cgroup"


def test_without_groups_it_is_what_the_machine_has_available(tmp_path: Path) -> None:
    assert available_memory(*machine(tmp_path, 1000, "")) == 1000 * 1024


def test_a_group_of_version_2_limits_it_at_any_level(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 10**6, "0::/outer/inner\n")
    write(groups / "outer" / "memory.max", "5000000\n")
    write(groups / "outer" / "memory.current", "4000000\n")
    write(groups / "outer" / "memory.stat", "anon 5\ninactive_file 700000\n")
    write(groups / "outer" / "inner" / "memory.max", "max\n")
    write(groups / "outer" / "inner" / "memory.current", "1\n")
    assert available_memory(proc, groups) == 1_700_000


def test_a_group_of_version_1_limits_it(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 10**6, "9:name=systemd:/\n4:memory:/job\n")
    write(groups / "memory" / "job" / "memory.limit_in_bytes", "3000000")
    write(groups / "memory" / "job" / "memory.usage_in_bytes", "1000000")
    assert available_memory(proc, groups) == 2_000_000


def test_where_the_system_does_not_say_nothing_is_refused(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) is None


def test_more_than_is_free_is_refused_with_the_name_of_the_scan() -> None:
    require_memory("scan.nii", 1)
    with pytest.raises(InputError, match=r"^scan\.nii: its header declares .* 1000000\.0 GiB of memory, and "):
        require_memory("scan.nii", 10**6 * 2**30)
