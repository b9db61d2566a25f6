"""MONAI Label end to end: `scripts/monailabel.sh` starts its server, requests go over HTTP, labels are compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import Array, calibrate_by_hand, read_json, stored_as, write_nifti
from conftest import BUNDLE, ROOT, run_bundle
from sifa.io.nifti_files import load_nifti

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "monailabel.sh"
SET_UP, REPLY, BACKGROUND = 420, 120, 240  # seconds to wait at most
ORIENTATIONS = {"ras": "RAS", "lps": "LPS", "permuted": "SAL", "oblique": "PRS"}
NO_GPU = {"device": "cpu", "multi_gpu": False}
STRATEGY = "/activelearning/lowest_predicted_dice"


@dataclass
class Server:
    """A running server."""

    address: str
    model: str
    studies: Path  # the folder given to the script; the server works on a copy
    target: Path
    app_model: Path  # the copy of the bundle that is served

    @property
    def weights(self) -> Path:
        """Folder of the weights in use."""
        return self.app_model / "models"

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        """Sends a request and returns status and content of the reply."""
        request = urllib.request.Request(f"{self.address}{path}", body, {"Content-Type": kind} if kind else {})
        request.method = method
        try:
            with urllib.request.urlopen(request, timeout=REPLY) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, path: str) -> Any:
        """Returns the JSON that a path answers with."""
        status, content = self.ask("GET", path)
        assert status == 200, content
        return json.loads(content)

    def send_json(self, path: str, options: Mapping[str, Any]) -> tuple[int, Any]:
        """Posts options and returns status and JSON."""
        status, content = self.ask("POST", path, json.dumps(options).encode(), "application/json")
        return status, json.loads(content)

    def send_form(
        self, method: str, path: str, params: Mapping[str, Any], files: Mapping[str, Path] | None = None
    ) -> tuple[int, bytes]:
        """Sends a form of `params` and files, as a browser would."""
        boundary = uuid.uuid4().hex
        parts = [b'Content-Disposition: form-data; name="params"\r\n\r\n' + json.dumps(params).encode()]
        for name, file in (files or {}).items():
            head = f'Content-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n\r\n'
            parts.append(head.encode() + file.read_bytes())
        body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
        kind = f"multipart/form-data; boundary={boundary}"
        return self.ask(method, path, body + b"--" + boundary.encode() + b"--\r\n", kind)

    def infer(self, image: str, folder: Path) -> nib.Nifti1Pair:
        """Segments a scan among the studies and returns its labels."""
        params = {"result_extension": ".nii.gz", "device": "cpu"}
        status, content = self.send_form("POST", f"/infer/{self.model}?image={image}&output=image", params)
        return as_image(status, content, folder / f"{image}.nii.gz")

    def reply(self, image: str, **params: Any) -> dict[str, Any]:
        """Segments a scan among the studies and returns the JSON part of the reply."""
        path = f"/infer/{self.model}?image={image}&output=json"
        status, content = self.send_form("POST", path, {"device": "cpu", **params})
        assert status == 200, content
        found: dict[str, Any] = json.loads(content)
        return found

    def submit(self, image: str, label: Path) -> None:
        """Uploads a final label."""
        status, content = self.send_form("PUT", f"/datastore/label?image={image}&tag=final", {}, {"label": label})
        assert status == 200, content

    def wait_for(self, task: str) -> dict[str, Any]:
        """Waits for a background task and returns how it ended."""
        end = time.monotonic() + BACKGROUND
        while time.monotonic() < end:
            found: dict[str, Any] = self.get(task)
            if found["status"] not in ("SUBMITTED", "RUNNING"):
                return found
            time.sleep(0.5)
        pytest.fail(f"{task} did not end within {BACKGROUND} s")

    def train(self, **changed: Any) -> dict[str, Any]:
        """Trains for an epoch and returns how that ended."""
        options = {"max_epochs": 1, "target_dir": str(self.target), "install_weights": True, **NO_GPU, **changed}
        status, reply = self.send_json(f"/train/{self.model}", options)
        assert status == 200, reply
        return self.wait_for("/train/")


def as_image(status: int, content: bytes, path: Path) -> nib.Nifti1Pair:
    """Returns the labels that a reply holds."""
    assert status == 200, content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return load_nifti(path)


def voxels(image: nib.Nifti1Pair) -> Array:
    return np.asarray(image.dataobj)


def assert_same(labels: nib.Nifti1Pair, mask: nib.Nifti1Pair, name: str) -> None:
    assert labels.get_data_dtype() == np.uint8, name
    assert np.array_equal(voxels(labels), voxels(mask)), name
    assert np.allclose(labels.affine, mask.affine, rtol=0, atol=1e-5), name  # it passes through ITK's float32 header
    assert len(np.unique(voxels(mask))) > 2, name


def masks_of_run_inference(scans: Path, weights: Path, output: Path) -> dict[str, nib.Nifti1Pair]:
    """Segments a folder on the command line and returns the masks by the scans' names."""
    run_bundle("inference", ["inference.yaml"], dataset_dir=scans, output_dir=output, model_dir=weights, device="cpu")
    return {path.name.removesuffix("_seg.nii.gz"): load_nifti(path) for path in output.glob("*_seg.nii.gz")}


def predictions_of(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `run inference` and the server both say about each structure, but for the flags."""
    return {name: {key: one[key] for key in ("predicted_dice", "low", "high")} for name, one in quality.items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def studies(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One generated CT in four storage orders, one of them oblique, and two MR."""
    folder = tmp_path_factory.mktemp("studies") / "scans"
    scan = nib.as_closest_canonical(load_nifti(phantom / "ct_images" / "ct_test_000.nii.gz"))
    affine = np.diag([*nib.affines.voxel_sizes(scan.affine), 1.0])
    affine[:3, 3] = [-70.0, -40.0, 15.0]
    angle = np.deg2rad(8.0)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for name, axcodes in ORIENTATIONS.items():
        volume, stored = stored_as(np.asarray(scan.dataobj), affine, axcodes)
        write_nifti(
            folder / f"{name}.nii.gz", np.ascontiguousarray(volume), tilt @ stored if name == "oblique" else stored
        )
    for image in (phantom / "mr_images").glob("*.nii.gz"):
        (folder / image.name).write_bytes(image.read_bytes())
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights with a calibration."""
    folder = tmp_path_factory.mktemp("calibrated")
    for name in ("model.pt", "fingerprint.json"):
        shutil.copy(BUNDLE / "models" / name, folder)
    calibrate_by_hand(folder)
    return folder


@pytest.fixture(scope="module")
def server(
    studies: Path, phantom: Path, calibrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on a loopback address, for the length of this module; each process of pytest-xdist has its own."""
    if not (ROOT / ".venv").is_dir():
        pytest.skip("MONAI Label's environment is made on top of .venv, which scripts/test.sh makes and is absent here")
    work, port = tmp_path_factory.mktemp("monailabel"), free_port()
    target = tmp_path_factory.mktemp("target")
    for image in (phantom / "ct_images").glob("ct_training_*.nii.gz"):
        (target / image.name).write_bytes(image.read_bytes())
    command = ["bash", str(SCRIPT), str(studies), "--model_dir", str(calibrated), "--target", str(target)]
    command += ["--port", str(port), "--work_dir", str(work)]
    log = work / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd="/", start_new_session=True)
    try:
        running = Server(f"http://127.0.0.1:{port}", "", studies, target, work)
        end = time.monotonic() + SET_UP
        while running.model == "":
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
            time.sleep(0.5)
            try:
                running.model = next(iter(running.get("/info/")["models"]))
            except (urllib.error.URLError, ConnectionError):
                continue
        running.app_model = work / "apps" / "monaibundle" / "model" / running.model
        yield running
        assert process.poll() is None, "the server did not stay up"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server, and a background task if there is one
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_server_says_what_it_serves(server: Server) -> None:
    info = server.get("/info/")
    metadata = read_json(BUNDLE / "configs" / "metadata.json")
    structures = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    model = info["models"][server.model]
    assert model["type"] == "segmentation"
    assert model["version"] == metadata["version"]
    assert model["labels"] == {name: int(value) for value, name in structures.items() if value != "0"}
    assert info["trainers"][server.model]["config"]["target_dir"] == str(server.target)
    assert info["datastore"]["total"] == 6
    assert "lowest_predicted_dice" in info["strategies"]


def test_labels_are_those_of_run_inference_voxel_for_voxel(server: Server, tmp_path: Path) -> None:
    masks = masks_of_run_inference(server.studies, server.weights, tmp_path / "masks")
    for name in ORIENTATIONS:
        assert_same(server.infer(name, tmp_path / "existing"), masks[name], name)
        scan = server.studies / f"{name}.nii.gz"
        reply = server.send_form("POST", f"/infer/{server.model}?output=image", {"device": "cpu"}, {"file": scan})
        assert_same(as_image(*reply, tmp_path / "uploaded" / scan.name), masks[name], f"{name}, uploaded")


def test_a_reply_carries_the_predicted_dice_of_run_inference(server: Server, tmp_path: Path) -> None:
    masks_of_run_inference(server.studies / "ras.nii.gz", server.weights, tmp_path)
    (case,) = read_json(tmp_path / "manifest.json")["cases"]
    reply = server.reply("ras")
    assert predictions_of(reply["quality"]) == predictions_of(case["quality"])
    assert reply["lowest_predicted_dice"] == min(one["predicted_dice"] for one in case["quality"].values())
    flags = [flag for one in reply["quality"].values() for flag in one["flags"]]
    assert flags == [flag for one in case["quality"].values() for flag in one["flags"] if "predicted Dice" in flag]
    assert flags
    assert reply["doubts"] == []


def test_the_study_with_the_lowest_predicted_dice_comes_first_and_those_without_one_last(
    server: Server, tmp_path: Path
) -> None:
    status, content = server.ask("POST", STRATEGY)
    assert status == 400
    assert b"the datastore keeps no mask of the weights and calibration in use" in content
    server.reply("oblique", save_label=True)
    assert json.loads(server.ask("POST", STRATEGY)[1])["id"] == "oblique"  # `lps` is not segmented yet
    label = tmp_path / "oblique.nii.gz"
    label.write_bytes(server.ask("GET", "/datastore/label?label=oblique&tag=original")[1])
    server.submit("oblique", label)
    following = json.loads(server.ask("POST", STRATEGY)[1])
    assert following["id"] == "lps"
    assert "lowest_predicted_dice" not in following
    server.ask("DELETE", "/datastore/label?id=oblique&tag=final")


def test_3d_slicers_request_is_answered_with_labels_and_their_names(server: Server) -> None:
    params = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False, "device": "cpu"}
    status, content = server.send_form("POST", f"/infer/{server.model}?image=lps", params)
    assert status == 200
    assert b"NRRD000" in content
    assert json.dumps({"label_names": server.get("/info/")["models"][server.model]["labels"]})[1:-1].encode() in content


def test_batch_inference_labels_all_scans_and_leaves_the_studies_alone(server: Server, tmp_path: Path) -> None:
    before = sorted(server.studies.rglob("*"))
    status, _ = server.send_json(f"/batch/infer/{server.model}", {**NO_GPU, "max_workers": 2})
    assert status == 200
    assert server.wait_for("/batch/infer")["status"] == "DONE"
    assert server.get("/datastore/")["label_tags"]["original"] == 6
    for name in ORIENTATIONS:
        reply = server.ask("GET", f"/datastore/label?label={name}&tag=original")
        assert_same(as_image(*reply, tmp_path / f"{name}.nii.gz"), server.infer(name, tmp_path / "single"), name)
    assert sorted(server.studies.rglob("*")) == before

    (kept,) = server.app_model.parents[3].glob("studies/*/datastore_v2.json")  # read again at each start
    predicted = {
        image: study["labels"]["original"]["info"]["params"]["lowest_predicted_dice"]
        for image, study in read_json(kept)["objects"].items()
    }
    assert predicted["ras"] == server.reply("ras")["lowest_predicted_dice"]
    chosen = json.loads(server.ask("POST", STRATEGY)[1])
    assert chosen["id"] == min(sorted(predicted), key=lambda image: predicted[image])
    assert chosen["lowest_predicted_dice"] == min(predicted.values())


def test_training_adapts_to_unlabeled_ct_and_the_next_request_uses_the_new_weights(
    server: Server, phantom: Path, tmp_path: Path
) -> None:
    shipped = {path: hashlib.sha256(path.read_bytes()).digest() for path in (BUNDLE / "models").iterdir()}
    before, in_use = voxels(server.infer("ras", tmp_path / "before")), (server.weights / "model.pt").read_bytes()
    calibration = (server.weights / "calibration.json").read_bytes()
    fingerprint = (server.weights / "fingerprint.json").read_bytes()
    for label in sorted((phantom / "mr_labels").glob("*.nii.gz")):
        image = label.name.removesuffix(".nii.gz")
        server.submit(image, label)
    assert len(server.get("/datastore/?output=train")) == 2

    empty = tmp_path / "empty"
    empty.mkdir()
    refused = server.train(target_dir=str(empty))
    assert refused["status"] == "ERROR"
    sentence = f"error: target_dir: {empty}: it holds no scan file: put unlabeled CT scans into it."
    assert refused["details"][-1] == sentence
    assert (server.weights / "model.pt").read_bytes() == in_use

    trained = server.train()
    assert trained["status"] == "DONE", trained["details"]
    after = server.infer("ras", tmp_path / "after")
    assert not np.array_equal(voxels(after), before)
    masks = masks_of_run_inference(server.studies / "ras.nii.gz", server.weights, tmp_path / "masks")
    assert np.array_equal(voxels(after), voxels(masks["ras"]))
    assert (server.weights / "fingerprint.json").read_bytes() == fingerprint
    (kept,) = (server.app_model / "earlier").iterdir()
    assert (kept / "model.pt").read_bytes() == in_use
    assert (kept / "calibration.json").read_bytes() == calibration
    assert any("no Dice is predicted with the new weights" in line for line in trained["details"])
    assert "quality" not in server.reply("ras")
    status, content = server.ask("POST", STRATEGY)
    assert status == 400
    assert b"there is no calibration.json beside the weights in use" in content
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in (BUNDLE / "models").iterdir()} == shipped


def test_what_cannot_be_done_is_answered_in_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes((server.studies / "ras.nii.gz").read_bytes()[:2000])
    broken, model = {"file": tmp_path / "broken.nii.gz"}, server.model
    refusals = {
        "there is no model 'nope'": server.send_form("POST", "/infer/nope?image=ras", {}),
        "there is no scan 'nobody' among the studies": server.send_form("POST", f"/infer/{model}?image=nobody", {}),
        "EOFError": server.send_form("POST", f"/infer/{model}?output=image", {}, broken),
        "choose": server.ask("POST", "/train/nope", b"{}"),
        "lacks target_dir": server.ask("POST", f"/train/{model}", b'{"max_epochs": 1}'),
        "not valid JSON": server.ask("POST", f"/train/{model}", b"?"),
        '"multi_gpu": false': server.ask("POST", f"/batch/infer/{model}", b"{}"),
    }
    for words, (status, content) in refusals.items():
        sentence = json.loads(content)["detail"]
        assert status >= 400
        assert words in sentence
        assert sentence.endswith(".")
        assert "\n" not in sentence
    assert server.get("/info/")["models"]


def test_a_server_whose_weights_are_gone_or_of_another_fingerprint_refuses_to_segment(server: Server) -> None:
    weights, fingerprint = server.weights / "model.pt", server.weights / "fingerprint.json"
    weights.rename(server.app_model / "hidden")
    try:
        status, content = server.send_form("POST", f"/infer/{server.model}?image=ras", {})
    finally:
        (server.app_model / "hidden").rename(weights)
    assert status == 409
    assert b"has no weights" in content
    original = fingerprint.read_bytes()
    fingerprint.write_bytes(original.replace(b'"spacing"', b' "spacing"', 1))
    try:
        status, content = server.send_form("POST", f"/infer/{server.model}?image=ras", {})
    finally:
        fingerprint.write_bytes(original)
    assert status == 409
    assert b"start it again" in content
    status, _ = server.send_form("POST", f"/infer/{server.model}?image=ras", {"device": "cpu"})
    assert status == 200


def test_a_damaged_calibration_is_refused_when_the_server_starts(
    server: Server, calibrated: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(calibrated, tmp_path / "damaged")
    (damaged / "calibration.json").write_text("{}", encoding="utf-8")
    command = ["bash", str(SCRIPT), str(server.studies), "--model_dir", str(damaged), "--work_dir", str(tmp_path / "w")]
    command += ["--port", str(free_port())]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=REPLY)
    assert result.returncode == 1
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert sentence.startswith(f"error: {damaged / 'calibration.json'}: it is no calibration")


def test_wrong_input_of_the_script_is_one_sentence_before_anything_long(tmp_path: Path) -> None:
    scans, empty = tmp_path / "scans", tmp_path / "empty"
    write_nifti(scans / "ct.nii.gz", np.zeros((4, 4, 4), dtype=np.int16))
    empty.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong = {
            "there is no such folder": [str(tmp_path / "nowhere")],
            "it holds no scan": [str(empty)],
            "it holds no model.pt": [str(scans), "--model_dir", str(empty)],
            "folder of unlabeled CT": [str(scans), "--target", str(tmp_path / "nowhere")],
            "cannot be used": [str(scans), "--port", str(taken.getsockname()[1])],
        }
        for words, arguments in wrong.items():
            command = ["bash", str(SCRIPT), *arguments, "--work_dir", str(tmp_path / "work")]
            result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)
            assert result.returncode == 1
            assert words in result.stderr
            assert result.stderr.startswith("error: ")
            assert len(result.stderr.splitlines()) == 1
            assert not (tmp_path / "work").exists()
