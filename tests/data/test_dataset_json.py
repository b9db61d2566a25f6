"""`dataset.json`: what is read from it, and the error message for each kind of wrong content."""

from __future__ import annotations

import codecs
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from builders import diagonal_affine, refusal, write_dataset, write_description, write_dicom_series, write_nifti
from sifa.data.dataset_json import check_labels, labeled_target, labeled_training, read_dataset
from sifa.io.nifti_files import load_nifti
from sifa.io.scan_reader import load_label

SHAPE = (6, 7, 5)
LISTS = ("source_training", "source_validation", "target_training", "target_validation", "target_test")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good data set that no test changes."""
    folder = tmp_path_factory.mktemp("pristine")
    write_dataset(folder, SHAPE)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the good data set."""
    return Path(shutil.copytree(pristine, tmp_path / "data", symlinks=True))


@pytest.fixture
def content(folder: Path) -> dict[str, Any]:
    """The content of the copy's dataset.json."""
    return write_dataset(folder, SHAPE)


def refused(folder: Path, content: Any) -> str:
    """Returns the error message for a data set with this content."""
    path = write_description(folder, content)
    return refusal(lambda: read_dataset(path))


def affine_of(path: Path) -> np.ndarray:
    """Returns the affine of a NIfTI file."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    assert image.affine is not None
    return image.affine


def test_a_good_data_set_is_read_with_absolute_paths_and_every_list(folder: Path) -> None:
    dataset = read_dataset(folder / "dataset.json")

    assert dataset.name == "tiny"
    assert dataset.slice_plane == "coronal"
    assert dataset.labels == {0: "background", 1: "left", 2: "right"}
    assert dataset.out_channels == 3
    assert (dataset.source_modality, dataset.target_modality) == ("MR", "CT")
    assert dataset.source_training == [
        {"image": str(folder / f"images/mr_{n}.nii.gz"), "label": str(folder / f"labels/mr_{n}.nii.gz")} for n in (1, 2)
    ]
    assert dataset.target_training == [{"image": str(folder / f"images/ct_{n}.nii.gz")} for n in (1, 2)]
    assert [len(getattr(dataset, name)) for name in LISTS] == [2, 1, 2, 1, 1]


def test_paths_are_absolute_when_the_file_is_named_by_a_relative_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    dataset = read_dataset("dataset.json")
    monkeypatch.chdir("/")

    for name in LISTS:
        for item in getattr(dataset, name):
            assert all(Path(file).is_absolute() and Path(file).exists() for file in item.values())


def test_an_image_given_by_an_absolute_path_may_lie_elsewhere(
    folder: Path, content: dict[str, Any], tmp_path: Path
) -> None:
    elsewhere = write_nifti(tmp_path / "elsewhere" / "ct.nii", np.zeros(SHAPE, np.float32))
    content["target"]["training"] = [{"image": str(elsewhere)}]

    assert read_dataset(write_description(folder, content)).target_training == [{"image": str(elsewhere)}]


def test_validation_and_test_lists_may_be_absent(folder: Path, content: dict[str, Any]) -> None:
    for domain, split in (("source", "validation"), ("target", "validation"), ("target", "test")):
        del content[domain][split]

    dataset = read_dataset(write_description(folder, content))

    assert dataset.source_validation == dataset.target_validation == dataset.target_test == []


def test_labels_are_ordered_by_value_whatever_their_order_in_the_file(folder: Path, content: dict[str, Any]) -> None:
    content["labels"] = {"2": "right", "0": "background", "1": "left"}

    assert list(read_dataset(write_description(folder, content)).labels.items()) == [
        (0, "background"),
        (1, "left"),
        (2, "right"),
    ]


@pytest.mark.parametrize("absent", [True, False], ids=["absent", "empty"])
def test_target_images_are_needed_to_adapt_and_only_then(folder: Path, content: dict[str, Any], absent: bool) -> None:
    content["target"]["training"] = []
    if absent:
        del content["target"]["training"]

    message = refused(folder, content)
    dataset = read_dataset(folder / "dataset.json", needs_target=False)

    assert str(folder / "dataset.json") in message
    assert "target.training is empty" in message
    assert dataset.target_training == []
    assert len(dataset.source_training) == 2


# --- the form of the file ---


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "dataset.json") in refusal(lambda: read_dataset(tmp_path / "dataset.json"))


@pytest.mark.parametrize(
    "written",
    [b"", b'{"labels": {"0": "background",', b"\xff\xfe\x00", b"[1, 2]", b'"text"', b"null"],
    ids=["empty", "cut off", "not text", "a list", "a string", "null"],
)
def test_a_malformed_file_is_named(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(written)

    assert str(path) in refusal(lambda: read_dataset(path))


@pytest.mark.parametrize("plane", [None, "frontal", "Axial", 2])
def test_an_unknown_slice_plane_is_refused_with_the_choices(folder: Path, content: dict[str, Any], plane: Any) -> None:
    content["slice_plane"] = plane

    message = refused(folder, content)

    assert str(folder / "dataset.json") in message
    assert repr(plane) in message
    assert all(choice in message for choice in ("axial", "coronal", "sagittal"))


def test_a_slice_plane_may_be_missing_until_it_is_chosen(folder: Path, content: dict[str, Any]) -> None:
    del content["slice_plane"]
    write_description(folder, content)

    assert read_dataset(folder / "dataset.json").slice_plane == ""
    assert read_dataset(folder / "dataset.json", slice_plane="sagittal").slice_plane == "sagittal"


def test_a_given_slice_plane_replaces_that_of_the_file(folder: Path) -> None:
    assert read_dataset(folder / "dataset.json", slice_plane="sagittal").slice_plane == "sagittal"
    message = refusal(lambda: read_dataset(folder / "dataset.json", slice_plane="frontal"))
    assert message == "--slice_plane frontal: choose axial, coronal, sagittal, acquired."


@pytest.mark.parametrize("domain", ["source", "target"])
def test_a_missing_domain_or_modality_is_refused(folder: Path, content: dict[str, Any], domain: str) -> None:
    del content[domain]["modality"]
    no_modality = refused(folder, content)
    del content[domain]
    no_domain = refused(folder, content)

    assert str(folder / "dataset.json") in no_modality
    assert f"{domain}.modality is missing" in no_modality
    assert str(folder / "dataset.json") in no_domain
    assert f"'{domain}' is missing" in no_domain


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "2": "right"},
        {"1": "left", "2": "right"},
        {"0": "background", "1": "left", "3": "right"},
        {"0": "background", "01": "left"},
        {"background": "0", "left": "1"},
        {"0": "background"},
        {"0": "background", "1": "kidney", "2": "kidney"},
        {},
        ["background", "left"],
        None,
    ],
)
def test_labels_with_a_gap_a_repeated_name_or_in_another_form_are_refused(
    folder: Path, content: dict[str, Any], labels: Any
) -> None:
    content["labels"] = labels

    message = refused(folder, content)

    assert str(folder / "dataset.json") in message
    assert "'labels'" in message


@pytest.mark.parametrize("items", [{"image": "a"}, "images/*", [{}], ["images/mr_1.nii.gz"], [{"image": 3}]])
def test_a_list_of_another_form_is_refused(folder: Path, content: dict[str, Any], items: Any) -> None:
    content["source"]["training"] = items

    message = refused(folder, content)

    assert str(folder / "dataset.json") in message
    assert "source.training" in message


def test_a_data_set_without_source_images_is_refused(folder: Path, content: dict[str, Any]) -> None:
    content["source"]["training"] = []

    assert "source.training is empty" in refused(folder, content)


# --- what the lists hold ---


@pytest.mark.parametrize(
    ("domain", "split", "key"),
    [
        ("source", "training", "image"),
        ("source", "training", "label"),
        ("source", "validation", "label"),
        ("target", "training", "image"),
        ("target", "validation", "image"),
        ("target", "test", "label"),
    ],
)
def test_a_path_that_does_not_exist_is_named_with_its_place(
    folder: Path, content: dict[str, Any], domain: str, split: str, key: str
) -> None:
    content[domain][split][0][key] = "images/gone.nii.gz"

    message = refused(folder, content)

    assert str(folder / "images/gone.nii.gz") in message
    assert f"{domain}.{split}[0]" in message


def test_a_target_training_image_with_a_label_is_refused_even_if_the_label_is_no_path(
    folder: Path, content: dict[str, Any]
) -> None:
    for label in ("labels/ct_3.nii.gz", None):
        content["target"]["training"][1]["label"] = label

        message = refused(folder, content)

        assert "images/ct_2.nii.gz" in message
        assert "target.training[1]" in message


@pytest.mark.parametrize(("domain", "split"), [("source", "training"), ("target", "validation"), ("target", "test")])
def test_an_image_without_a_label_is_refused_where_labels_are_needed(
    folder: Path, content: dict[str, Any], domain: str, split: str
) -> None:
    item = content[domain][split][0]
    del item["label"]

    message = refused(folder, content)

    assert item["image"] in message
    assert f"{domain}.{split}[0]" in message


@pytest.mark.parametrize(
    ("taken_from", "added_to"),
    [
        (("source", "training"), ("source", "validation")),
        (("target", "training"), ("target", "test")),
        (("target", "test"), ("target", "training")),
        (("source", "training"), ("target", "test")),
        (("source", "training"), ("target", "training")),
        (("source", "training"), ("source", "training")),
    ],
    ids=lambda place: ".".join(place),
)
def test_a_subject_in_two_lists_is_refused(
    folder: Path, content: dict[str, Any], taken_from: tuple[str, str], added_to: tuple[str, str]
) -> None:
    subject = dict(content[taken_from[0]][taken_from[1]][0])
    if added_to == ("target", "training"):
        subject.pop("label")
    elif "label" not in subject:
        subject["label"] = "labels/ct_3.nii.gz"
    content[added_to[0]][added_to[1]].append(subject)

    message = refused(folder, content)

    assert subject["image"] in message
    assert ".".join(taken_from) in message
    assert ".".join(added_to) in message


def test_a_subject_in_two_lists_is_found_behind_a_symbolic_link_or_another_spelling_of_its_path(
    folder: Path, content: dict[str, Any]
) -> None:
    (folder / "linked.nii.gz").symlink_to(folder / "images/ct_4.nii.gz")
    (folder / "linked_folder").symlink_to(folder / "images", target_is_directory=True)

    for alias in ("linked.nii.gz", "linked_folder/ct_4.nii.gz", "images/../images/ct_4.nii.gz"):
        content["target"]["training"] = [{"image": alias}]

        message = refused(folder, content)

        assert str(folder / "images/ct_4.nii.gz") in message
        assert "target.training" in message
        assert "target.test" in message


def test_labeled_target_scans_may_repeat_images_to_adapt_to_and_no_others(
    folder: Path, content: dict[str, Any]
) -> None:
    measured = content["target"]["validation"][0]
    again = {"image": content["target"]["training"][0]["image"], "label": measured["label"]}
    further = content["target"]["test"].pop()
    content["target"]["labeled"] = [again, further]
    dataset = read_dataset(write_description(folder, content))
    assert [Path(item["image"]).name for item in dataset.target_labeled] == ["ct_1.nii.gz", "ct_4.nii.gz"]
    names = [Path(item["image"]).name for item in dataset.target_images]
    assert names == ["ct_1.nii.gz", "ct_2.nii.gz", "ct_4.nii.gz"]
    assert all(set(item) == {"image"} for item in dataset.target_images)
    assert labeled_training(dataset) == dataset.target_labeled
    for wrong in ([again, again], [measured]):
        assert "a subject belongs in one list" in refused(
            folder, {**content, "target": {**content["target"], "labeled": wrong}}
        )
    content["target"].pop("labeled")
    path = write_description(folder, content)
    assert "target.labeled is empty" in refusal(lambda: labeled_training(read_dataset(path)))


def test_source_free_adaptation_needs_no_source(folder: Path, content: dict[str, Any]) -> None:
    content.pop("source")
    path = write_description(folder, content)
    dataset = read_dataset(path, needs_source=False)
    assert (dataset.source_modality, dataset.source_training) == ("", [])
    assert len(dataset.target_training) == 2
    assert "'source' is missing" in refusal(lambda: read_dataset(path))


# --- labels against images ---


@pytest.mark.parametrize(
    ("domain", "split"),
    [("source", "training"), ("source", "validation"), ("target", "validation"), ("target", "test")],
)
def test_a_label_of_another_shape_than_its_image_is_named(
    folder: Path, content: dict[str, Any], domain: str, split: str
) -> None:
    label = folder / content[domain][split][0]["label"]
    write_nifti(label, np.zeros((6, 7, 4), np.uint8), affine_of(label))

    assert str(label) in refused(folder, content)


def test_a_label_of_four_dimensions_is_named(folder: Path, content: dict[str, Any]) -> None:
    label = folder / content["source"]["training"][0]["label"]
    write_nifti(label, np.zeros((*SHAPE, 2), np.uint8), affine_of(label))

    assert str(label) in refused(folder, content)


@pytest.mark.parametrize("change", ["shifted", "flipped", "other spacing"])
def test_a_label_with_another_affine_than_its_image_is_named(
    folder: Path, content: dict[str, Any], change: str
) -> None:
    label = folder / content["source"]["training"][1]["label"]
    affine = affine_of(label).copy()
    if change == "shifted":
        affine[2, 3] += 0.5
    elif change == "flipped":
        affine[0] *= -1
    else:
        affine[:3, :3] *= 1.1
    write_nifti(label, np.zeros(SHAPE, np.uint8), affine)

    assert str(label) in refused(folder, content)


@pytest.mark.parametrize("value", [3, -1, 0.5, np.nan, 421], ids=str)
def test_a_label_value_that_the_data_set_does_not_list_is_named_with_its_file(
    folder: Path, content: dict[str, Any], value: float
) -> None:
    label = folder / content["target"]["test"][0]["label"]
    volume = np.ones(SHAPE, np.float32)
    volume[2, 3, 1] = value
    write_nifti(label, volume, affine_of(label))

    message = refused(folder, content)

    assert str(label) in message
    assert "NaN" in message if np.isnan(value) else f"value {value:g}," in message


def test_a_label_may_be_stored_as_floating_point_numbers_and_lack_a_class(
    folder: Path, content: dict[str, Any]
) -> None:
    label = folder / content["source"]["training"][0]["label"]
    write_nifti(label, np.full(SHAPE, 2.0, np.float64), affine_of(label))

    assert read_dataset(folder / "dataset.json").out_channels == 3


def test_an_unreadable_label_is_named(folder: Path, content: dict[str, Any]) -> None:
    label = folder / content["source"]["validation"][0]["label"]
    generator = np.random.default_rng(0)
    write_nifti(label, generator.integers(0, 3, size=SHAPE).astype(np.uint8), affine_of(label))
    whole = label.read_bytes()

    for damaged in (b"", b"not an image", whole[:60], whole[: len(whole) * 3 // 4]):
        label.write_bytes(damaged)

        assert str(label) in refused(folder, content)


@pytest.mark.parametrize("ending", [".NII.GZ", ".nrrd", ".mha", ".mhd"])
def test_the_grid_of_a_label_is_compared_with_its_image_whatever_their_formats(ending: str, tmp_path: Path) -> None:
    affine = diagonal_affine((1, 1, 2))
    values = np.zeros(SHAPE, np.uint8)
    write_nifti(tmp_path / "plain.nii.gz", values, affine)
    image, label = tmp_path / f"image{ending}", tmp_path / f"label{ending}"
    for path in (image, label):
        if ending == ".NII.GZ":
            shutil.copy(tmp_path / "plain.nii.gz", path)
        else:
            itk.imwrite(itk.imread(str(tmp_path / "plain.nii.gz")), str(path))
    labels = {0: "background", 1: "left"}
    mirrored = write_nifti(tmp_path / "mirrored.nii.gz", values, np.diag([-1, 1, 1, 1]) @ affine)
    shorter = write_nifti(tmp_path / "shorter.nii.gz", values[:-1], affine)
    moved = write_nifti(tmp_path / "moved.nii.gz", values, diagonal_affine((1, 1, 2), (-30.0, 20.2, 100.0)))
    close = write_nifti(tmp_path / "close.nii.gz", values, diagonal_affine((1, 1, 2), (-30.0, 20.05, 100.1)))

    for right in (label, close):
        check_labels([{"image": str(image), "label": str(right)}], labels)

    for wrong, words in ((mirrored, "voxels away"), (shorter, "its shape"), (moved, "0.2 voxels away")):
        message = refusal(partial(check_labels, [{"image": str(image), "label": str(wrong)}], labels))
        assert message.startswith(f"{wrong}: ")
        assert words in message


def test_labels_of_a_dicom_series_are_compared_with_it(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "series", np.full(SHAPE, 40, np.int16), (1.0, 1.0, 2.0))
    grid = np.diag([-1.0, -1.0, 2.0, 1.0])
    right = write_nifti(tmp_path / "right.nii.gz", np.zeros(SHAPE, np.uint8), grid)
    wrong = write_nifti(tmp_path / "wrong.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))

    check_labels([{"image": str(series), "label": str(right)}], {0: "background"})

    assert str(wrong) in refusal(lambda: check_labels([{"image": str(series), "label": str(wrong)}], {0: "background"}))


@pytest.mark.parametrize("factor", [0.9999999975, 0.9999, 1.0001])
def test_labels_that_are_whole_but_for_rounding_are_rounded(factor: float, tmp_path: Path) -> None:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5
    path = write_nifti(tmp_path / "label.nii.gz", values * factor)

    found, _ = load_label(path)

    assert np.array_equal(found, values)
    check_labels([{"image": str(path), "label": str(path)}], dict.fromkeys(range(5), "any"))


def test_a_label_of_fractions_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "label.nii.gz", np.full(SHAPE, 0.5))
    assert "0.5, which is not whole" in refusal(lambda: load_label(path))


def test_a_fourth_axis_of_length_one_does_not_matter(folder: Path, content: dict[str, Any]) -> None:
    for item in content["source"]["training"]:
        for file in (folder / item["image"], folder / item["label"]):
            image = load_nifti(file)
            write_nifti(file, np.asarray(image.dataobj)[..., None], np.asarray(image.affine))
    read_dataset(write_description(folder, content))


def test_a_byte_order_mark_backslashes_and_labels_by_name_are_read(folder: Path, content: dict[str, Any]) -> None:
    plain = read_dataset(write_description(folder, content))
    content["labels"] = {name: int(value) for value, name in content["labels"].items()}
    for item in content["source"]["training"]:
        item["image"] = item["image"].replace("/", "\\")
    path = write_description(folder, content)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    assert read_dataset(path) == plain


def test_the_list_to_measure_on_is_chosen_by_name_and_must_not_be_empty(folder: Path, content: dict[str, Any]) -> None:
    del content["target"]["validation"]
    dataset = read_dataset(write_description(folder, content))

    labels = {int(value): name for value, name in content["labels"].items()}

    assert [Path(item["image"]).name for item in labeled_target(dataset, "test", labels)] == ["ct_4.nii.gz"]
    assert "target.validation is empty" in refusal(lambda: labeled_target(dataset, "validation", labels))
    assert "'training'" in refusal(lambda: labeled_target(dataset, "training", labels))


def test_scans_whose_labels_are_not_the_models_are_not_measured(folder: Path, content: dict[str, Any]) -> None:
    dataset = read_dataset(write_description(folder, content))
    own = dataset.labels
    swapped = own | {1: own[2], 2: own[1]}

    for labels in (swapped, own | {3: "another"}):
        assert "renumber or rename" in refusal(partial(labeled_target, dataset, "test", labels))


def test_colors_and_codes_of_structures_are_read_and_wrong_ones_refused(folder: Path, content: dict[str, Any]) -> None:
    assert read_dataset(folder / "dataset.json").terminology == {}
    write_description(folder, content | {"terminology": {"LEFT": {"color": "#0A141E"}}})
    assert read_dataset(folder / "dataset.json").terminology == {"left": {"color": "#0a141e"}}
    assert "'terminology': the color of 'left' is 'blue'" in refused(
        folder, content | {"terminology": {"left": {"color": "blue"}}}
    )


# --- label maps ---


def test_a_label_map_gives_the_class_of_each_value(folder: Path, content: dict[str, Any]) -> None:
    plain = read_dataset(write_description(folder, content))
    for place in (("source", "training"), ("source", "validation"), ("target", "validation"), ("target", "test")):
        for item in content[place[0]][place[1]]:
            label = folder / item["label"]
            values, affine = load_label(label)
            write_nifti(label, np.array([0, 205, 420])[values].astype(np.int16), affine)
    content["label_map"] = {"205": 1, "420": 2, "421": 2, "550": 0}

    dataset = read_dataset(write_description(folder, content))

    assert plain.source_label_map == plain.target_label_map == {0: 0, 1: 1, 2: 2}
    assert plain.label_values == {}
    assert dataset.source_label_map == dataset.target_label_map == {0: 0, 205: 1, 420: 2, 421: 2, 550: 0}
    assert dataset.label_values == {0: 0, 1: 205, 2: 420}
    assert dataset.labels == plain.labels


def test_a_domain_may_have_a_label_map_of_its_own(folder: Path, content: dict[str, Any]) -> None:
    content["target"]["label_map"] = {"2": 1, "1": 2}

    dataset = read_dataset(write_description(folder, content))

    assert dataset.source_label_map == {0: 0, 1: 1, 2: 2}
    assert dataset.target_label_map == {0: 0, 2: 1, 1: 2}
    assert dataset.label_values == {0: 0, 1: 2, 2: 1}  # masks are compared with labels of the target
    assert dataset.label_map_of("source.training") == dataset.source_label_map
    assert dataset.label_map_of("target.test") == dataset.target_label_map


def test_a_value_that_the_map_does_not_list_is_refused_with_the_label(folder: Path, content: dict[str, Any]) -> None:
    content["label_map"] = {"205": 1, "420": 2}

    message = refused(folder, content)

    assert message.startswith(str(folder / content["source"]["training"][0]["label"]))
    assert "the value 1" in message
    assert "0, 205, 420" in message
    assert "label_map" in message


@pytest.mark.parametrize(
    ("label_map", "words"),
    [
        ([205, 420], "write the class of each value"),
        ({"myocardium": 1}, "write the class of each value"),
        ({"205": 1, "420": 3}, "the value 420 the class 3"),
        ({"205": 1, "420": "left"}, "the class 'left'"),
        ({"205": 1}, "no value of the class 2 (right)"),
        ({"0": 1, "420": 2}, "0 is the background"),
        ({"-5": 1, "420": 2}, "values of structures are 1 to 32767"),
        ({"40000": 1, "420": 2}, "values of structures are 1 to 32767"),
        ({"205": True, "420": 2}, "the class True"),
    ],
)
@pytest.mark.parametrize("domain", [None, "target"])
def test_a_wrong_label_map_is_refused_with_its_place(
    domain: str | None, label_map: Any, words: str, folder: Path, content: dict[str, Any]
) -> None:
    (content if domain is None else content[domain])["label_map"] = label_map

    message = refused(folder, content)

    assert words in message
    assert f"{folder / 'dataset.json'}: {'label_map' if domain is None else 'target.label_map'} " in message


def test_labels_with_gaps_say_where_other_values_belong(folder: Path, content: dict[str, Any]) -> None:
    content["labels"] = {"0": "background", "205": "left", "420": "right"}

    assert "'label_map'" in refused(folder, content)
