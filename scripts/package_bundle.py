"""Packs the bundle as `<name>_v<version>.zip`: one folder that works alone where it is unzipped.

    python scripts/package_bundle.py [--output_dir dist] [--bundle DIR]
    python scripts/package_bundle.py --model_dir RUN --name NAME [--results RESULTS] [--output_dir dist]

Name and version come from `metadata.json`; the name is in lower case, with `_` in place of other characters. The zip
holds configs, models, docs, the package, LICENSE and requirements.txt, and no output of runs. The same files give the
same bytes: they are sorted, stored without compression, and have a fixed time.

With --model_dir the zip has the weights of a finished training, under another name, and metadata and model card are
written from the run; see bundle/docs/sharing.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from command_line import run_command_line
from sharing.shared_run import check_name, shared_files
from sifa.utils.errors import InputError
from sifa.utils.files import temporary_beside, writing

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("configs", "docs", "models", "sifa")
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
FILE_MODE = 0o100644  # a regular file, writable by its owner, readable by all
UNIX = 3  # the system noted in the zip; by default that of the machine that packs


def name_and_version(bundle: Path) -> tuple[str, str]:
    """Returns name and version from `metadata.json`; exits with an error if versions disagree."""
    path = bundle / "configs" / "metadata.json"
    if not path.is_file():
        sys.exit(f"error: {path} is missing: give the bundle's folder as --bundle DIR.")
    metadata = json.loads(path.read_text(encoding="utf-8"))
    name = re.sub(r"[^a-z0-9]+", "_", metadata["name"].lower()).strip("_")
    version = metadata["version"]
    package = re.search(r'__version__ = "(.*)"', (bundle / "sifa" / "__init__.py").read_text(encoding="utf-8"))
    noted = {
        "sifa/__init__.py": package is not None and package[1] == version,
        "changelog of metadata.json": version in metadata["changelog"],
        "CHANGELOG.md": f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "CITATION.cff": f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8"),
    }
    for place, agrees in noted.items():
        if not agrees:
            sys.exit(f"error: metadata.json has version {version}, which {place} has not: make them agree.")
    return name, version


def find_files(bundle: Path) -> Iterator[tuple[str, Path]]:
    """Yields the files to pack with their names below the zip's top folder."""
    yield "LICENSE", bundle / "LICENSE"
    yield "requirements.txt", ROOT / "requirements.txt"
    for folder in FOLDERS:
        for path in (bundle / folder).rglob("*"):
            parts = path.relative_to(bundle).parts
            if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
                yield "/".join(parts), path


def write_zip(path: Path, name: str, content: Mapping[str, bytes]) -> None:
    """Writes a zip with one folder, whole or not at all, and prints its path and SHA-256.

    Args:
        path: the zip.
        name: of the folder.
        content: of its files by name.
    """
    with temporary_beside(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for inside, data in sorted(content.items()):
            entry = zipfile.ZipInfo(f"{name}/{inside}", TIME)
            entry.create_system, entry.external_attr = UNIX, FILE_MODE << 16
            archive.writestr(entry, data)
    print(f"{path}\nsha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


def share_run(bundle: Path, output_dir: Path, model_dir: Path, name: Any, results: Path | None) -> None:
    """Writes the zip of a training.

    Raises:
        InputError: when the name, the run or the results cannot be used, or the zip exists.
    """
    _, version = name_and_version(bundle)
    path = output_dir / f"{check_name(name)}_v{version}.zip"
    if path.exists():
        raise InputError(f"{path}: it exists: remove it, or give another --name or --output_dir.")
    content, summary = shared_files(str(name), dict(find_files(bundle)), model_dir, results)
    with writing(path):
        write_zip(path, str(name), content)
    print(summary)


def main(
    output_dir: str = "dist",
    bundle: str | None = None,
    model_dir: str | None = None,
    name: str | None = None,
    results: str | None = None,
) -> None:
    """Writes the zip and prints its path and SHA-256.

    Args:
        output_dir: folder to write to.
        bundle: the bundle's folder; that of this checkout by default.
        model_dir: output folder of a finished training, whose weights take the place of the bundle's.
        name: of the bundle with these weights: lower-case letters, digits and _.
        results: results.json of the training's evaluation, or its folder; by default one in model_dir that measures its
            weights, if there is one.
    """
    root = Path(bundle or ROOT / "bundle").absolute()
    folder = Path(str(output_dir)).absolute()
    if model_dir is not None:
        share_run(root, folder, Path(str(model_dir)), name, None if results is None else Path(str(results)))
        return
    if name is not None or results is not None:
        raise InputError("--name and --results belong to a training: give its output folder as --model_dir.")
    title, version = name_and_version(root)
    content = {inside: file.read_bytes() for inside, file in find_files(root)}
    write_zip(folder / f"{title}_v{version}.zip", title, content)


if __name__ == "__main__":
    run_command_line(main)
