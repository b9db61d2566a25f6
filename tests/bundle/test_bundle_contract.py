"""What MONAI asks of a bundle: properties, metadata, network format, export."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import sifa
import sifa.networks
import torch
from builders import read_json
from conftest import BUNDLE, RECOMMENDED, ROOT, run_python
from monai.bundle import ConfigWorkflow
from sifa.fingerprint.fingerprint import read_fingerprint


def metadata() -> dict[str, Any]:
    return read_json(BUNDLE / "configs" / "metadata.json")


def monai_bundle(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m monai.bundle` from the bundle's folder."""
    return run_python(["-m", "monai.bundle", *arguments], BUNDLE, check=False)


@pytest.mark.parametrize(
    ("kind", "configs"),
    [
        ("train", ["train.yaml"]),
        ("train", [*RECOMMENDED, "source_only.yaml"]),
        ("train", ["train.yaml", "compact.yaml", "authors.yaml"]),
        ("train", [*RECOMMENDED, "source_only.yaml", "appearance.yaml"]),
        ("train", ["train.yaml", "evaluate.yaml"]),
        ("train", ["train.yaml", "adapt_batch_norm.yaml"]),
        ("infer", ["inference.yaml"]),
    ],
)
def test_no_property_is_missing_or_misnamed(
    kind: str, configs: list[str], phantom: Path, trained: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), "width": 0.0625}
    if configs[-1] in ("evaluate.yaml", "adapt_batch_norm.yaml", "inference.yaml"):
        options["model_dir"] = str(trained)
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / name) for name in configs],
        workflow_type=kind,
        logging_file=False,
        **options,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_package_metadata_and_changelog_agree_on_the_version() -> None:
    content = metadata()
    assert content["version"] == sifa.__version__
    assert content["version"] in content["changelog"]
    assert f"## {sifa.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_metadata_names_the_tested_versions() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    content = metadata()
    assert content["monai_version"] == pins["monai"]
    assert content["pytorch_version"] == pins["torch"]
    assert content["numpy_version"] == pins["numpy"]
    for package, version in content["required_packages_version"].items():
        assert pins[package] == version


def test_the_metadata_describes_the_shipped_network() -> None:
    fingerprint = read_fingerprint(BUNDLE / "models" / "fingerprint.json")
    formats = metadata()["network_data_format"]
    assert formats["outputs"]["pred"]["channel_def"] == fingerprint.to_json()["labels"]
    assert formats["outputs"]["pred"]["num_channels"] == fingerprint.network.out_channels
    assert formats["inputs"]["image"]["num_channels"] == fingerprint.network.in_channels
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    assert all(type(value) is torch.Tensor for value in state.values())


def test_monai_verifies_the_metadata_offline(shared: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes((shared / "meta_schema_20240725.json").read_bytes())
    result = monai_bundle("verify_metadata", "--meta_file", "configs/metadata.json", "--filepath", str(schema))
    assert result.returncode == 0, result.stderr
    assert "metadata is verified with no error" in result.stdout + result.stderr


def test_monai_verifies_the_networks_input_and_output() -> None:
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]
    result = monai_bundle("verify_net_in_out", "--net_id", "network_def", *files)
    assert result.returncode == 0, result.stderr
    assert "data shape of network is verified with no error" in result.stdout + result.stderr


def test_the_exported_torchscript_says_what_the_network_says(tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    files = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]
    weights = ["--filepath", str(exported), "--ckpt_file", "models/model.pt"]
    result = monai_bundle("ckpt_export", "network_def", *weights, *files)
    assert result.returncode == 0, result.stderr
    fingerprint = read_fingerprint(BUNDLE / "models" / "fingerprint.json")
    network = sifa.networks.Segmenter(**asdict(fingerprint.network)).eval()
    network.load_state_dict(torch.load(BUNDLE / "models" / "model.pt", weights_only=True))
    images = torch.rand(2, 1, 50, 70) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(torch.jit.load(exported).eval()(images), network(images), atol=1e-5)
