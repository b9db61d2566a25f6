"""Reading the next scan while one is segmented: the same masks and messages, and nothing read without need."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from builders import diagonal_affine, read_json, write_dicom_series, write_nifti
from conftest import run_bundle
from sifa.inference import read_ahead
from sifa.inference.content_hash import content_hash
from sifa.inference.read_ahead import ReadAhead, with_next
from sifa.inference.read_scan import Scan
from sifa.utils.errors import InputError


class Reader:
    """Reads nothing, and counts."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[str] = []
        self.in_inference_mode = False

    def __call__(self, item: Any) -> Scan:
        self.asked.append(item["image"])
        self.in_inference_mode = torch.is_inference_mode_enabled()
        if self.fails:
            raise InputError("it is damaged.")
        return Scan({"image": torch.zeros(1)}, [], [])


@pytest.fixture
def item(tmp_path: Path) -> dict[str, str]:
    return {"image": str(write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16))), "mask": "a_seg.nii.gz"}


@pytest.fixture(autouse=True)
def several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "_cores", lambda: 2)


def test_each_item_knows_the_one_that_follows() -> None:
    first, second = {"image": "a"}, {"image": "b"}
    assert with_next([first, second]) == [{"image": "a", "next": second}, {"image": "b", "next": None}]
    assert with_next([]) == []


def test_a_scan_is_hashed_and_read_ahead_once(item: dict[str, str]) -> None:
    reader = Reader()
    ahead = ReadAhead(reader)
    ahead.begin(item, None, 8)
    taken = ahead.take({**item, "next": None})
    assert taken is not None
    assert taken.signature == content_hash(item)
    assert taken.scan is not None
    assert reader.asked == [item["image"]]
    assert reader.in_inference_mode
    assert ahead.take(item) is None  # it is not kept


def test_reading_goes_on_beside_what_the_caller_does(item: dict[str, str]) -> None:
    begun, done = Event(), Event()

    def wait(_: Any) -> Scan:
        begun.set()
        assert done.wait(60)
        return Scan({}, [], [])

    ahead = ReadAhead(wait)
    ahead.begin(item, None, 8)  # returns while the scan is being read
    assert begun.wait(60)
    done.set()
    assert ahead.take(item) is not None


def test_a_scan_whose_mask_is_known_is_not_read(item: dict[str, str]) -> None:
    reader = Reader()
    ahead = ReadAhead(reader)
    ahead.begin(item, content_hash(item), 8)
    taken = ahead.take(item)
    assert taken is not None
    assert taken.scan is None
    assert not reader.asked


def test_what_fails_ahead_of_its_turn_is_left_to_its_turn(item: dict[str, str]) -> None:
    ahead = ReadAhead(Reader(fails=True))
    ahead.begin(item, None, 8)
    assert ahead.take(item) is None
    Path(item["image"]).unlink()
    ahead.begin(item, None, 8)
    assert ahead.take(item) is None


def test_another_scan_than_the_one_that_was_read_gets_nothing(item: dict[str, str]) -> None:
    ahead = ReadAhead(Reader())
    ahead.begin(item, None, 8)
    assert ahead.take({**item, "mask": "b_seg.nii.gz"}) is None


@pytest.mark.parametrize("reason", ["the last", "skipped", "memory", "one core", "switched off"])
def test_nothing_is_read_ahead_without_need_or_room(
    item: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    if reason == "one core":
        monkeypatch.setattr(read_ahead, "_cores", lambda: 1)
    monkeypatch.setattr(read_ahead, "available_memory", lambda: 8000 if reason == "memory" else 1 << 40)
    ahead = ReadAhead(reader, reason != "switched off")
    following = {"the last": None, "skipped": {**item, "skipped": "a localizer"}}.get(reason, item)
    ahead.begin(following, None, 1001)  # 8 times as many bytes are needed
    assert ahead.take(item) is None
    assert not reader.asked


def test_masks_and_messages_are_the_same_with_and_without_reading_ahead(trained: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    random = np.random.default_rng(0)
    for name in ("a", "c", "d"):
        volume = random.normal(40, 30, (24, 24, 16)).astype(np.int16)
        write_nifti(scans / f"{name}.nii.gz", volume, diagonal_affine((4, 4, 4)))
    whole = write_nifti(scans / "b.nii.gz", volume, diagonal_affine((4, 4, 4))).read_bytes()
    (scans / "b.nii.gz").write_bytes(whole[:-9])  # without its checksum
    write_dicom_series(scans / "e", volume.astype(np.float64), (4, 4, 4))
    cases = {}
    for switch in ("True", "False"):
        output = tmp_path / switch
        options: dict[str, Any] = {"model_dir": trained, "dataset_dir": scans, "output_dir": output}
        result = run_bundle("inference", ["inference.yaml"], check=False, read_ahead=switch, **options)
        assert result.returncode == 1
        cases[switch] = [{**case, "seconds": 0} for case in read_json(output / "manifest.json")["cases"]]
    assert cases["True"] == cases["False"]  # with the hashes of the masks
    assert [case["status"] == "failed" for case in cases["True"]] == [False, True, False, False, False]
    again = run_bundle("inference", ["inference.yaml"], check=False, **{**options, "output_dir": tmp_path / "True"})
    assert again.stdout.count(": already done") == 4
