"""Merging the manifests of shards: whole and without overlap, or a sentence that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import read_json, refusal
from sifa.inference.case import Case
from sifa.inference.manifest_file import CaseFile
from sifa.inference.merge_shards import merge_shards


def write_shard(folder: Path, shard: int, count: int, *names: str) -> None:
    cases = [Case(f"{name}.nii.gz", "ok", f"{name}_seg.nii.gz", model="tiny") for name in names]
    CaseFile(folder / f"manifest.shard-{shard}-of-{count}.json", cases).write()


def test_shards_are_merged_into_one_manifest(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 3, "a", "d")
    write_shard(tmp_path, 1, 3, "b")
    write_shard(tmp_path, 2, 3)
    merge_shards(tmp_path)
    content = read_json(tmp_path / "manifest.json")
    assert [one["input"][0] for one in content["cases"]] == ["a", "b", "d"]
    assert content["counts"]["ok"] == 3


def test_shards_that_overlap_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 2, "a", "b")
    write_shard(tmp_path, 1, 2, "b")
    assert "b.nii.gz is also listed in another shard" in refusal(lambda: merge_shards(tmp_path))
    assert not (tmp_path / "manifest.json").exists()


def test_shards_of_runs_of_different_size_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 2, "a")
    write_shard(tmp_path, 1, 2, "b")
    for shard, name in enumerate("xab"):
        write_shard(tmp_path, shard, 3, name)
    assert "is also listed in another shard" in refusal(lambda: merge_shards(tmp_path))


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, 3, "a")
    write_shard(tmp_path, 2, 3, "b")
    assert "manifest.shard-1-of-3.json: it is missing" in refusal(lambda: merge_shards(tmp_path))


@pytest.mark.parametrize("name", ["manifest.json", "manifest.shard-0-of-two.json"])
def test_a_folder_without_shards_is_named(name: str, tmp_path: Path) -> None:
    CaseFile(tmp_path / name).write()
    assert str(tmp_path) in refusal(lambda: merge_shards(tmp_path))
