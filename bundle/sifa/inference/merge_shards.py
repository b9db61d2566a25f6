"""Merges the manifests of a run that several processes shared."""

from __future__ import annotations

from pathlib import Path

from sifa.inference.case import Case
from sifa.inference.manifest_file import NAME, SHARD, CaseFile, manifest_content, read_cases, shard_name
from sifa.inference.manifest_log import manifest_of
from sifa.inference.volumes_table import VolumesTable
from sifa.reports.case_index import write_index
from sifa.utils.errors import InputError


def merge_shards(output_dir: str | Path) -> None:
    """Writes `manifest.json` and `volumes.csv` from the manifests of all shards, and `index.html` if it has previews.

    Raises:
        InputError: when there is no shard's manifest, one is missing, or shards of different runs overlap.
    """
    folder = Path(output_dir)
    found = {manifest_of(path) for path in folder.glob("manifest.shard-*.json*")}
    shards = sorted(path for path in found if SHARD.fullmatch(path.name))
    if not shards:
        raise InputError(f"{folder}: it holds no manifest.shard-*.json: run inference with --num_shards first.")
    number = max(int(SHARD.sub(r"\1", path.name)) for path in shards)
    for path in (folder / shard_name(shard, number) for shard in range(number)):
        if path not in found:
            raise InputError(f"{path}: it is missing: run that shard to its end first.")
    merged: dict[str, Case] = {}
    for shard in shards:
        for case in read_cases(shard):
            if case.input in merged:
                raise InputError(f"{shard}: {case.input} is also listed in another shard: remove shards of older runs.")
            merged[case.input] = case
    CaseFile(folder / NAME, merged.values()).write()
    VolumesTable(folder).write(merged.values())
    models = sorted({str(case.model) for case in merged.values() if case.preview})
    if models:
        write_index(folder, manifest_content(merged.values()) | {"model": ", ".join(models)})
