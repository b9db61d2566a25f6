"""The cache of slices: same samples, nothing prepared twice, stale or incomplete, and little memory."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import Array, refusal, write_dicom_series
from conftest import BUNDLE
from monai.bundle import ConfigParser
from sifa.data.slice_cache import SliceCache
from sifa.data.unpaired_slices import Draw, UnpairedSampler, UnpairedSlices
from sifa.fingerprint.fingerprint import read_fingerprint
from torch.utils.data import DataLoader

TESTS = Path(__file__).parents[1]
DEPTHS = {"mr_1": 3, "mr_2": 5, "mr_3": 2, "mr_4": 4, "ct_1": 4, "ct_2": 6}  # slices of each volume
KEY = {"spacing": [1.0, 1.0, 0]}


class Preparation:
    """A preprocessing that loads arrays and records the names of the images it was called with."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        self.seen.append(Path(item["image"]).stem)
        return {name: torch.from_numpy(np.load(path)) for name, path in item.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of volumes (1, 6, 5, D) and, for MR, their labels."""
    generator = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for name, depth in DEPTHS.items():
        image = generator.uniform(-1, 1, (1, 6, 5, depth)).astype(np.float32)
        np.save(tmp_path / "data" / f"{name}.npy", image)
        np.save(tmp_path / "data" / f"{name}_label.npy", (image > 0).astype(np.float32))
    return tmp_path / "data"


def items(folder: Path, modality: str) -> list[dict[str, str]]:
    names = [name for name in DEPTHS if name.startswith(modality)]
    return [{"image": str(folder / f"{name}.npy"), "label": str(folder / f"{name}_label.npy")} for name in names]


def slices_of(folder: Path, prepare: Preparation | None = None, **settings: Any) -> UnpairedSlices:
    """Returns the slices of all volumes of the folder, by default with the cache `cache` beside it."""
    load = prepare or Preparation()
    settings = {"cache_dir": folder.parent / "cache", "cache_key": KEY, **settings}
    return UnpairedSlices(items(folder, "mr"), load, items(folder, "ct"), load, **settings)


def prepared_by(folder: Path, **settings: Any) -> list[str]:
    """Returns which volumes had to be prepared."""
    prepare = Preparation()
    slices_of(folder, prepare, **settings)
    return prepare.seen


def all_samples(dataset: UnpairedSlices) -> list[dict[str, torch.Tensor]]:
    return [dataset[Draw(index, index % dataset.target_size, 0)] for index in range(dataset.source_size)]


def assert_same(found: Sequence[Mapping[str, torch.Tensor]], expected: Sequence[Mapping[str, torch.Tensor]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in other)


def cached_files(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache").rglob("*.npy"))


# --- the same samples ---


@pytest.mark.parametrize("cache_rate", [0.0, 0.5, 1.0])
@pytest.mark.filterwarnings("error")  # torch warns of arrays that cannot be written to
def test_samples_are_the_same_from_memory_and_from_the_cache(folder: Path, cache_rate: float) -> None:
    expected = all_samples(slices_of(folder, cache_dir=None))

    assert_same(all_samples(slices_of(folder, cache_rate=cache_rate)), expected)
    assert_same(all_samples(slices_of(folder, cache_rate=cache_rate)), expected)  # found


def test_a_changed_sample_changes_nothing_in_the_cache(folder: Path) -> None:
    dataset = slices_of(folder, cache_rate=0)
    before = dataset[Draw(0, 0, 0)]
    dataset[Draw(0, 0, 0)]["source_image"].zero_()

    assert_same([dataset[Draw(0, 0, 0)]], [before])


def test_the_cache_rate_is_the_share_of_each_domain_that_memory_holds(folder: Path) -> None:
    for cache_rate, source, target in ((0.0, 0, 0), (0.25, 3, 0), (0.5, 8, 4), (1.0, 14, 10)):
        dataset = slices_of(folder, cache_rate=cache_rate)

        assert dataset.source.nbytes == 14 * (30 * (4 + 1) + 4)  # float32 image, uint8 label, position
        assert dataset.source.nbytes_in_memory == source * 30 * (4 + 1) + 14 * 4
        assert dataset.target.nbytes_in_memory == target * 30 * 4 + 10 * 4


@pytest.mark.slow
@pytest.mark.parametrize(("start_method", "workers"), [("fork", 2), ("spawn", 1)])  # spawned workers start slowly
def test_workers_of_a_loader_read_from_the_cache(folder: Path, start_method: str, workers: int) -> None:
    if start_method == "fork" and os.name == "nt":
        pytest.skip("Windows has no fork")
    dataset = slices_of(folder, cache_rate=0.5)

    def batches(**options: Any) -> list[dict[str, torch.Tensor]]:
        return list(DataLoader(dataset, batch_size=2, sampler=UnpairedSampler(dataset, 2, iterations=4), **options))

    assert_same(batches(num_workers=workers, multiprocessing_context=start_method), batches())


def test_what_a_worker_is_sent_does_not_grow_with_the_slices(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros((1, 64, 64, 64), np.float32))
    item = {"image": str(tmp_path / "large.npy"), "label": str(tmp_path / "large.npy")}
    dataset = UnpairedSlices([item], Preparation(), cache_rate=0, cache_dir=tmp_path / "cache", cache_key=KEY)
    dataset[Draw(0, 0, 0)]

    assert dataset.source.nbytes > 1_000_000
    assert len(pickle.dumps(dataset)) < 10_000


# --- found again, or prepared again ---


def test_a_later_run_prepares_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert prepared_by(folder) == list(DEPTHS)
    with caplog.at_level(logging.INFO, "sifa.data.unpaired_slices"):
        assert prepared_by(folder, cache_rate=0) == []
    assert "14 slices of 4 source volumes and 10 slices of 2 target volumes" in caplog.text
    assert "6 volumes were in the cache" in caplog.text


@pytest.mark.parametrize("name", ["mr_2", "mr_2_label", "ct_1"])
def test_a_volume_whose_content_has_changed_is_prepared_anew(folder: Path, name: str) -> None:
    slices_of(folder)
    np.save(folder / f"{name}.npy", np.load(folder / f"{name}.npy") / 2)

    assert prepared_by(folder) == [name.removesuffix("_label")]
    assert_same(all_samples(slices_of(folder)), all_samples(slices_of(folder, cache_dir=None)))


def test_a_label_of_a_target_volume_changes_nothing(folder: Path) -> None:
    slices_of(folder)
    (folder / "ct_1_label.npy").unlink()

    assert prepared_by(folder) == []


def test_a_changed_key_prepares_all_anew_and_the_earlier_slices_stay(folder: Path) -> None:
    slices_of(folder)

    assert prepared_by(folder, cache_key={"spacing": [2.0, 1.0, 0]}) == list(DEPTHS)
    assert prepared_by(folder) == []


def test_the_order_within_a_key_does_not_matter(folder: Path) -> None:
    slices_of(folder, cache_key={"a": 1, "b": [2, None]})

    assert prepared_by(folder, cache_key={"b": (2, None), "a": 1}) == []


def test_a_renamed_or_moved_volume_is_found(folder: Path) -> None:
    expected = all_samples(slices_of(folder))
    prepare = Preparation()
    for name in ("image", "label"):
        for item in items(folder, "mr"):
            Path(item[name]).rename(f"{item[name]}.renamed")
    renamed = [{name: f"{path}.renamed" for name, path in item.items()} for item in items(folder, "mr")]
    shutil.move(folder, folder.with_name("moved"))
    moved = [{name: path.replace("data", "moved") for name, path in item.items()} for item in renamed]
    target = items(folder.with_name("moved"), "ct")

    dataset = UnpairedSlices(moved, prepare, target, prepare, cache_dir=folder.parent / "cache", cache_key=KEY)

    assert prepare.seen == []
    assert_same(all_samples(dataset), expected)


@pytest.mark.parametrize("damage", ["cut off", "empty", "longer", "reversed", "header", "missing"])
def test_a_damaged_file_of_the_cache_is_prepared_anew(folder: Path, damage: str) -> None:
    expected = all_samples(slices_of(folder))
    file = cached_files(folder)[0]
    content = file.read_bytes()
    damaged = {"cut off": content[:-1], "longer": content + b"0", "reversed": content[::-1]}
    damaged["header"] = content.replace(b"}", b"(", 1)
    file.write_bytes(damaged.get(damage, b""))
    if damage == "missing":
        file.unlink()

    assert len(prepared_by(folder)) == 1
    assert file.read_bytes() == content
    assert_same(all_samples(slices_of(folder, cache_rate=0)), expected)


HALF = 200  # bytes: a header and a few voxels

KILLED = """
import signal, sys
from resource import RLIMIT_CORE, RLIMIT_FSIZE, setrlimit
sys.path[:0] = [sys.argv[1], sys.argv[1] + '/data']
from test_slice_cache import HALF, Path, slices_of
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system kills the process in the middle of a file
setrlimit(RLIMIT_CORE, (0, 0))
setrlimit(RLIMIT_FSIZE, (HALF, HALF))
slices_of(Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGXFSZ")
def test_what_a_killed_run_left_does_no_harm_and_is_removed(folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(TESTS), str(folder)], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert [file.name[0] for file in cached_files(folder)] == ["."]

    assert prepared_by(folder) == list(DEPTHS)
    assert sorted({file.name for file in cached_files(folder)}) == ["image.npy", "label.npy", "position.npy"]
    assert len(cached_files(folder)) == 4 * 3 + 2 * 2
    assert_same(all_samples(slices_of(folder)), all_samples(slices_of(folder, cache_dir=None)))


def test_a_series_is_known_by_the_content_of_its_files(tmp_path: Path) -> None:
    def load(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        prepared.append(item["image"])
        return {"image": torch.zeros(3, 1, 4, 4), "position": torch.arange(3.0)}

    def found(series: Path) -> bool:
        return cache.find_or_prepare({"image": str(series)}, lambda: load({"image": str(series)}))[1]

    prepared: list[str] = []
    cache = SliceCache(tmp_path / "cache", KEY)
    volume: Array = np.random.default_rng(0).integers(-1000, 1000, (4, 4, 3))
    series = write_dicom_series(tmp_path / "series", volume)
    assert not found(series)

    series = series.rename(tmp_path / "renamed")
    assert found(series)
    last = series / "slice_002.dcm"
    last.write_bytes(last.read_bytes()[:-1] + b"\x7f")
    assert not found(series)
    last.unlink()
    assert not found(series)
    assert len(prepared) == 3


@pytest.mark.parametrize(
    "change", [("Spacingd", "pixdim", [3.0, 3.0, 0.0]), ("Spacingd", "mode", ["nearest", "nearest"])]
)
def test_transforms_in_a_key_are_compared_by_their_arguments(tmp_path: Path, change: tuple[str, str, Any]) -> None:
    def preprocessing(*changes: tuple[str, str, Any], label_map: dict[int, int] | None = None) -> Any:
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "train.yaml"))
        parser["fingerprint"] = read_fingerprint(BUNDLE / "models" / "fingerprint.json")
        parser["label_maps"] = {"source": label_map, "target": None}
        for name, argument, value in changes:
            for transform in parser["train#geometry#transforms"]:
                if transform["_target_"].endswith(name):
                    transform[argument] = value
        return parser.get_parsed_content("train#preprocessing")

    first = SliceCache(tmp_path, [preprocessing()]).cache_key

    assert SliceCache(tmp_path, [preprocessing()]).cache_key == first
    assert SliceCache(tmp_path, [preprocessing(change)]).cache_key != first
    assert SliceCache(tmp_path, [preprocessing(label_map={0: 0, 205: 1})]).cache_key != first
    assert " at 0x" not in first  # an address would differ in each run


def test_a_function_in_a_key_is_refused_since_its_dependencies_are_unknown(tmp_path: Path) -> None:
    for function in (lambda x: x + 1, refusal):
        assert "is a function" in refusal(partial(SliceCache, tmp_path, [function]))


# --- several processes ---

TOGETHER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + '/data']
import torch
from test_slice_cache import Path, prepared_by
folder, rank = Path(sys.argv[2]), int(sys.argv[3])
torch.distributed.init_process_group("gloo", f"file://{folder.parent}/meeting", rank=rank, world_size=2)
shared, own = folder.parent / "cache", folder.parent / f"cache_{rank}"
print([len(prepared_by(folder, cache_dir=cache)) for cache in (shared, own)])
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_of_processes_that_train_together_the_main_one_prepares_for_all_on_its_disk(folder: Path) -> None:
    arguments = [sys.executable, "-c", TOGETHER, str(TESTS), str(folder)]
    processes = [
        subprocess.Popen([*arguments, rank], stdout=subprocess.PIPE, text=True, encoding="utf-8") for rank in "01"
    ]

    assert [json.loads(process.communicate(timeout=300)[0]) for process in processes] == [[6, 6], [0, 6]]


# --- memory ---

MEMORY = """
import json, sys
from pathlib import Path
import torch
from sifa.data.unpaired_slices import Draw, UnpairedSlices

def held():  # bytes of anonymous memory
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def generate(item):
    seen.append(held())
    return {"image": torch.full((1, 256, 256, 32), float(Path(item["image"]).stem))}

def growth(**settings):
    seen.clear()
    before = held()
    slices = UnpairedSlices(items[:1], lambda item: generate(item) | {"label": torch.zeros(1, 256, 256, 32)},
                            items, generate, **settings)
    total = sum(int(slices[Draw(0, index, 0)]["target_image"].sum() >= 0) for index in range(0, slices.target_size, 8))
    assert total == slices.target_size // 8
    return max([*seen, held()]) - before, slices.target.nbytes

folder, seen = Path(sys.argv[1]), []
items = [{"image": str(folder / f"{number}.raw"), "label": str(folder / f"{number}.raw")} for number in range(20)]
for item in items:
    Path(item["image"]).write_text(item["image"], encoding="utf-8")
generate(items[0])
cached = {"cache_dir": folder / "cache", "cache_key": 1}
print(json.dumps([growth(**cached, cache_rate=0), growth(**cached, cache_rate=0.5), growth()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux reports the memory of a process there")
def test_memory_holds_the_share_that_is_asked_for_also_while_volumes_are_prepared(tmp_path: Path) -> None:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes: what is freed goes back at once
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=True)
    shares = [grown / size for grown, size in json.loads(result.stdout)]

    assert shares[0] < 0.25  # a few of 20 volumes: the current one, before and after it is cut
    assert 0.4 < shares[1] < 0.75
    assert 0.9 < shares[2] < 1.25


# --- what is refused ---


def test_a_cache_rate_that_is_no_share_is_refused(folder: Path) -> None:
    for cache_rate in (-0.1, 1.5, float("nan"), "half"):
        assert "cache_rate is" in refusal(lambda rate=cache_rate: slices_of(folder, cache_rate=rate))  # type: ignore[misc]


def test_less_than_all_in_memory_needs_a_folder(folder: Path) -> None:
    assert "there is no cache_dir" in refusal(lambda: slices_of(folder, cache_rate=0.5, cache_dir=None))


def test_a_cache_without_a_key_is_refused(folder: Path) -> None:
    assert "cache_key is not set" in refusal(lambda: slices_of(folder, cache_key=None))


def test_a_cache_that_cannot_be_written_is_refused(folder: Path) -> None:
    (folder.parent / "cache").write_text("a file", encoding="utf-8")

    message = refusal(lambda: slices_of(folder))

    assert message.startswith(str(folder.parent / "cache"))
    assert "choose another cache_dir" in message


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_refused_and_leaves_nothing_half(folder: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))  # writing ends there, as on a full disk
    try:
        message = refusal(lambda: slices_of(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert message.startswith(str(folder.parent / "cache"))
    assert "cannot be written" in message
    assert "make room or choose another cache_dir" in message
    assert cached_files(folder) == []


def test_a_volume_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "mr_3_label.npy").unlink()

    assert refusal(lambda: slices_of(folder)).startswith(str(folder / "mr_3_label.npy"))


def test_a_format_whose_voxels_lie_elsewhere_is_refused_by_the_cache_only(folder: Path) -> None:
    header = folder / "mr_1.mhd"
    header.write_text("ElementDataFile = mr_1.raw", encoding="utf-8")

    def load(item: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return dict.fromkeys(("image", "label"), torch.zeros(1, 2, 2, 2))

    item = {"image": str(header), "label": str(folder / "mr_1_label.npy")}
    message = refusal(lambda: UnpairedSlices([item], load, cache_dir=folder / "cache", cache_key=KEY))

    assert message.startswith(str(header))
    assert len(UnpairedSlices([item], load)) == 2
