"""The bundle through MONAI's real command line: training, inference, evaluating, overlays, places to call it from."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from builders import read_json
from conftest import BUNDLE, RECOMMENDED, ROOT, TINY, run_bundle, run_script
from sifa.io.nifti_files import load_nifti
from sifa.training.checkpoint import NAME, read_state

pytestmark = pytest.mark.slow

SINGLE: dict[str, Any] = {**TINY, "epochs": 1, "iterations_per_epoch": 1}


def mask_of(output: Path, scan: Path) -> nib.Nifti1Pair:
    return load_nifti(output / scan.name.replace(".nii.gz", "_seg.nii.gz"))


def test_training_writes_a_model_its_fingerprint_and_every_loss(trained: Path) -> None:
    state = torch.load(trained / "model.pt", weights_only=True)
    assert all(type(value) is torch.Tensor for value in state.values())
    fingerprint = read_json(trained / "fingerprint.json")
    assert fingerprint["labels"]["4"] == "ascending aorta"
    assert fingerprint["network"] == {"in_channels": 1, "width": 0.0625, "out_channels": 5}
    rows = list(csv.DictReader((trained / "scalars.csv").open(encoding="utf-8")))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    terms = {"target_adversarial", "source_adversarial", "source_cycle", "target_cycle", "segmentation"}
    assert terms | {"prediction_adversarial", "auxiliary_adversarial", "segmenter_loss"} <= set(rows[0])
    assert list(trained.glob("events.out.tfevents.*"))


def test_inference_writes_uint8_masks_in_the_grid_of_each_scan(phantom: Path, trained: Path, tmp_path: Path) -> None:
    run_bundle(
        "inference", ["inference.yaml"], model_dir=trained, dataset_dir=phantom / "ct_images", output_dir=tmp_path
    )
    scans = sorted((phantom / "ct_images").glob("*.nii.gz"))
    assert len(scans) == len(list(tmp_path.rglob("*.nii.gz"))) == 5
    for scan in scans:
        image, mask = load_nifti(scan), mask_of(tmp_path, scan)
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        assert np.asarray(mask.dataobj).max() <= 4


def test_evaluating_writes_tables_figures_and_all_metrics(phantom: Path, trained: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom, "output_dir": tmp_path}
    options |= {"tolerance_mm": 3, "resamples": 100}
    result = run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], fork=False, **options)
    assert "ascending aorta" in result.stdout
    endings = (".csv", ".json", ".md", ".tex", "_box_plots.png", "_box_plots.svg")
    assert sorted(path.name for path in tmp_path.glob("results*")) == [f"results{ending}" for ending in endings]
    summary = read_json(tmp_path / "results.json")
    first = ["mean_dice", "surface_distance_voxels", "surface_distance_mm"]  # as in earlier versions
    assert list(summary["metrics"])[:3] == first
    assert summary["metrics"]["nsd"]["heading"] == "NSD at 3 mm (%)"
    assert len(summary["volumes"]) == 2
    rows = list(csv.DictReader((tmp_path / "results.csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 4
    assert list(rows[0])[:5] == ["volume", "structure", *first]


@pytest.mark.parametrize(("option", "value"), [("tolerance_mm", -1), ("resamples", 0)])
def test_bad_options_of_evaluating_are_refused_before_any_work(
    option: str, value: int, phantom: Path, trained: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom, "output_dir": tmp_path, option: value}
    result = run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], check=False, **options)
    assert result.returncode == 2
    assert f"error: --{option} {value}" in result.stderr
    assert not list(tmp_path.iterdir())


def test_evaluation_equals_dice_of_the_masks_that_inference_wrote(phantom: Path, trained: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model_dir": trained, "output_dir": tmp_path}
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], dataset_dir=phantom, **options)
    run_bundle("inference", ["inference.yaml"], dataset_dir=phantom / "ct_images", **options)
    summary = read_json(tmp_path / "results.json")["metrics"]["mean_dice"]["structures"]
    tests = read_json(phantom / "dataset.json")["target"]["test"]
    for value, structure in enumerate(summary, start=1):
        for number, item in enumerate(tests):
            truth = np.asarray(load_nifti(phantom / item["label"]).dataobj) == value
            pred = np.asarray(mask_of(tmp_path, phantom / item["image"]).dataobj) == value
            dice = 200 * (truth & pred).sum() / (truth.sum() + pred.sum())
            assert summary[structure]["volumes"][number] == pytest.approx(dice, abs=1e-3)


@pytest.mark.parametrize("run_id", ["training", None])
def test_training_runs_once_under_its_name_and_as_plain_run(run_id: str | None, phantom: Path, tmp_path: Path) -> None:
    result = run_bundle(run_id, RECOMMENDED, dataset_dir=phantom, output_dir=tmp_path, **SINGLE)
    assert result.stdout.count("epoch 1 of 1") == 1


def test_it_runs_from_the_repository_and_from_the_bundle_with_relative_paths(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model_dir": trained, "dataset_dir": phantom / "ct_images" / "ct_test_000.nii.gz"}
    for number, (cwd, bundle) in enumerate([(ROOT, Path("bundle")), (BUNDLE, Path())]):
        output = tmp_path / str(number)
        run_bundle(None, ["inference.yaml"], bundle=bundle, cwd=cwd, output_dir=output, fork=False, **options)
        assert (output / "ct_test_000_seg.nii.gz").is_file()


def test_a_copy_of_the_bundle_under_another_name_works_alone(phantom: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name"
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "output", "eval"))
    version = "0.0.0+copy"  # differs from the checkout's, which is installed
    (copy / "sifa" / "__init__.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    training: dict[str, Any] = {"dataset_dir": phantom, **SINGLE}
    run_bundle("training", RECOMMENDED, bundle=copy, cwd=tmp_path, fork=False, **training)
    assert (copy / "output" / "model.pt").is_file()
    assert read_json(copy / "output" / "fingerprint.json")["versions"]["sifa"] == version
    scan = phantom / "ct_images" / "ct_test_000.nii.gz"
    segmenting: dict[str, Any] = {"model_dir": copy / "output", "dataset_dir": scan}
    run_bundle("inference", ["inference.yaml"], bundle=copy, cwd="/", fork=False, **segmenting)
    assert (copy / "eval" / "ct_test_000_seg.nii.gz").is_file()
    assert read_json(copy / "eval" / "manifest.json")["bundle_version"] == version


def test_the_shipped_weights_run_right_after_install(phantom: Path, tmp_path: Path) -> None:
    scan = phantom / "ct_images" / "ct_test_000.nii.gz"
    run_bundle("inference", ["inference.yaml"], dataset_dir=scan, output_dir=tmp_path, fork=False)
    mask = np.asarray(mask_of(tmp_path, scan).dataobj)
    assert set(np.unique(mask)) == {0, 1, 2, 3, 4}
    assert (BUNDLE / "models" / "model.pt").stat().st_size < 10e6


@pytest.mark.parametrize(
    ("overlays", "absent"),
    [
        (["source_only.yaml"], {"target_generator_loss", "prediction_adversarial"}),
        (["source_only.yaml", "supervised.yaml"], {"target_generator_loss", "prediction_adversarial"}),
        (["image_adaptation.yaml"], {"auxiliary_adversarial", "prediction_adversarial"}),
        (["prediction_adaptation.yaml"], {"auxiliary_adversarial"}),
    ],
)
def test_each_ablation_is_an_overlay_of_the_one_trainer(
    overlays: list[str], absent: set[str], phantom: Path, tmp_path: Path
) -> None:
    run_bundle("training", [*RECOMMENDED, *overlays], dataset_dir=phantom, output_dir=tmp_path, **SINGLE)
    columns = set((tmp_path / "scalars.csv").read_text(encoding="utf-8").splitlines()[0].split(","))
    assert "segmentation" in columns
    assert not absent & columns
    assert (tmp_path / "model.pt").is_file()


def test_the_roles_can_be_swapped_ct_gives_the_labels_and_mr_is_adapted_to(phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom, data)
    there, back = read_json(data / "dataset.json"), read_json(data / "supervised.json")
    measured_on, *adapted_to = there["source"]["training"]
    swapped = {
        **there,
        "source": {"modality": "CT", "training": back["source"]["training"]},
        "target": {
            "modality": "MR",
            "training": [{"image": item["image"]} for item in adapted_to],
            "test": [measured_on],
        },
    }
    (data / "dataset.json").write_text(json.dumps(swapped), encoding="utf-8")

    run_bundle("training", RECOMMENDED, dataset_dir=data, output_dir=tmp_path / "run", **SINGLE)
    measured: dict[str, Any] = {"model_dir": tmp_path / "run", "dataset_dir": data, "output_dir": tmp_path / "measured"}
    run_bundle("evaluating", ["train.yaml", "evaluate.yaml"], **measured)

    fingerprint = read_json(tmp_path / "run" / "fingerprint.json")
    assert [fingerprint[domain]["intensity"]["mode"] for domain in ("source", "target")] == ["window", "percentiles"]
    assert read_json(tmp_path / "measured" / "results.json")["volumes"] == [Path(measured_on["image"]).name]


def parameters_and_statistics(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], ...]:
    """Splits a segmenter's state."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parts: tuple[dict[str, torch.Tensor], ...] = ({}, {})
    for name, value in state.items():
        parts[name.endswith(statistics)][name] = value
    return parts


def test_the_weight_average_is_exported_with_statistics_of_its_own(trained: Path) -> None:
    update = read_state(trained / NAME)["update"]
    average = {name.removeprefix("module."): value for name, value in update["average"].items() if "module." in name}
    written = torch.load(trained / "last" / "model.pt", weights_only=True)
    assert all(torch.equal(value, average[name]) for name, value in written.items())
    (parameters, statistics), (todays, collected) = map(
        parameters_and_statistics, (written, update["networks"]["segmenter"])
    )
    assert any(not torch.equal(value, todays[name]) for name, value in parameters.items())
    assert all(
        not torch.equal(value, collected[name])
        for name, value in statistics.items()
        if not name.endswith("num_batches_tracked")
    )


@pytest.fixture(scope="module")
def papers(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("papers")
    configs = ["train.yaml", "compact.yaml"]
    run_bundle("training", configs, dataset_dir=phantom, output_dir=output, adversarial_lr=0.0002, **SINGLE)
    return output


def test_the_papers_setting_exports_the_last_iterations_network_as_it_is(papers: Path) -> None:
    segmenter = read_state(papers / NAME)["update"]["networks"]["segmenter"]
    written = torch.load(papers / "model.pt", weights_only=True)
    assert all(torch.equal(value, segmenter[name]) for name, value in written.items())
    header, row = (papers / "scalars.csv").read_text(encoding="utf-8").splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(values["target_generator_learning_rate"]) == pytest.approx(0.0002)
    assert "self_training" not in values


def test_the_target_generator_sees_the_image_and_by_recommendation_the_classes(papers: Path, trained: Path) -> None:
    networks = [read_state(folder / NAME)["update"]["networks"] for folder in (papers, trained)]
    assert [next(iter(each["target_generator"].values())).shape[1] for each in networks] == [1, 1 + 5]


@pytest.mark.parametrize("setting", ["papers", "trained"])
def test_translations_are_drawn_whether_or_not_the_target_generator_sees_classes(
    setting: str, phantom: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    picture = tmp_path / "panels.png"
    run_script("panels.py", str(request.getfixturevalue(setting)), str(phantom), str(picture), "--rows", "1")
    assert picture.stat().st_size > 0


def test_the_authors_setting_leaves_out_the_norm_of_the_discriminators_first_layer(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    configs = ["train.yaml", "compact.yaml", "authors.yaml"]
    run_bundle("training", configs, dataset_dir=phantom, output_dir=tmp_path, **SINGLE)
    networks, usual = (read_state(folder / NAME)["update"]["networks"] for folder in (tmp_path, trained))
    for name in ("target_discriminator", "source_discriminator", "prediction_discriminator"):
        assert len(usual[name]) - len(networks[name]) == 2  # scale and shift of one norm
    assert (tmp_path / "model.pt").is_file()


def test_random_appearance_of_source_images_changes_what_training_sees(phantom: Path, tmp_path: Path) -> None:
    rows = []
    for number, overlays in enumerate([["source_only.yaml"], ["source_only.yaml", "appearance.yaml"]]):
        output = tmp_path / str(number)
        configs = [*RECOMMENDED, *overlays]
        run_bundle("training", configs, dataset_dir=phantom, output_dir=output, **SINGLE)
        assert (output / "model.pt").is_file()
        rows.append((output / "scalars.csv").read_text(encoding="utf-8").splitlines())
    assert rows[0][0] == rows[1][0]
    assert rows[0][1] != rows[1][1]


def test_self_training_is_a_weight_away(phantom: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SINGLE, "loss_weights__segmenter__self_training": 1}
    run_bundle("training", RECOMMENDED, dataset_dir=phantom, output_dir=tmp_path, **options)
    row = next(iter(csv.DictReader((tmp_path / "scalars.csv").open(encoding="utf-8"))))
    assert float(row["self_training"]) > 0
    state = read_state(tmp_path / NAME)["update"]["method"]["self_training"]
    assert state["predicted"].sum().item() == pytest.approx(1, abs=1e-4)


def test_a_weight_whose_term_the_config_does_not_prepare_is_refused(phantom: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**SINGLE, "loss_weights__segmenter": "{'segmentation': 1, 'self_training': 1}"}
    places: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path}
    result = run_bundle("training", ["train.yaml", "compact.yaml"], check=False, **places, **options)
    assert result.returncode == 1
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "loss_weights#segmenter#self_training" in error
    assert "recommended.yaml" in error


def test_adapting_measures_the_statistics_on_target_images_and_changes_nothing_else(
    phantom: Path, trained: Path, tmp_path: Path
) -> None:
    state = torch.load(trained / "model.pt", weights_only=True)
    strange = {name: value + 1 if "running_" in name else value for name, value in state.items()}
    (tmp_path / "model").mkdir()
    torch.save(strange, tmp_path / "model" / "model.pt")
    shutil.copy(trained / "fingerprint.json", tmp_path / "model")
    places: dict[str, Any] = {"dataset_dir": phantom, "model_dir": tmp_path / "model", "output_dir": tmp_path / "out"}
    run_bundle("adapting", ["train.yaml", "adapt_batch_norm.yaml"], **places)
    adapted = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert adapted.keys() == state.keys()
    for name, value in state.items():  # whose statistics training measured on the same slices
        torch.testing.assert_close(adapted[name], value, rtol=1e-4, atol=1e-6, msg=name)
    (parameters, _), (given, _) = map(parameters_and_statistics, (adapted, strange))
    assert all(torch.equal(value, given[name]) for name, value in parameters.items())
    assert read_json(tmp_path / "out" / "fingerprint.json") == read_json(trained / "fingerprint.json")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fingerprint.json", "model.pt"]


def test_two_runs_from_one_seed_give_the_same_losses_and_weights(phantom: Path, trained: Path, tmp_path: Path) -> None:
    run_bundle("training", RECOMMENDED, dataset_dir=phantom, output_dir=tmp_path, **TINY)
    assert (tmp_path / "scalars.csv").read_bytes() == (trained / "scalars.csv").read_bytes()
    first, second = (torch.load(folder / "model.pt", weights_only=True) for folder in (trained, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_losses(phantom: Path, trained: Path, tmp_path: Path) -> None:
    run_bundle("training", RECOMMENDED, dataset_dir=phantom, output_dir=tmp_path, seed=1, **SINGLE)
    first, other = ((folder / "scalars.csv").read_bytes().splitlines()[1] for folder in (trained, tmp_path))
    assert first != other


def test_validation_lists_are_measured_during_training(phantom: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path, "val_interval": 1, **SINGLE}
    run_bundle("training", RECOMMENDED, **options)
    assert read_json(tmp_path / "validation.json")["volumes"] == ["ct_validation_000.nii.gz"]


def test_with_an_interval_of_zero_nothing_is_validated(phantom: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": phantom, "output_dir": tmp_path, "val_interval": 0, **SINGLE}
    run_bundle("training", RECOMMENDED, **options)
    assert (tmp_path / "model.pt").is_file()
    assert not (tmp_path / "validation.json").exists()


def test_the_paper_scale_config_builds_runs_an_iteration_and_saves(phantom: Path, tmp_path: Path) -> None:
    one: dict[str, Any] = {"batch_size": 1, "epochs": 1, "iterations_per_epoch": 1}
    run_bundle("training", ["train.yaml"], dataset_dir=phantom, output_dir=tmp_path, **one)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert sum(value.numel() for name, value in state.items() if name.endswith(("weight", "bias"))) > 27.5e6
    assert read_json(tmp_path / "fingerprint.json")["slice_size"] == [256, 256]
