"""Implements `scripts/monailabel.sh`: checks the input, creates environment and working folder, starts MONAI Label.

It writes to `.venv-monailabel/` and to the working folder (`build/monailabel/`):

    apps/monaibundle/                the app of MONAI Label, unchanged
    apps/monaibundle/model/<name>/   a copy of the bundle, which training through the server changes
        models/                      the weights in use, their fingerprint and their calibration, if there is one
        output/                      weights and losses of the last training
        earlier/<time>/              the weights that a training replaced
    studies/<folder>-<hash>/         a copy of the studies, into which the server writes labels
    python-of-monailabel/            on the server's path: plain replies, a strategy of active learning, stubs of
                                     packages that cannot be imported
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundle"
SUPPORT = ROOT / "scripts" / "monailabel_support"
REQUIREMENTS = ROOT / "requirements-monailabel.txt"
ENVIRONMENT = ROOT / ".venv-monailabel"

IMAGES = (".nii.gz", ".nii", ".nrrd")  # the files that the server lists
MASK = "_seg.nii.gz"  # suffix of masks of `run inference`
PAIR = ("model.pt", "fingerprint.json")
CALIBRATION = "calibration.json"  # beside them where their Dice is predicted


def parse_arguments() -> argparse.Namespace:
    """Returns the options; on a fresh machine python-fire is not installed yet."""
    parser = argparse.ArgumentParser(
        prog="bash scripts/monailabel.sh", description="Starts a MONAI Label server for the bundle; needs no internet."
    )
    parser.add_argument(
        "studies", metavar="STUDIES", help="folder of scans (.nii.gz, .nii, .nrrd), or a DICOMweb address"
    )
    parser.add_argument("--target", metavar="DIR", help="folder of unlabeled CT (NIfTI) that training adapts to")
    parser.add_argument(
        "--model_dir", metavar="DIR", help="model.pt, fingerprint.json and, if any, calibration.json; else the bundle's"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 serves the whole network, without any password")
    parser.add_argument("--in-place", action="store_true", help="let the server write into STUDIES instead of a copy")
    parser.add_argument("--work_dir", metavar="DIR", default=str(ROOT / "build" / "monailabel"))
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def refuse(sentence: str) -> NoReturn:
    """Ends the process with one sentence."""
    sys.exit(f"error: {sentence}")


def is_address(studies: str) -> bool:
    """Returns whether the studies are on a DICOMweb server."""
    return studies.startswith(("http://", "https://"))


def check(arguments: argparse.Namespace) -> None:
    """Checks the input before anything is created; needs only Python."""
    studies = Path(arguments.studies)
    if not is_address(arguments.studies):
        if not studies.is_dir():
            refuse(f"{studies}: there is no such folder: name the folder of scans to label.")
        if not images_in(studies):
            refuse(
                f"{studies}: it holds no scan ({', '.join(IMAGES)}): MONAI Label lists no sub-folders and no DICOM "
                "files; convert them, or give the address of a DICOMweb server."
            )
    if arguments.target is not None and not Path(arguments.target).is_dir():
        refuse(f"--target {arguments.target}: there is no such folder: name the folder of unlabeled CT.")
    weights = Path(arguments.model_dir or BUNDLE / "models")
    for name in PAIR:
        if not (weights / name).is_file():
            refuse(f"{weights}: it holds no {name}: name the folder that training wrote (--model_dir).")
    if "#" in str(Path(arguments.work_dir).absolute()):
        refuse(f"{arguments.work_dir}: MONAI's configs cannot hold a path with '#': choose another --work_dir.")
    with socket.socket() as test:
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test.bind((arguments.host, arguments.port))
        except (OSError, OverflowError) as error:
            refuse(f"port {arguments.port} of {arguments.host} cannot be used ({error}): choose another --port.")


def images_in(folder: Path) -> list[Path]:
    """Returns the scans that the server lists."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.endswith(IMAGES) and not path.name.endswith(MASK) and path.name[0] != "."
    )


def make_environment() -> Path:
    """Creates MONAI Label's environment on top of this one and returns its Python.

    It shares the packages of this environment, such as PyTorch, and adds what MONAI Label needs. The bundle's package
    is not shared: the server imports it from its copy of the bundle.
    """
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    link = f"{packages}\n"  # .pth files in that folder, such as the editable install's, are not processed
    wanted = hashlib.sha256(f"{link}{sys.version} {REQUIREMENTS.read_text(encoding='utf-8')}".encode()).hexdigest()
    stamp, python = ENVIRONMENT / "installed.txt", ENVIRONMENT / "bin" / "python"
    ENVIRONMENT.mkdir(exist_ok=True)
    (ENVIRONMENT / ".gitignore").write_text("*\n", encoding="utf-8")
    with (ENVIRONMENT / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        print(f"Making {ENVIRONMENT} (about half a minute the first time)", flush=True)
        stamp.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        folder = ENVIRONMENT / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
        (folder / "project.pth").write_text(link, encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*install, "-r", str(REQUIREMENTS)], check=False).returncode != 0:
            refuse(f"{REQUIREMENTS.name} could not be installed into {ENVIRONMENT}: see pip's message above.")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def make_app(work: Path) -> Path:
    """Copies MONAI Label's `monaibundle` app, as `monailabel apps --download` does, and returns its folder."""
    app = work / "apps" / "monaibundle"
    ignored = shutil.ignore_patterns("logs", "model", "__pycache__")
    sample = ENVIRONMENT / "monailabel" / "sample-apps" / "monaibundle"
    shutil.copytree(sample, app, ignore=ignored, dirs_exist_ok=True)
    return app


def make_model(app: Path, model_dir: str | None) -> Path:
    """Copies the bundle into the app, under its model name, with the configs for a server.

    Weights that a training through the server made stay in use unless `model_dir` names others.

    Returns:
        The copy.

    Raises:
        sifa.utils.errors.InputError: when the weights do not fit their fingerprint, or the calibration does not fit
            the weights.
    """
    from monai.bundle import ConfigParser  # not installed when a fresh machine checks the input
    from sifa.fingerprint.fingerprint import read_fingerprint
    from sifa.networks import Segmenter
    from sifa.networks.weights import load_weights
    from sifa.quality_control.calibration import read_calibration

    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    model = app / "model" / model_name(metadata["name"])
    for part in ("configs", "sifa"):
        if (model / part).exists():
            shutil.rmtree(model / part)
        shutil.copytree(BUNDLE / part, model / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(BUNDLE / "LICENSE", model)
    configs = BUNDLE / "configs"
    training = [configs / name for name in ("train.yaml", "recommended.yaml", "monailabel.yaml")]
    for files in (training, [configs / "inference.yaml", SUPPORT / "inference.yaml"]):
        merged: Any = ConfigParser.load_config_files([str(file) for file in files])
        ConfigParser.export_config_file(merged, str(model / "configs" / files[0].name), fmt="yaml", sort_keys=False)

    def check_weights(folder: Path) -> None:
        fingerprint = read_fingerprint(folder / "fingerprint.json")
        load_weights(Segmenter(**asdict(fingerprint.network)), folder / "model.pt")
        if (folder / CALIBRATION).is_file():
            read_calibration(folder)

    check_weights(Path(model_dir or BUNDLE / "models"))
    put_weights(model, model_dir)
    check_weights(model / "models")
    return model


def model_name(name: str) -> str:
    """Returns a bundle's name as part of an address: `A name (of it)` becomes `a_name_of_it`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def put_weights(model: Path, model_dir: str | None) -> None:
    """Copies weights, fingerprint and calibration into a copy of the bundle, and prints which ones are in use.

    A calibration that was made there stays while the weights are the same.
    """
    source, models, record = Path(model_dir or BUNDLE / "models"), model / "models", model / "put.json"
    put = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    trained = (models / "model.pt").is_file() and digest(models) != put
    if (trained and model_dir is None) or source.resolve() == models.resolve():
        print(f"Weights: {models}, trained through the server; --model_dir {BUNDLE / 'models'} goes back.")
        return
    if trained:
        number = 1 + sum(1 for _ in (model / "earlier").glob("replaced-*"))
        models.rename(exist(model / "earlier") / f"replaced-{number}")
    models.mkdir(exist_ok=True)
    is_same = (models / "model.pt").is_file() and digest(models) == digest(source)
    if not is_same:
        (models / CALIBRATION).unlink(missing_ok=True)
    for name in PAIR:
        shutil.copy2(source / name, models / name)
    if (source / CALIBRATION).is_file():
        shutil.copy2(source / CALIBRATION, models / CALIBRATION)
    record.write_text(json.dumps(digest(models)), encoding="utf-8")
    print(f"Weights: {source}")


def exist(folder: Path) -> Path:
    """Creates a folder if it does not exist, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(models: Path) -> str:
    """Returns a hash of the weights."""
    return hashlib.sha256((models / "model.pt").read_bytes()).hexdigest()


def copy_studies(studies: Path, work: Path) -> Path:
    """Copies new and changed scans and new labels and returns the folder, from which nothing is removed."""
    path = studies.resolve()
    copy = work / "studies" / f"{model_name(path.name)}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    for image in images_in(studies):
        copied, stat = exist(copy) / image.name, image.stat()
        if not copied.is_file() or (copied.stat().st_size, copied.stat().st_mtime) != (stat.st_size, stat.st_mtime):
            shutil.copy2(image, copied)
    for tag in ("final", "original"):
        folder = studies / "labels" / tag
        for label in images_in(folder) if folder.is_dir() else ():
            if not (copy / "labels" / tag / label.name).exists():
                shutil.copy2(label, exist(copy / "labels" / tag))
    return copy


def make_python(work: Path, python: Path) -> Path:
    """Creates the folder for the server's path: plain replies, a strategy, and stubs of packages whose import fails."""
    folder = work / "python-of-monailabel"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in ("plain_replies.py", "lowest_predicted_dice.py"):
        shutil.copy2(SUPPORT / name, folder)
    for stub in sorted(path for path in (SUPPORT / "stubs").iterdir() if path.is_dir()):
        if subprocess.run([str(python), "-c", f"import {stub.name}"], capture_output=True, check=False).returncode != 0:
            shutil.copytree(stub, folder / stub.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(work: Path, python_path: Path, target: str | None) -> dict[str, str]:
    """Returns the server's environment, with which it uses no internet and writes only below `work`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONAI_LABEL_")}
    return kept | {
        "PYTHONPATH": str(python_path),
        "PATH": os.pathsep.join([str(ENVIRONMENT / "bin"), os.environ.get("PATH", os.defpath)]),
        "MONAI_ZOO_SOURCE": "local",
        "MONAI_LABEL_SESSION_PATH": str(work / "sessions"),
        "MONAI_LABEL_DATASTORE_CACHE_PATH": str(work / "cache"),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(work / "cache"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in IMAGES]),
        "SIFA_TARGET_DIR": str(Path(target).resolve()) if target is not None else "",
    }


def introduce(arguments: argparse.Namespace, model: Path, studies: str) -> None:
    """Prints what is served, where labels are written, and how to connect."""
    host = "127.0.0.1" if arguments.host == "0.0.0.0" else arguments.host
    address = f"http://{host}:{arguments.port}"
    print(f"Model: {model.name}\nStudies: {studies}")
    if is_address(arguments.studies):
        if shutil.which("itkimage2segimage") is None:
            print("Note: MONAI Label downloads dcmqi at start; put its itkimage2segimage on the PATH to do without.")
        print(f"OHIF: open {address}/ohif/ in a browser when the server is up.")
    else:
        print(f"Labels: {Path(studies) / 'labels'}")
        print("OHIF: needs a DICOMweb server: give its address instead of a folder, then open /ohif/ on this server.")
    print(
        f"3D Slicer: install the extension MONAILabel, open the module MONAI Label, enter {address} as its server, "
        f"choose Next Sample, then {model.name} under Auto Segmentation, and Run.\n"
        f"Everything else: {address}/ lists all requests. Ctrl-C ends the server.",
        flush=True,
    )


def main() -> None:
    """Checks the input and, without `--check`, sets everything up and becomes the server."""
    arguments = parse_arguments()
    check(arguments)
    if arguments.check:
        return
    work = exist(Path(arguments.work_dir).absolute())
    lock = os.open(work / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        refuse(f"{work}: another server uses this folder: end it, or choose another --work_dir.")
    os.set_inheritable(lock, True)  # held while the server runs
    python = make_environment()
    app = make_app(work)
    try:
        model = make_model(app, arguments.model_dir)
    except ValueError as error:  # sifa.utils.errors.InputError
        refuse(str(error))
    studies = arguments.studies
    if not is_address(studies):
        folder = Path(studies) if arguments.in_place else copy_studies(Path(studies), work)
        studies = str(folder.resolve())
    python_path = make_python(work, python)
    introduce(arguments, model, studies)
    command = [python, "-m", "monailabel.main", "start_server", "--uvicorn_app", "plain_replies:app"]
    command += ["--app", app, "--studies", studies, "--host", arguments.host, "--port", str(arguments.port)]
    for name, value in {"models": model.name, "zoo_source": "local", "sam2": "false"}.items():
        command += ["--conf", name, value]
    os.chdir(work)  # MONAI Label reads `.env` from the folder in which it is started
    os.execve(python, [str(part) for part in command], environment(work, python_path, arguments.target))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
