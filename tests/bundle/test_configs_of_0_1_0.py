"""Configs that version 0.1.0 wrote: one sentence says that they are for that version, and what to do."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest
import sifa
from builders import refusal
from conftest import BUNDLE

TRAINING = """
imports:
- $import os
- $import torch
bundle_root: {_target_: sifa.location.bundle_root}
dataset_dir: ./data
output_dir: $@bundle_root + '/output'
train:
  iteration_update: {_target_: sifa.adversarial_update.AdversarialUpdate, networks: null}
run:
- {_target_: sifa.errors.report_input_errors_plainly}
- {_target_: sifa.output_dir.require_writable, folder: '@output_dir'}
- $@train#iteration_update
training: '@run'
"""
INFERENCE = """
bundle_root: {_target_: sifa.location.bundle_root}
model_dir: $@bundle_root + '/models'
fingerprint:
  _target_: sifa.fingerprint.read_fingerprint
  path: $@model_dir + '/fingerprint.json'
inferer:
  _target_: sifa.inferer.SliceSegmenter
  orientation: $@fingerprint['orientation']
inference:
- $@fingerprint
- '@inferer'
"""
NAMES = """
sifa.adversarial_update.AdversarialUpdate sifa.adversarial_update.Networks sifa.appearance.RandAppearanced
sifa.dataset_description.labeled_target sifa.dataset_description.read_dataset sifa.distributed.join_processes
sifa.distributed.process_device sifa.distributed.share_weights sifa.errors.report_input_errors_plainly
sifa.extras.DicomSegWriter sifa.extras.PreviewWriter sifa.extras.UncertaintyWriter sifa.field_of_view.FieldOfView
sifa.folding.for_inference sifa.image_pool.ImagePool sifa.inferer.SliceSegmenter sifa.label_free.LabelFreeScore
sifa.label_refinement.refine sifa.location.bundle_root sifa.loss_weights.LossWeights sifa.losses.SegmentationLoss
sifa.manifest.Manifest sifa.manifest.merge_shards sifa.manifest.settings_hash sifa.mixed_precision.MixedPrecision
sifa.options.require_structures sifa.options.require_switches sifa.output_dir.require_writable sifa.reader.ScanReader
sifa.scans.find_scans sifa.segment_scan.SegmentScan sifa.self_training.SelfTraining
sifa.self_training.expected_frequencies sifa.series_reader.SeriesReader sifa.simultaneous_update.SimultaneousUpdate
sifa.slice_cache.prepare_volumes sifa.source_update.SourceUpdate sifa.studies.WeightsInstaller
sifa.studies.studies_slices sifa.target_statistics.TargetStatistics sifa.training_state.TrainingState
sifa.training_state.state_to_resume sifa.unpaired.UnpairedSampler sifa.unpaired.UnpairedSlices
sifa.weight_average.WeightAverage sifa.weights.save_model sifa.weights.with_weights sifa.workers.start_worker
"""


@pytest.mark.slow
@pytest.mark.parametrize(("run_id", "config"), [("training", TRAINING), ("inference", INFERENCE)])
def test_the_command_line_says_in_one_sentence_that_a_config_is_for_0_1_0(
    run_id: str, config: str, tmp_path: Path
) -> None:
    file = tmp_path / "run" / "config.yaml"
    file.parent.mkdir()
    file.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(file)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    # In the bundle's folder, which `python -m` puts on the path: MONAI puts only the folder of the config there.
    result = subprocess.run(
        command, cwd=BUNDLE, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120
    )

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "this config is for version 0.1.0" in line
    assert "--model_dir" in line


@pytest.mark.parametrize("name", NAMES.split())
def test_each_name_of_0_1_0_that_is_gone_is_refused_as_monai_looks_it_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back after the test

    message = refusal(lambda: pydoc.locate(name))

    assert message.startswith(".".join(name.split(".")[:2]))
    assert sys.excepthook is not sys.__excepthook__


def test_other_names_are_missing_as_in_any_package_and_no_module_of_today_is_refused() -> None:
    assert pydoc.locate("sifa.no_such_module") is None
    assert not hasattr(sifa, "no_such_module")
    present = {path.stem for path in (BUNDLE / "sifa").iterdir()}
    assert not present & set(sifa.REMOVED.split())


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import sys, sifa; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
