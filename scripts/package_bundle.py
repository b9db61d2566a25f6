"""Packs the bundle as `<name>_v<version>.zip`: one folder that works alone where it is unzipped.

    python scripts/package_bundle.py [--output_dir dist] [--bundle DIR]

Name and version come from `metadata.json`; the name is in lower case, with `_` in place of other characters. The zip
holds configs, models, docs, the package, LICENSE and requirements.txt, and no output of runs. The same files give the
same bytes: they are sorted, stored without compression, and have a fixed time.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from command_line import run_command_line
from sifa.utils.files import temporary_beside

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


def main(output_dir: str = "dist", bundle: str | None = None) -> None:
    """Writes the zip and prints its path and SHA-256.

    Args:
        output_dir: folder to write to.
        bundle: the bundle's folder; that of this checkout by default.
    """
    root = Path(bundle or ROOT / "bundle").absolute()
    name, version = name_and_version(root)
    path = Path(output_dir).absolute() / f"{name}_v{version}.zip"
    with temporary_beside(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for inside, file in sorted(find_files(root)):
            entry = zipfile.ZipInfo(f"{name}/{inside}", TIME)
            entry.create_system, entry.external_attr = UNIX, FILE_MODE << 16
            archive.writestr(entry, file.read_bytes())
    print(f"{path}\nsha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    run_command_line(main)
