"""Training from MONAI Label: which studies are used, what is refused, and when new weights are installed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import monailabel_server
import numpy as np
import pytest
import torch
from builders import Array, diagonal_affine, read_json, refusal, write_nifti
from conftest import BUNDLE
from ignite.engine import Engine
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor
from sifa.data.unpaired_slices import Draw, UnpairedSlices
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.io.scan_reader import load_image
from sifa.monailabel import PredictingInferer, WeightsInstaller, studies_slices
from sifa.monailabel.predicting_inferer import PREDICTION

FINGERPRINT = read_fingerprint(BUNDLE / "models" / "fingerprint.json")
STRUCTURES = list(FINGERPRINT.structure_names.values())
SHAPE = (8, 8, 4)


def mr() -> Array:
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)


def ct() -> Array:
    return np.random.default_rng(0).integers(-1000, 500, SHAPE).astype(np.int16)


def study(folder: Path, name: str, volume: Array, highest: int = 4) -> dict[str, str]:
    """Writes a scan and its final label as MONAI Label keeps them."""
    labels = (np.arange(volume.size).reshape(volume.shape) % (highest + 1)).astype(np.uint8)
    image = write_nifti(folder / f"{name}.nii.gz", volume, diagonal_affine((1, 1, 1)))
    label = write_nifti(folder / "labels" / "final" / f"{name}.nii.gz", labels, diagonal_affine((1, 1, 1)))
    return {"image": str(image), "label": str(label)}


def note_segments(folder: Path, name: str, segments: list[str]) -> None:
    """Writes the datastore's index as the server does when 3D Slicer submits a label."""
    info = {"name": f"{name}.nii.gz", "label_info": [{"name": one, "idx": i + 1} for i, one in enumerate(segments)]}
    content = {"objects": {name: {"image": {}, "labels": {"final": {"ext": ".nii.gz", "info": info}}}}}
    (folder / "datastore_v2.json").write_text(json.dumps(content), encoding="utf-8")


def test_labels_of_other_values_are_mapped_unless_their_segments_are_numbered(tmp_path: Path, target: Path) -> None:
    values = np.array([0, 205, 3, 1, 820])
    fingerprint = dataclasses.replace(FINGERPRINT, label_values=dict(enumerate(values.tolist())))
    numbered, other = study(tmp_path / "a", "mr_1", mr()), study(tmp_path / "b", "mr_2", mr())
    note_segments(tmp_path / "a", "mr_1", STRUCTURES)
    classes = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5
    write_nifti(Path(other["label"]), values[classes].astype(np.int16), diagonal_affine((1, 1, 1)))

    def load(item: Any) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(load_image(path).numpy()[None]) for key, path in item.items()}

    found = studies_slices([numbered, other], (), str(target), fingerprint, load, load)

    for index in range(found.source_size):
        label = found[Draw(index, 0, 0)]["source_label"]
        assert np.array_equal(label[0].numpy(), classes[:, :, index % SHAPE[2]])
    write_nifti(Path(other["label"]), classes.astype(np.uint8), diagonal_affine((1, 1, 1)))
    message = refusal(lambda: studies_slices([numbered, other], (), str(target), fingerprint, load, load))
    assert message.startswith(other["label"])
    assert "the value 2" in message


def test_masks_have_the_values_of_the_labels_but_for_viewers_which_number_segments(tmp_path: Path) -> None:
    """3D Slicer and OHIF ask for uint8 (`result_dtype`), in which 420 would become 164."""
    content = read_json(BUNDLE / "models" / "fingerprint.json")
    values = [0, 205, 420, 3, 1]
    content |= {"format": 3, "label_values": {str(index): value for index, value in enumerate(values)}}
    (tmp_path / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
    parser.update({"model_dir": str(tmp_path), "largest_component": [420]})
    pred = torch.zeros((1, 6, 5, 4), dtype=torch.uint8)
    pred[0, :2], pred[0, 2, :, 1], pred[0, 4, 2, 2], pred[0, 5] = 2, 1, 2, 4
    kept = pred.clone()
    kept[0, 4, 2, 2] = 0
    postprocessing = parser.get_parsed_content("postprocessing")

    for_files = postprocessing({"pred": pred})["pred"]
    for_viewers = postprocessing({"pred": pred, "result_dtype": "uint8"})["pred"]

    assert for_files.dtype == torch.int16
    assert torch.equal(for_files, torch.tensor(values, dtype=torch.int16)[kept.int()])
    assert torch.equal(for_viewers.to(torch.uint8), kept)


def test_a_prediction_reaches_the_reply_through_all_of_postprocessing(tmp_path: Path) -> None:
    content = read_json(BUNDLE / "models" / "fingerprint.json")
    content |= {"format": 3, "label_values": {"0": 0, "1": 205, "2": 420, "3": 3, "4": 1}}
    (tmp_path / "fingerprint.json").write_text(json.dumps(content), encoding="utf-8")
    files = [BUNDLE / "configs" / "inference.yaml", monailabel_server.SUPPORT / "inference.yaml"]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    parser.update({"bundle_root": str(BUNDLE), "model_dir": str(tmp_path), "largest_component": [420]})
    inferer, postprocessing = (parser.get_parsed_content(name) for name in ("inferer", "postprocessing"))
    pred = MetaTensor(torch.ones((1, 6, 5, 4), dtype=torch.uint8))

    assert "result" not in postprocessing({"pred": pred})
    pred.meta[PREDICTION] = {"lowest_predicted_dice": 0.5}
    item = postprocessing({"pred": pred, "result": {"kept": True}})

    assert item["result"] == {"kept": True, "lowest_predicted_dice": 0.5}
    assert bool((item["pred"] == 205).all())
    assert isinstance(inferer, PredictingInferer)
    assert inferer.inferer.settings()["overlap"] == 0.25


def slices(data: Any, target_dir: Path | str, held_back: Any = ()) -> UnpairedSlices:
    def load(item: Any) -> dict[str, torch.Tensor]:
        return {key: torch.full((1, 8, 8, 4), float("mr" in Path(path).name)) for key, path in item.items()}

    return studies_slices(data, held_back, str(target_dir), FINGERPRINT, load, load)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "target" / "ct_9.nii.gz", ct())
    return tmp_path / "target"


def test_labeled_mr_trains_with_what_is_held_back_and_labeled_ct_is_left_out(tmp_path: Path, target: Path) -> None:
    items = [study(tmp_path, name, mr()) for name in ("mr_1", "mr_2")] + [study(tmp_path, "ct_1", ct())]
    found = slices(items[1:], target, held_back=items[:1])
    assert (found.source_size, found.target_size) == (8, 4)  # 4 slices a volume
    samples = [found[Draw(index, index % 4, 0)] for index in range(8)]
    assert all(bool((sample["source_image"] == 1).all()) for sample in samples)
    assert all(bool((sample["target_image"] == 0).all()) for sample in samples)


def test_without_a_labeled_source_scan_there_is_no_training(tmp_path: Path, target: Path) -> None:
    assert "no MR among the studies has a final label" in refusal(lambda: slices([], target))
    labeled = study(tmp_path, "ct_1", ct())
    assert "no MR among the studies has a final label" in refusal(lambda: slices([labeled], target))


def test_a_target_folder_that_gives_no_target_scan_is_refused(tmp_path: Path) -> None:
    source = [study(tmp_path / "studies", "mr_1", mr())]
    (tmp_path / "empty").mkdir()
    write_nifti(tmp_path / "mixed" / "mr_2.nii.gz", mr())
    assert "target_dir is empty" in refusal(lambda: slices(source, ""))
    assert "there is no such folder" in refusal(lambda: slices(source, tmp_path / "nowhere"))
    assert "it holds no scan file" in refusal(lambda: slices(source, tmp_path / "empty"))
    assert "it is not CT in HU" in refusal(lambda: slices(source, tmp_path / "mixed"))


def test_a_label_value_that_the_network_does_not_know_is_refused(tmp_path: Path, target: Path) -> None:
    assert "it holds the value 5" in refusal(lambda: slices([study(tmp_path, "mr_1", mr(), highest=5)], target))


def test_a_label_whose_segments_are_not_the_networks_in_order_is_refused(tmp_path: Path, target: Path) -> None:
    source = [study(tmp_path, "mr_1", mr())]
    note_segments(tmp_path, "mr_1", STRUCTURES[1:])  # without the first, all values are shifted
    assert f"its segments are {', '.join(STRUCTURES[1:])}" in refusal(lambda: slices(source, target))
    note_segments(tmp_path, "mr_1", [name.upper() for name in STRUCTURES])
    assert slices(source, target).source_size == 4


def in_use(folder: Path) -> Path:
    folder.mkdir()
    for name in ("model.pt", "fingerprint.json"):
        (folder / name).write_text(f"earlier {name}", encoding="utf-8")
    return folder


def run(installer: WeightsInstaller) -> None:
    engine = Engine(lambda engine, batch: None)
    installer.attach(engine)
    engine.run([0], max_epochs=1)


def test_new_weights_come_into_use_and_the_earlier_pair_is_kept(tmp_path: Path) -> None:
    network, models = torch.nn.Linear(2, 1), in_use(tmp_path / "models")
    run(WeightsInstaller(network, models, tmp_path / "earlier", enabled=True))
    assert torch.equal(torch.load(models / "model.pt")["weight"], network.weight)
    assert (models / "fingerprint.json").read_text(encoding="utf-8") == "earlier fingerprint.json"
    kept = next((tmp_path / "earlier").iterdir())
    assert sorted(path.read_text(encoding="utf-8") for path in kept.iterdir()) == [
        "earlier fingerprint.json",
        "earlier model.pt",
    ]


def test_a_calibration_goes_with_the_weights_that_it_belongs_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = in_use(tmp_path / "models")
    (models / "calibration.json").write_text("of the earlier", encoding="utf-8")
    run(WeightsInstaller(torch.nn.Linear(2, 1), models, tmp_path / "earlier", enabled=True))
    kept = next((tmp_path / "earlier").iterdir())
    assert (kept / "calibration.json").read_text(encoding="utf-8") == "of the earlier"
    assert not (models / "calibration.json").exists()
    assert "no Dice is predicted with the new weights" in caplog.text


def test_weights_stay_in_use_where_new_ones_are_not_wanted_or_diverged(tmp_path: Path) -> None:
    network, models = torch.nn.Linear(2, 1), in_use(tmp_path / "models")
    run(WeightsInstaller(network, models, tmp_path / "earlier", enabled=False))
    torch.nn.init.constant_(network.weight, float("nan"))
    diverged = WeightsInstaller(network, models, tmp_path / "earlier", enabled=True)
    assert "diverged" in refusal(lambda: run(diverged))
    assert (models / "model.pt").read_text(encoding="utf-8") == "earlier model.pt"
    assert not (tmp_path / "earlier").exists()


def test_the_servers_training_config_lacks_no_property_and_takes_a_device_by_name(tmp_path: Path, target: Path) -> None:
    for part in ("models", "sifa"):
        shutil.copytree(BUNDLE / part, tmp_path / "bundle" / part)
    overrides: dict[str, Any] = {
        "bundle_root": str(tmp_path / "bundle"),
        "device": "cpu",  # a name, as the server passes it
        "displayable_configs": {"target_dir": str(target), "install_weights": False},
        "train#dataset#data": [study(tmp_path, "mr_1", mr())],
    }
    files = [str(BUNDLE / "configs" / name) for name in ("train.yaml", "recommended.yaml", "monailabel.yaml")]
    workflow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.parser.get_parsed_content("train#trainer")
    assert not (tmp_path / "bundle" / "output").exists()


def test_a_calibration_is_copied_with_its_weights_and_never_left_beside_others(tmp_path: Path) -> None:
    model, calibrated, others = tmp_path / "model", in_use(tmp_path / "calibrated"), in_use(tmp_path / "others")
    (calibrated / "calibration.json").write_text("of calibrated", encoding="utf-8")
    (others / "model.pt").write_text("others", encoding="utf-8")
    model.mkdir()
    copy = model / "models" / "calibration.json"

    monailabel_server.put_weights(model, str(calibrated))
    assert copy.read_text(encoding="utf-8") == "of calibrated"
    monailabel_server.put_weights(model, str(others))
    assert not copy.exists()
    copy.write_text("made on the server", encoding="utf-8")  # by run calibrating
    monailabel_server.put_weights(model, str(others))
    assert copy.read_text(encoding="utf-8") == "made on the server"
    (model / "models" / "model.pt").write_text("trained", encoding="utf-8")
    copy.unlink()
    monailabel_server.put_weights(model, str(calibrated))  # as with the folder of earlier weights
    assert copy.read_text(encoding="utf-8") == "of calibrated"


def test_trained_weights_stay_until_others_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = monailabel_server
    model, others = tmp_path / "model", in_use(tmp_path / "others")
    model.mkdir()

    def weights() -> str:
        return (model / "models" / "model.pt").read_text(encoding="utf-8")

    script.put_weights(model, str(others))
    (others / "model.pt").write_text("newer", encoding="utf-8")
    script.put_weights(model, str(others))
    assert weights() == "newer"  # nothing was trained in between
    (model / "models" / "model.pt").write_text("trained", encoding="utf-8")
    script.put_weights(model, None)
    script.put_weights(model, str(model / "models"))
    assert weights() == "trained"
    assert "trained through the server" in capsys.readouterr().out
    script.put_weights(model, str(others))
    assert weights() == "newer"
    assert (model / "earlier" / "replaced-1" / "model.pt").read_text(encoding="utf-8") == "trained"
