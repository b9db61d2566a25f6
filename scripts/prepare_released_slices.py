"""Converts the slices of MM-WHS 2017 that PnP-AdaNet released into a data set folder for MR to CT adaptation.

Example: python scripts/prepare_released_slices.py --mr_train RELEASE/mr_train_list --ct_train RELEASE/ct_train_list \
    --ct_test RELEASE/test_ct --output_dir DATA/heart_slices

The released slices are coronal, 256 x 256 pixels, rotated and scaled at random, and normalized to z-scores. They carry
neither a subject nor a voxel size, so that what is written is in part nominal:

- Training and validation slices are stacked in the order of their list. Neighbors in such a volume need not be
  neighbors in a body, or belong to the same one.
- Voxels are 1 mm wide in every direction, so surface distances are meaningful in voxels only. Rows and columns have
  their true directions in the patient, the same in training and test volumes. That test slices go from anterior to
  posterior is an assumption, which nothing in two dimensions depends on.
- The modalities are named NormalizedMR and NormalizedCT: the values are not in HU. `configs/released_slices.yaml` has
  the intensity rules of these names.
- Labels are 0 to 4, as `prepare_mmwhs.py` writes them. The value 5, another vessel that no loss of the authors sees,
  becomes background.

The folder is laid out as `dataset_folder.py` says; labels of target validation slices are in `ct_validation_labels`.
"""

from __future__ import annotations

import itertools
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from command_line import run_command_line
from dataset_folder import (
    CT_IMAGES,
    CT_TEST_LABELS,
    CT_TRAINING_LABELS,
    MR_IMAGES,
    MR_LABELS,
    open_output_dir,
    remap_labels,
    require_folder,
    write_nifti,
)
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from prepare_mmwhs import LABELS
from sifa.utils.errors import InputError
from sifa.utils.files import write_json
from tqdm import tqdm

CT_VALIDATION_LABELS = "ct_validation_labels"
MR, CT = "NormalizedMR", "NormalizedCT"  # keys of `intensity` in configs/released_slices.yaml
FOLDERS = {  # of the images and labels of each part
    "mr_train": (MR_IMAGES, MR_LABELS),
    "mr_val": (MR_IMAGES, MR_LABELS),
    "ct_train": (CT_IMAGES, CT_TRAINING_LABELS),
    "ct_val": (CT_IMAGES, CT_VALIDATION_LABELS),
    "ct_test": (CT_IMAGES, CT_TEST_LABELS),
}
CLASS_OF_VALUE = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 0}
SIZE = 256  # rows and columns of a slice
CHANNELS = 3  # of a record: the slice between its neighbors

# Voxel indices to RAS in mm. Axes of training volumes lead to the right, upward and, nominally, to the back; in test
# volumes the first two are reversed.
TRAINING_AFFINE = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
TEST_AFFINE = TRAINING_AFFINE @ np.array([[-1.0, 0, 0, SIZE - 1], [0, -1, 0, SIZE - 1], [0, 0, 1, 0], [0, 0, 0, 1]])

TABLE: npt.NDArray[Any] = np.arange(256, dtype=np.uint32)  # CRC-32C of each byte
for _ in range(8):
    TABLE = (TABLE >> 1) ^ (np.uint32(0x82F63B78) * (TABLE & 1))

EXAMPLE = """  # the part of tf.train.Example that the slices use, as a FileDescriptorProto
name: "example.proto" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".BytesList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Int64List" }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Feature" }
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Features" }
}
"""
POOL = descriptor_pool.DescriptorPool()
POOL.Add(text_format.Parse(EXAMPLE, descriptor_pb2.FileDescriptorProto()))
Example = message_factory.GetMessageClass(POOL.FindMessageTypeByName("Example"))


def prepare_released_slices(
    mr_train: str,
    ct_train: str,
    ct_test: str,
    output_dir: str,
    mr_val: str | None = None,
    ct_val: str | None = None,
    data_dir: str | None = None,
    slices_per_volume: int = 128,
    overwrite: bool = False,
) -> None:
    """Writes images, labels, dataset.json and supervised.json of the slices of MM-WHS that PnP-AdaNet released.

    Slices and test volumes are given as a folder that directly holds the files, or as a text file with one path a line,
    relative to that text file or to data_dir. Where a listed path does not exist, the file of that name is looked for
    in both. The files of a folder are taken in the order of the numbers in their names.

    Before anything is written, every file is found, every slice is checked to be one whole record, and the test volumes
    are read. A slice whose content is wrong ends the run later; dataset.json is then missing.

    Args:
        mr_train: labeled MR slices to train on, .tfrecords.
        ct_train: CT slices to adapt to, .tfrecords; only supervised.json lists their labels.
        ct_test: labeled CT volumes to measure on, .npz.
        output_dir: folder to write, new or empty.
        mr_val: MR slices that become source.validation, .tfrecords.
        ct_val: CT slices that become target.validation, .tfrecords.
        data_dir: folder that holds the listed files, if they are not where their list says.
        slices_per_volume: slices that are stacked in a volume; the last one of a list may have fewer.
        overwrite: replace files of the same name in output_dir.

    Raises:
        InputError: if a folder, a file or an option is not as expected.
    """
    if type(slices_per_volume) is not int or slices_per_volume < 1:
        raise InputError(f"--slices_per_volume is {slices_per_volume!r}: give a whole number of at least 1.")
    data = None if data_dir is None else Path(str(data_dir))
    if data is not None:
        require_folder(data, "--data_dir", "the folder that holds the listed files")
    records = {
        "mr_train": find_files(mr_train, "--mr_train", ".tfrecords", data),
        "mr_val": find_files(mr_val, "--mr_val", ".tfrecords", data),
        "ct_train": find_files(ct_train, "--ct_train", ".tfrecords", data),
        "ct_val": find_files(ct_val, "--ct_val", ".tfrecords", data),
    }
    archives = find_files(ct_test, "--ct_test", ".npz", data)
    test = {f"ct_test_{path.stem}": path for path in archives}
    if len(test) < len(archives):
        raise InputError(f"{ct_test} lists two files of the same name: list each test volume once.")
    for path in itertools.chain(*records.values()):
        check_record(path)
    for path in archives:
        read_test_volume(path)
    root = Path(str(output_dir))
    open_output_dir(root, overwrite)

    cases = {part: write_stacks(root, part, files, slices_per_volume) for part, files in records.items()}
    cases["ct_test"] = [
        write_case(root, "ct_test", name, *read_test_volume(path), TEST_AFFINE)
        for name, path in tqdm(test.items(), desc="ct_test", unit="volume")
    ]
    write_descriptions(root, cases)
    counts = ", ".join(f"{len(files)} of {part}" for part, files in records.items() if files)
    print(f"Wrote {root / 'dataset.json'}: {counts} (slices), {len(test)} of ct_test (volumes).")


def find_files(place: str | None, option: str, suffix: str, data_dir: Path | None) -> list[Path]:
    """Finds the files that a command-line option names.

    Args:
        place: a folder that directly holds them, a text file that lists them, or None, which gives no files.
        option: the option, for the error messages.
        suffix: ending of the files in a folder.
        data_dir: where else to look for listed files.

    Returns:
        The files of a folder in the order of the numbers in their names, those of a list in its order.

    Raises:
        InputError: if there are none, the list cannot be read, or a listed file cannot be found.
    """
    if place is None:
        return []
    path = Path(str(place))
    expected = f"a folder that directly holds {suffix} files, or at a text file that lists their paths"
    if path.is_dir():
        files = sorted(path.glob(f"*{suffix}"), key=_by_numbers)
        if not files:
            raise InputError(f"{path} holds no {suffix} file: point {option} at {expected}.")
        return files
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: point {option} at {expected}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: point {option} at {expected}.") from error
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise InputError(f"{path} is empty: point {option} at {expected}.")
    return [_find_listed(entry, path, data_dir) for entry in entries]


def _by_numbers(path: Path) -> list[str | int]:
    """Returns a key that sorts slice2 before slice10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _find_listed(entry: str, listing: Path, data_dir: Path | None) -> Path:
    folders = [listing.parent, *([] if data_dir is None else [data_dir])]
    for path in [folder / name for name in (entry, Path(entry).name) for folder in folders]:
        if path.is_file():
            return path
    raise InputError(
        f"{listing} lists {entry}, which is neither there nor, by its name, in {' or '.join(map(str, folders))}: "
        "point --data_dir at the folder that directly holds the listed files."
    )


def write_stacks(root: Path, part: str, records: Sequence[Path], slices_per_volume: int) -> list[dict[str, str]]:
    """Stacks slices in their order and writes the volumes.

    Args:
        root: the data set folder.
        part: key of `FOLDERS`.
        records: the files of the slices.
        slices_per_volume: slices in a volume; the last one may have fewer.

    Returns:
        The cases for `dataset.json`, in order; none for no slices.

    Raises:
        InputError: if a record cannot be read, or is not as the release has it.
    """
    cases = []
    with tqdm(total=len(records), desc=part, unit="slice", disable=not records) as progress:
        for number, start in enumerate(range(0, len(records), slices_per_volume), start=1):
            slices = []
            for path in records[start : start + slices_per_volume]:
                slices.append(read_slice(path))
                progress.update()
            image, label = (np.stack(planes, axis=2) for planes in zip(*slices, strict=True))
            cases.append(write_case(root, part, f"{part}_{number:03d}", image, label, TRAINING_AFFINE))
    return cases


def write_case(
    root: Path,
    part: str,
    name: str,
    image: npt.NDArray[np.float32],
    label: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
) -> dict[str, str]:
    """Writes a volume with its label.

    Args:
        root: the data set folder.
        part: key of `FOLDERS`.
        name: of both files, without ending.
        image: z-scores (X, Y, Z).
        label: classes of the same shape.
        affine: of both, to RAS in mm.

    Returns:
        The case for `dataset.json`.
    """
    images, labels = FOLDERS[part]
    case = {"image": f"{images}/{name}.nii.gz", "label": f"{labels}/{name}.nii.gz"}
    for key, values in (("image", image), ("label", label)):
        nifti = nib.Nifti1Image(values, affine)
        nifti.header.set_xyzt_units("mm")
        write_nifti(nifti, root / case[key])
    return case


def write_descriptions(root: Path, cases: dict[str, list[dict[str, str]]]) -> None:
    """Writes `supervised.json`, and `dataset.json` last, which marks a complete folder.

    Args:
        root: the data set folder.
        cases: labeled cases of each part of `FOLDERS`.
    """
    name = "Heart, MR to CT (slices of MM-WHS 2017 released with PnP-AdaNet)"
    common = {"slice_plane": "coronal", "labels": {str(index): label for index, label in enumerate(LABELS)}}
    measured = {"validation": cases["ct_val"], "test": cases["ct_test"]}
    unlabeled = [{"image": case["image"]} for case in cases["ct_train"]]
    supervised = {
        "name": f"{name}, upper bound trained on labeled CT",
        **common,
        "source": {"modality": CT, "training": cases["ct_train"]},
        "target": {"modality": CT, **measured},
    }
    dataset = {
        "name": name,
        **common,
        "source": {"modality": MR, "training": cases["mr_train"], "validation": cases["mr_val"]},
        "target": {"modality": CT, "training": unlabeled, **measured},
    }
    write_json(root / "supervised.json", supervised)
    write_json(root / "dataset.json", dataset)


def read_test_volume(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Reads a test volume.

    Args:
        path: .npz with the image, `arr_0`, and the label, `arr_1`, of 256 x 256 x any number of slices.

    Returns:
        The image and its classes, (X, Y, Z), on the axes of `TEST_AFFINE`.

    Raises:
        InputError: if the file cannot be read, or is not as the release has it.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz file: replace the file.")
    try:
        with np.load(path) as arrays:
            image, values = (arrays[name].astype(np.float32) for name in ("arr_0", "arr_1"))
    except KeyError as error:
        raise InputError(f"{path} lacks arr_0 (image) or arr_1 (label): give labeled test volumes.") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): replace the file.") from error
    if image.shape != values.shape or image.shape[:2] != (SIZE, SIZE) or image.ndim != 3 or image.size == 0:
        raise InputError(
            f"{path} holds an image of shape {image.shape} and a label of {values.shape}, not both of {SIZE} x "
            f"{SIZE} x slices: replace the file."
        )
    require_finite(image, path)
    return image, remap_labels(values, CLASS_OF_VALUE, path)[0]


def read_slice(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Reads a released slice.

    Args:
        path: .tfrecords with one `tf.train.Example`.

    Returns:
        The image and its classes, (256, 256), on the first two axes of `TRAINING_AFFINE`.

    Raises:
        InputError: if the file cannot be read, or is not as the release has it.
    """
    example = Example()
    try:
        example.ParseFromString(read_record(path))
    except DecodeError as error:
        raise InputError(f"{path} does not hold a tf.train.Example: replace the file.") from error
    features = example.features.feature
    image = middle_channel(features, "data_vol", "dsize_dim", path)
    values = middle_channel(features, "label_vol", "lsize_dim", path)
    require_finite(image, path)
    return image, remap_labels(values, CLASS_OF_VALUE, path)[0]


def middle_channel(features: Any, name: str, dimension: str, path: Path) -> npt.NDArray[np.float32]:
    """Returns the middle one of the three channels of an image or label.

    Args:
        features: the features of an example by name.
        name: of the image or label.
        dimension: beginning of the names of its rows and columns.
        path: the file, for the error messages.

    Raises:
        InputError: if it is missing or has another size.
    """
    if name not in features:
        raise InputError(f"{path} holds no {name}: give labeled slices, which hold data_vol and label_vol.")
    content = b"".join(features[name].bytes_list.value)
    sizes = [list(features[f"{dimension}{axis}"].int64_list.value) for axis in range(2)]
    if sizes != [[SIZE], [SIZE]] or len(content) != 4 * SIZE * SIZE * CHANNELS:
        rows, columns = (size[0] if size else "?" for size in sizes)
        raise InputError(
            f"{path} holds a {name} of {rows} x {columns} pixels and {len(content)} bytes, not {SIZE} x {SIZE} x "
            f"{CHANNELS} in float32: replace the file."
        )
    return np.frombuffer(content, dtype="<f4").reshape(SIZE, SIZE, CHANNELS)[:, :, CHANNELS // 2]


def require_finite(image: npt.NDArray[np.float32], path: Path) -> None:
    """Refuses an image with NaN or infinite values.

    Raises:
        InputError: if there are any.
    """
    if not np.isfinite(image).all():
        raise InputError(f"{path} holds NaN or infinite intensities: replace the file.")


def check_record(path: Path) -> None:
    """Checks, from its first bytes and its size, that a file is one whole record in the format of TFRecord.

    Such a record is its length in 8 bytes, their checksum, the content, and its checksum.

    Args:
        path: the file.

    Raises:
        InputError: if it is another file, is cut short, or goes on after the record.
    """
    with path.open("rb") as file:
        header = file.read(12)
    if len(header) < 12 or masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
        raise InputError(f"{path} does not begin with a TFRecord: replace the file.")
    missing = int.from_bytes(header[:8], "little") + 16 - path.stat().st_size
    if missing > 0:
        raise InputError(f"{path} is cut short: it lacks {missing} bytes of its record; replace the file.")
    if missing < 0:
        raise InputError(f"{path} goes on after its first record: give files of one slice each.")


def read_record(path: Path) -> bytes:
    """Returns the content of a file of one record in the format of TFRecord.

    Raises:
        InputError: if it is not one whole record, or if its checksum does not match.
    """
    check_record(path)
    content = path.read_bytes()
    record = content[12:-4]
    if masked_crc32c(record) != int.from_bytes(content[-4:], "little"):
        raise InputError(f"{path} is damaged: its checksum does not match; replace the file.")
    return record


def masked_crc32c(content: bytes) -> int:
    """Returns a CRC-32C as TFRecord stores it: rotated by 15 bits, plus a constant."""
    checksum = crc32c(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """Returns the CRC-32C (Castagnoli) of bytes.

    The checksums of neighbors are joined, to two bytes, four, eight and so on, all at once: that of the left one is
    advanced by the length of the right one. Advancing is linear, so one table for each byte of a checksum describes it;
    applied to themselves, the tables describe twice the length. A loop over bytes takes several times as long.
    """

    def advance(checksums: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        low, second, third, high = (checksums >> np.uint32(shift) & 255 for shift in (0, 8, 16, 24))
        return tables[0][low] ^ tables[1][second] ^ tables[2][third] ^ tables[3][high]

    starts = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], dtype=np.uint32)
    tables = TABLE[starts & 255] ^ (starts >> 8)
    checksums = np.concatenate([[np.uint32(0xFFFFFFFF)], TABLE[np.frombuffer(content, dtype=np.uint8)]])
    while checksums.size > 1:
        if checksums.size % 2:
            checksums = np.concatenate([[np.uint32(0)], checksums])  # changes nothing in front
        checksums = advance(checksums[::2]) ^ checksums[1::2]
        tables = advance(tables)
    return int(checksums[0]) ^ 0xFFFFFFFF


if __name__ == "__main__":
    run_command_line(prepare_released_slices)
