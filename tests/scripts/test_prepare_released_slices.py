"""scripts/prepare_released_slices.py, run as a user does on a small folder laid out as the release of PnP-AdaNet."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from builders import Array, assert_refused, read_json, refusal
from conftest import BUNDLE, RECOMMENDED, run_bundle, run_script
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged, Orientationd
from prepare_released_slices import crc32c, find_files, prepare_released_slices
from sifa.data.dataset_json import read_dataset
from sifa.fingerprint.modality import is_in_hu
from sifa.transforms.orientation import AXCODES

SIZE = 256
CONFIGS = ["train.yaml", "released_slices.yaml"]
WITH_ADDITIONS = [*RECOMMENDED, "released_slices.yaml"]


# --- a writer of the release's format, which shares nothing with the reader ---


def bytewise_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = bytewise_table()


def bytewise_crc32c(content: bytes) -> int:
    checksum = 0xFFFFFFFF
    for byte in content:
        checksum = TABLE[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    return checksum ^ 0xFFFFFFFF


def masked(content: bytes) -> bytes:
    checksum = bytewise_crc32c(content)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def record(content: bytes) -> bytes:
    """Returns a record of TFRecord: length, its checksum, content, its checksum."""
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, content: bytes) -> bytes:
    """Returns a field of a protobuf message that holds bytes or another message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: bytes | int | Sequence[float]) -> bytes:
    """Returns a `tf.train.Feature`: a list of bytes, of integers or of floats."""
    if isinstance(value, bytes):
        return field(1, field(1, value))
    if isinstance(value, int):
        return field(3, field(1, varint(value)))
    return field(2, field(1, struct.pack(f"<{len(value)}f", *value)))


def example(features: Mapping[str, bytes | int | Sequence[float]]) -> bytes:
    """Returns a `tf.train.Example`."""
    entries = (field(1, name.encode()) + field(2, feature(value)) for name, value in features.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def features_of(image: Array, label: Array) -> dict[str, bytes | int | Sequence[float]]:
    """Returns what a released slice holds; its channels before and after the middle one hold other slices."""
    channels = np.stack([image - 1, image, image + 1], axis=2).astype("<f4")
    values = np.stack([label] * 3, axis=2).astype("<f4")
    sizes = {f"{kind}size_dim{axis}": size for kind in "dl" for axis, size in enumerate(channels.shape)}
    leftovers = {"mask_vol": b"\x01" * 300, "mask_scale": [0.5, 2.0], "bias_dim0": 7}
    return {**sizes, "data_vol": channels.tobytes(), "label_vol": values.tobytes(), **leftovers}


def write_slice(path: Path, image: Array, label: Array, **changes: Any) -> Path:
    """Writes a released slice; `changes` replaces features, None leaves one out."""
    features = {**features_of(image, label), **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record(example({name: value for name, value in features.items() if value is not None})))
    return path


# --- a small release ---


def slice_of(seed: int) -> tuple[Array, Array]:
    """Returns an image and its label with all values 0 to 5, as training slices have them.

    Rows lead from the patient's left to the right, columns upward. A bright wedge lies to the left and above.
    """
    generator = np.random.default_rng(seed)
    image = generator.normal(0, 0.3, (SIZE, SIZE)).astype(np.float32)
    label = np.zeros((SIZE, SIZE), dtype=np.float32)
    for value in range(1, 6):
        label[30 * value : 30 * value + 20 + seed, 60 : 100 + 10 * value] = value
    image += label / 4
    image[10:40, 180:240] += np.linspace(0, 2, 60)
    return image, label


def volume_of(seeds: Sequence[int]) -> tuple[Array, Array]:
    """Returns slices as a test volume has them: its first two axes are reversed."""
    image, label = (np.stack(planes, axis=2) for planes in zip(*map(slice_of, seeds), strict=True))
    return image[::-1, ::-1], label[::-1, ::-1]


class Release(NamedTuple):
    """The folder, and what the options name: lists, and the folder of test volumes."""

    root: Path
    options: dict[str, str]


def options_of(options: Mapping[str, str], **changes: str | None) -> list[str]:
    changed = {**options, **changes}
    return [part for name, value in changed.items() if value is not None for part in (f"--{name}", value)]


def run(release: Release, output: Path, *flags: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the script on a release; `changes` replaces options, None leaves one out."""
    options = options_of(release.options, **changes)
    return run_script("prepare_released_slices.py", *options, "--output_dir", str(output), *flags, check=False)


SEEDS = {"mr_train": range(5), "mr_val": range(5, 6), "ct_train": (9, 8, 7), "ct_val": range(10, 12)}
TEST_SEEDS = {"1003": (9, 4, 6), "1008": (1, 2)}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Lists that hold paths of another machine, the slices in one folder, and two test volumes."""
    root = tmp_path_factory.mktemp("release")
    (root / "lists").mkdir()
    (root / "test").mkdir()
    options = {"ct_test": str(root / "test"), "data_dir": str(root / "slices")}
    for part, seeds in SEEDS.items():
        for seed in seeds:
            write_slice(root / "slices" / f"{part}_slice{seed}.tfrecords", *slice_of(seed))
        listing = root / "lists" / f"{part}_list"
        listing.write_text("".join(f"./data/{part}/{part}_slice{seed}.tfrecords\n" for seed in seeds), encoding="utf-8")
        options[part] = str(listing)
    for subject, seeds in TEST_SEEDS.items():
        np.savez(root / "test" / f"{subject}.npz", *volume_of(seeds))
    return Release(root, options)


@pytest.fixture(scope="module")
def prepared(release: Release) -> Path:
    """The folder that is written from all options, three slices a volume."""
    output = release.root / "heart"
    result = run(release, output, "--slices_per_volume", "3")
    assert result.returncode == 0, result.stderr
    assert "5 of mr_train, 1 of mr_val, 3 of ct_train, 2 of ct_val (slices), 2 of ct_test (volumes)" in result.stdout
    return output


def classes(label: Array) -> Array:
    return np.where(label == 5, 0, label).astype(np.uint8)


def load(path: Path) -> tuple[Array, Array]:
    """Returns the voxels and the affine of a NIfTI file."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return np.asanyarray(image.dataobj), image.affine


# --- what is written ---


@pytest.mark.parametrize(
    ("part", "volumes"),
    [
        ("mr_train", {"001": (0, 1, 2), "002": (3, 4)}),
        ("mr_val", {"001": (5,)}),
        ("ct_train", {"001": (9, 8, 7)}),
        ("ct_val", {"001": (10, 11)}),
    ],
)
def test_volumes_hold_the_middle_channels_of_the_slices_in_the_order_of_their_list(
    prepared: Path, part: str, volumes: dict[str, tuple[int, ...]]
) -> None:
    domain, labels = part[:2], {"ct_train": "ct_training_labels", "ct_val": "ct_validation_labels"}
    for number, seeds in volumes.items():
        image, affine = load(prepared / f"{domain}_images" / f"{part}_{number}.nii.gz")
        label, label_affine = load(prepared / labels.get(part, "mr_labels") / f"{part}_{number}.nii.gz")
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert image.shape == (SIZE, SIZE, len(seeds))
        for position, seed in enumerate(seeds):
            np.testing.assert_array_equal(image[:, :, position], slice_of(seed)[0])
            np.testing.assert_array_equal(label[:, :, position], classes(slice_of(seed)[1]))
        np.testing.assert_array_equal(affine, label_affine)
        np.testing.assert_array_equal(nib.affines.voxel_sizes(affine), [1, 1, 1])


def test_test_volumes_are_written_voxel_by_voxel_and_the_value_5_becomes_background(prepared: Path) -> None:
    for subject, seeds in TEST_SEEDS.items():
        image, label = volume_of(seeds)
        assert (label == 5).any()
        written = load(prepared / "ct_images" / f"ct_test_{subject}.nii.gz")[0]
        np.testing.assert_array_equal(written, image)
        written = load(prepared / "ct_test_labels" / f"ct_test_{subject}.nii.gz")[0]
        np.testing.assert_array_equal(written, classes(label))
        assert sorted(np.unique(written)) == [0, 1, 2, 3, 4]


def test_the_bundle_shows_training_and_test_volumes_in_the_same_and_the_true_orientation(prepared: Path) -> None:
    as_trained = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes=AXCODES["coronal"], labels=[["L", "R"], ["P", "A"], ["I", "S"]]),
        ]
    )
    training, test = (
        as_trained({"image": str(prepared / "ct_images" / f"{name}.nii.gz")})["image"]
        for name in ("ct_train_001", "ct_test_1003")
    )
    np.testing.assert_array_equal(training[0, :, :, 0], test[0, :, :, 0])  # both show slice 9
    np.testing.assert_array_equal(training.affine[:3, :2], test.affine[:3, :2])
    shown = training[0, :, :, 0].numpy()
    rows, columns = np.nonzero(shown > 2)
    assert rows.mean() < SIZE / 2  # rows lead downward: what lies above is in the upper half
    assert columns.mean() > SIZE / 2  # columns lead to the left: what lies to the left is in the right half


def test_the_description_lists_each_part_and_claims_no_hounsfield_units(prepared: Path) -> None:
    dataset = read_json(prepared / "dataset.json")
    assert dataset["slice_plane"] == "coronal"
    assert list(dataset["labels"].values())[1] == "left ventricle myocardium"
    assert dataset["source"]["modality"] == "NormalizedMR"
    assert dataset["target"]["modality"] == "NormalizedCT"
    assert not is_in_hu(dataset["target"]["modality"])
    assert [case["image"] for case in dataset["source"]["training"]] == [
        "mr_images/mr_train_001.nii.gz",
        "mr_images/mr_train_002.nii.gz",
    ]
    assert dataset["target"]["training"] == [{"image": "ct_images/ct_train_001.nii.gz"}]
    assert "ct_training_labels" not in json.dumps(dataset)
    read = read_dataset(prepared / "dataset.json")
    sizes = [read.source_training, read.source_validation, read.target_validation, read.target_test]
    assert [len(items) for items in sizes] == [2, 1, 1, 2]


def test_the_upper_bound_trains_on_the_labels_of_the_same_target_slices(prepared: Path) -> None:
    dataset, supervised = (read_json(prepared / name) for name in ("dataset.json", "supervised.json"))
    assert supervised["source"] == {
        "modality": "NormalizedCT",
        "training": [{"image": "ct_images/ct_train_001.nii.gz", "label": "ct_training_labels/ct_train_001.nii.gz"}],
    }
    assert "training" not in supervised["target"]
    for split in ("validation", "test"):
        assert supervised["target"][split] == dataset["target"][split]
    assert len(read_dataset(prepared / "supervised.json", needs_target=False).source_training) == 1


def test_folders_are_read_in_the_order_of_the_numbers_and_validation_may_be_left_out(
    release: Release, tmp_path: Path
) -> None:
    (tmp_path / "slices").mkdir()
    for number, seed in ((10, 8), (9, 9)):
        name = f"ct_train_slice{seed}.tfrecords"
        shutil.copy(release.root / "slices" / name, tmp_path / "slices" / f"slice{number}.tfrecords")
    folder = str(tmp_path / "slices")

    result = run(release, tmp_path / "heart", mr_train=folder, ct_train=folder, mr_val=None, ct_val=None, data_dir=None)

    assert result.returncode == 0, result.stderr
    image = load(tmp_path / "heart" / "ct_images" / "ct_train_001.nii.gz")[0]
    np.testing.assert_array_equal(image[:, :, 0], slice_of(9)[0])
    dataset = read_json(tmp_path / "heart" / "dataset.json")
    assert dataset["source"]["validation"] == dataset["target"]["validation"] == []
    assert not (tmp_path / "heart" / "ct_validation_labels").exists()


def test_a_second_run_with_overwrite_writes_the_same_folder_and_leaves_nothing_temporary(
    release: Release, prepared: Path
) -> None:
    before = {name: (prepared / name).read_bytes() for name in ("dataset.json", "supervised.json")}
    files = sorted(prepared.rglob("*"))
    result = run(release, prepared, "--slices_per_volume", "3", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert {name: (prepared / name).read_bytes() for name in before} == before
    assert sorted(prepared.rglob("*")) == files


@pytest.mark.parametrize("beside", ["listed", "by name"])
def test_listed_paths_are_relative_to_the_list_or_to_the_data_folder(tmp_path: Path, beside: str) -> None:
    (tmp_path / "lists").mkdir()
    listing = tmp_path / "lists" / "training_list"
    listing.write_text("training/slice2.tfrecords\r\n\ntraining/slice1.tfrecords", encoding="utf-8")
    for root in (tmp_path / "lists", tmp_path / "data"):
        folder = root / "training" if beside == "listed" else root
        folder.mkdir(parents=True, exist_ok=True)
        for number in (1, 2):
            (folder / f"slice{number}.tfrecords").touch()

        found = find_files(str(listing), "--mr_train", ".tfrecords", None if root.name == "lists" else root)

        assert [path.resolve() for path in found] == [folder / f"slice{number}.tfrecords" for number in (2, 1)]
        for path in found:
            path.unlink()


def test_the_checksum_is_that_of_rfc_3720_at_any_length() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    content = np.random.default_rng(0).bytes(70)
    for length in range(70):
        assert crc32c(content[:length]) == bytewise_crc32c(content[:length])


# --- what is refused ---


def refusal_of(release: Release, output: Path, **changes: Any) -> str:
    """Returns the sentence that refuses a release; `changes` replaces options."""
    options: dict[str, Any] = {**release.options, "output_dir": str(output), **changes}
    message = refusal(lambda: prepare_released_slices(**options))
    assert not (output / "dataset.json").exists()
    return message


def test_the_command_line_ends_with_one_sentence(release: Release, tmp_path: Path) -> None:
    path = write_slice(tmp_path / "slice1.tfrecords", *slice_of(0), label_vol=None)
    result = run(release, tmp_path / "heart", ct_train=str(tmp_path))
    assert_refused(result, str(path), "holds no label_vol: give labeled slices")
    assert_refused(run(release, tmp_path / "heart", mr_trian="x"), "--mr_trian", "--help")


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"", "does not begin with a TFRecord"),
        (lambda content: b"no record at all", "does not begin with a TFRecord"),
        (lambda content: flipped(content, 3), "does not begin with a TFRecord"),
        (lambda content: content[:-30], "is cut short: it lacks 30 bytes"),
        (lambda content: content + content, "goes on after its first record"),
    ],
)
def test_a_file_that_is_not_one_whole_record_is_refused_before_anything_is_written(
    release: Release, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    whole = (release.root / "slices" / "ct_train_slice9.tfrecords").read_bytes()
    (tmp_path / "slice1.tfrecords").write_bytes(damage(whole))
    message = refusal_of(release, tmp_path / "heart", ct_train=str(tmp_path))
    assert message.startswith(f"{tmp_path / 'slice1.tfrecords'} {words}")
    assert not (tmp_path / "heart").exists()


def assert_slice_is_refused(release: Release, path: Path, *words: str) -> None:
    message = refusal_of(release, path.parent / "heart", mr_train=str(path.parent))
    assert message.startswith(f"{path} ")
    assert all(word in message for word in words)


def test_a_damaged_record_is_refused(release: Release, tmp_path: Path) -> None:
    whole = (release.root / "slices" / "ct_train_slice9.tfrecords").read_bytes()
    (tmp_path / "slice1.tfrecords").write_bytes(flipped(whole, 700_000))
    assert_slice_is_refused(release, tmp_path / "slice1.tfrecords", "its checksum does not match")


def test_a_record_of_something_else_is_refused(release: Release, tmp_path: Path) -> None:
    (tmp_path / "slice1.tfrecords").write_bytes(record(b"\xff\xff\xff"))
    assert_slice_is_refused(release, tmp_path / "slice1.tfrecords", "does not hold a tf.train.Example")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label_vol": None}, ["holds no label_vol: give labeled slices"]),
        ({"data_vol": None}, ["holds no data_vol"]),
        ({"data_vol": bytes(4 * SIZE * SIZE)}, ["data_vol of 256 x 256 pixels and 262144 bytes"]),
        ({"lsize_dim0": 128}, ["label_vol of 128 x 256 pixels"]),
        ({"dsize_dim1": None}, ["data_vol of 256 x ? pixels"]),
        ({"data_vol": np.full((SIZE, SIZE, 3), np.nan, "<f4").tobytes()}, ["NaN or infinite"]),
        ({"label_vol": np.full((SIZE, SIZE, 3), 1.5, "<f4").tobytes()}, ["label value 1.5", "0-5"]),
        ({"label_vol": np.full((SIZE, SIZE, 3), 6, "<f4").tobytes()}, ["label value 6", "0-5"]),
        ({"label_vol": np.full((SIZE, SIZE, 3), np.nan, "<f4").tobytes()}, ["label value nan", "0-5"]),
    ],
)
def test_a_slice_that_is_not_as_released_is_refused(
    release: Release, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    path = write_slice(tmp_path / "slice1.tfrecords", *slice_of(0), **changes)
    assert_slice_is_refused(release, path, *words)


def assert_volume_is_refused(release: Release, path: Path, *words: str) -> None:
    message = refusal_of(release, path.parent / "heart", ct_test=str(path.parent))
    assert message.startswith(f"{path} ")
    assert all(word in message for word in words)
    assert not (path.parent / "heart").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"arr_0": np.zeros((SIZE, SIZE, 2))}, ["lacks arr_0 (image) or arr_1 (label)"]),
        ({"arr_0": np.zeros((SIZE, SIZE, 2)), "arr_1": np.zeros((SIZE, SIZE, 3))}, ["(256, 256, 2)", "(256, 256, 3)"]),
        ({"arr_0": np.zeros((2, SIZE, SIZE)), "arr_1": np.zeros((2, SIZE, SIZE))}, ["(2, 256, 256)"]),
        ({"arr_0": np.zeros((SIZE, SIZE)), "arr_1": np.zeros((SIZE, SIZE))}, ["(256, 256)"]),
        ({"arr_0": np.zeros((SIZE, SIZE, 2)), "arr_1": np.full((SIZE, SIZE, 2), 205)}, ["label value 205", "0-5"]),
        ({"arr_0": np.full((SIZE, SIZE, 2), np.inf), "arr_1": np.zeros((SIZE, SIZE, 2))}, ["NaN or infinite"]),
        ({"arr_0": np.array([None]), "arr_1": np.zeros(1)}, ["cannot be read"]),
        ({"arr_0": np.array(["text"]), "arr_1": np.zeros(1)}, ["cannot be read"]),
    ],
)
def test_a_test_volume_that_is_not_as_released_is_refused_before_anything_is_written(
    release: Release, tmp_path: Path, arrays: dict[str, Array], words: list[str]
) -> None:
    np.savez(tmp_path / "1003.npz", allow_pickle=True, **arrays)
    assert_volume_is_refused(release, tmp_path / "1003.npz", *words)


@pytest.mark.parametrize("kind", ["array", "cut short", "changed"])
def test_a_file_that_is_no_whole_npz_is_refused(release: Release, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "1003.npz"
    whole = (release.root / "test" / "1003.npz").read_bytes()
    if kind == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros((SIZE, SIZE, 2)))
    else:
        path.write_bytes(whole[:-30] if kind == "cut short" else flipped(whole, 300_000))
    assert_volume_is_refused(release, path, "replace the file")


def test_a_list_of_two_volumes_of_the_same_name_is_refused(release: Release, tmp_path: Path) -> None:
    shutil.copy(release.root / "test" / "1003.npz", tmp_path)
    (tmp_path / "list").write_text(f"1003.npz\n{release.root}/test/1003.npz\n", encoding="utf-8")
    message = refusal_of(release, tmp_path / "heart", ct_test=str(tmp_path / "list"))
    assert message.startswith(f"{tmp_path / 'list'} lists two files of the same name")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["does not exist", "point --ct_train at a folder"]),
        (b"\n \n", ["is empty", "point --ct_train at a folder"]),
        (b"\xff\xfe\x00", ["is not a text file", "point --ct_train at a folder"]),
        (b"./data/training_ct/nowhere.tfrecords\n", ["lists ./data/training_ct/nowhere.tfrecords", "--data_dir"]),
    ],
)
def test_a_list_that_names_no_files_is_refused(
    release: Release, tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    message = refusal_of(release, tmp_path / "heart", ct_train=str(tmp_path / "list"))
    assert message.startswith(f"{tmp_path / 'list'} ")
    assert all(word in message for word in words)
    assert not (tmp_path / "heart").exists()


def test_a_folder_without_such_files_is_refused(release: Release, tmp_path: Path) -> None:
    folder = release.options["data_dir"]
    message = refusal_of(release, tmp_path / "heart", ct_test=folder)
    assert message.startswith(f"{folder} holds no .npz file: point --ct_test at")


@pytest.mark.parametrize("value", [0, 1.5, "many", True])
def test_a_number_of_slices_that_is_none_is_refused(release: Release, tmp_path: Path, value: Any) -> None:
    message = refusal_of(release, tmp_path / "heart", slices_per_volume=value)
    assert message.startswith(f"--slices_per_volume is {value!r}")


def test_a_data_folder_that_is_none_is_refused(release: Release, tmp_path: Path) -> None:
    message = refusal_of(release, tmp_path / "heart", data_dir=str(tmp_path / "nowhere"))
    assert message.startswith(f"{tmp_path / 'nowhere'} is not a folder: point --data_dir at")


def test_an_output_folder_that_is_not_empty_is_refused_and_left_alone(release: Release, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert "--overwrite" in refusal_of(release, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- training on it ---


@pytest.mark.parametrize(("configs", "kept"), [(CONFIGS, []), (WITH_ADDITIONS, ["CopyItemsd", "RandomAppearanced"])])
def test_the_overlay_leaves_out_the_augmentation_that_the_release_has_and_no_other(
    configs: list[str], kept: list[str]
) -> None:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in configs])
    parser["fingerprint"] = SimpleNamespace(matched_in_plane=False, slice_size=[32, 32])  # as of all released slices
    transforms = parser.get_parsed_content("train#augmentation").transforms
    names = [type(transform).__name__ for transform in transforms]
    assert [name for name in names if name != "ShiftIntensityd"] == kept


@pytest.mark.slow
@pytest.mark.parametrize("configs", [CONFIGS, WITH_ADDITIONS], ids=["paper", "recommended"])
def test_a_network_is_trained_on_the_slices_and_measured_on_the_test_volumes(
    prepared: Path, tmp_path: Path, configs: list[str]
) -> None:
    size: dict[str, Any] = {"width": 0.0625, "batch_size": 2, "epochs": 1, "iterations_per_epoch": 2}

    training = run_bundle("training", configs, dataset_dir=prepared, output_dir=tmp_path / "run", **size)
    model: dict[str, Any] = {"dataset_dir": prepared, "model_dir": tmp_path / "run", "output_dir": tmp_path / "eval"}
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], **model)

    fingerprint = read_json(tmp_path / "run" / "fingerprint.json")
    assert fingerprint["source"]["intensity"] == {"mode": "window", "lower": -1.8, "upper": 4.4}
    assert fingerprint["target"]["intensity"] == {"mode": "window", "lower": -2.8, "upper": 3.2}
    assert (fingerprint["spacing"], fingerprint["slice_size"]) == ([1.0, 1.0, 0.0], [SIZE, SIZE])
    assert "warning" not in training.stderr.lower()
    results = (tmp_path / "eval" / "results.csv").read_text(encoding="utf-8")
    assert all(f"ct_test_{subject}.nii.gz," in results for subject in TEST_SEEDS)
    assert not (tmp_path / "eval" / "results_warnings.txt").exists()
