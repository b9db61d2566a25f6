"""Checks a bundle with MONAI's own commands and against the rules of the model zoo, and prints a table.

    python scripts/verify_bundle.py [BUNDLE] [--schema FILE] [--only NAME,NAME] [--json FILE]

Nothing is downloaded: without a metadata schema that check is `skipped`. The exit status is 1 when a check failed. All
commands run in processes of their own in the bundle's folder, so that they import the package of that bundle.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from command_line import run_command_line
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT.parent / "shared" / "data"  # may hold the metadata schema
LARGEST_FILE = 25 * 2**20  # bytes; larger ones are listed in large_files.yml and downloaded
HEADINGS = (  # of the zoo's readme template, those that are not optional
    *("Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "System Configuration"),
)
TEXT_SUFFIXES = (".conf", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml")
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.~$}/\\-])(?:/(?:Users|content|data|home|media|mnt|opt|raid|root|scratch|srv|tmp|var|work|workspace)/[\w.]"
    r"|[A-Za-z]:\\{1,2}Users\b)"
)
COLORS = {"passed": "green", "failed": "red", "skipped": "yellow"}
NETWORK = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml")

PROPERTIES = """
import json, sys
from monai.bundle import ConfigWorkflow
kind, config, options = sys.argv[1:]
workflow = ConfigWorkflow(config_file=config, workflow_type=kind, logging_file=False, **json.loads(options))
workflow.initialize()
missing = workflow.check_properties()
sys.exit("missing or misnamed: " + ", ".join(missing) if missing else 0)
"""
LOAD = "import sys, torch; [torch.jit.load(path) for path in sys.argv[1:]]"


class FaultError(Exception):
    """A check found a fault, which the message describes."""


class SkipError(Exception):
    """A check could not be run; the message has the reason."""


@dataclass
class Row:
    """What a check found."""

    check: str
    result: str  # passed, failed or skipped
    detail: str


@dataclass
class Bundle:
    """The bundle to check.

    Attributes:
        root: the folder that holds `configs/`.
        schema: the metadata schema, if there is one.
        scratch: a folder for files that the checks write.
    """

    root: Path
    schema: Path | None
    scratch: Path

    def metadata(self) -> dict[str, Any]:
        """Returns the content of `configs/metadata.json`."""
        path = self.root / "configs" / "metadata.json"
        if not path.is_file():
            raise FaultError("configs/metadata.json is missing")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FaultError(f"configs/metadata.json is not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise FaultError("configs/metadata.json holds no object")
        return content

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yields the files of the bundle with their relative paths; leaves out the output of runs."""
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).parts
            if path.is_file() and parts[0] not in ("eval", "output") and "__pycache__" not in parts:
                yield "/".join(parts), path

    def python(self, *arguments: str) -> str:
        """Runs Python in the bundle's folder, where its package can be imported, and returns the output.

        Raises:
            FaultError: with the last line of the error, when the exit status is not 0.
        """
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
        if result.returncode != 0:
            lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
            raise FaultError(lines[-1] if lines else f"exit status {result.returncode}")
        return result.stdout + result.stderr

    def monai(self, command: str, *arguments: str, says: str) -> str:
        """Runs `python -m monai.bundle COMMAND`, whose output must contain `says`, and returns a description."""
        said = self.python("-m", "monai.bundle", command, *arguments)
        if says not in said:
            raise FaultError(f"{command} ended without saying {says!r}")
        return f"monai.bundle {command}: {says}"


def check_license(bundle: Bundle) -> str:
    """Checks that the bundle's folder has a file named LICENSE."""
    path = bundle.root / "LICENSE"
    if not path.is_file() or path.stat().st_size == 0:
        raise FaultError("LICENSE is missing or empty")
    return path.read_text(encoding="utf-8").strip().splitlines()[0].strip()


def check_files(bundle: Bundle) -> str:
    """Checks that the files that the zoo requires or prefers exist."""
    wanted = ("configs/metadata.json", "configs/train.yaml", "configs/inference.yaml", "models/model.pt")
    missing = [name for name in wanted if not (bundle.root / name).is_file()]
    if missing:
        raise FaultError(f"missing: {', '.join(missing)}")
    bundle.metadata()
    return ", ".join(wanted)


def check_version(bundle: Bundle) -> str:
    """Checks that the version has three parts and a changelog entry, and equals that of the package."""
    metadata = bundle.metadata()
    version = metadata.get("version")
    if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise FaultError(f"version is {version!r}, not three numbers with dots")
    if version not in metadata.get("changelog", {}):
        raise FaultError(f"{version} is missing in changelog")
    package = bundle.root / "sifa" / "__init__.py"
    found = re.search(r'__version__ = "(.*)"', package.read_text(encoding="utf-8")) if package.is_file() else None
    if found is None or found[1] != version:
        raise FaultError(f"metadata.json has version {version}, the package {found[1] if found else 'none'}")
    return f"{version}: metadata.json, changelog, package"


def check_sizes(bundle: Bundle) -> str:
    """Checks that no file is larger than the zoo accepts."""
    sizes = {name: path.stat().st_size for name, path in bundle.files()}
    large = [f"{name} ({size / 2**20:.1f} MB)" for name, size in sizes.items() if size > LARGEST_FILE]
    if large:
        raise FaultError(f"over 25 MB: {', '.join(large)}: list them in large_files.yml instead")
    name = max(sizes, key=lambda file: sizes[file])
    return f"largest: {name}, {sizes[name] / 2**20:.1f} MB"


def check_paths(bundle: Bundle) -> str:
    """Checks that no text file contains an absolute path of some machine."""
    texts = [(name, path) for name, path in bundle.files() if path.suffix in TEXT_SUFFIXES]
    for name, path in texts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = ABSOLUTE_PATH.search(line)
            if found:
                raise FaultError(f"{name}, line {number}: {line[found.start() :].split()[0]}")
    return f"none in {len(texts)} text files"


def check_readme(bundle: Bundle) -> str:
    """Checks that docs/README.md has the headings of the zoo's template."""
    path = bundle.root / "docs" / "README.md"
    if not path.is_file():
        raise FaultError("docs/README.md is missing")
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [line.strip("#* ") for line in lines if line.startswith(("#", "**"))]
    missing = [name for name in HEADINGS if not any(re.match(rf"{name}\b", start) for start in starts)]
    if missing:
        raise FaultError(f"docs/README.md lacks: {', '.join(missing)}")
    return ", ".join(HEADINGS)


def check_data_license(bundle: Bundle) -> str:
    """Checks that docs/data_license.txt exists and is not empty."""
    path = bundle.root / "docs" / "data_license.txt"
    if not path.is_file() or path.stat().st_size == 0:
        raise FaultError("docs/data_license.txt is missing or empty")
    return f"{len(path.read_text(encoding='utf-8').splitlines())} lines"


def check_metadata(bundle: Bundle) -> str:
    """Runs MONAI's `verify_metadata` with a local schema file."""
    bundle.metadata()
    if bundle.schema is None:
        raise SkipError("there is no schema file: give --schema FILE; it is not downloaded")
    if importlib.util.find_spec("jsonschema") is None:
        raise SkipError("jsonschema is not installed, which verify_metadata needs")
    copy = bundle.scratch / "schema.json"
    copy.write_bytes(bundle.schema.read_bytes())  # where there is a file, verify_metadata downloads none
    files = ("--meta_file", "configs/metadata.json", "--filepath", str(copy))
    return bundle.monai("verify_metadata", *files, says="metadata is verified with no error")


def check_train_properties(bundle: Bundle) -> str:
    """Checks on generated data that a training config has every property that MONAI requires."""
    options = {"dataset_dir": str(_phantom(bundle)), "output_dir": str(bundle.scratch / "run"), "width": 0.0625}
    bundle.python("-c", PROPERTIES, "train", "configs/train.yaml", json.dumps(options))
    return "ConfigWorkflow.check_properties: none missing"


def check_inference_properties(bundle: Bundle) -> str:
    """Checks on generated data that an inference config has every property that MONAI requires."""
    options = {"dataset_dir": str(_phantom(bundle) / "ct_images"), "output_dir": str(bundle.scratch / "masks")}
    bundle.python("-c", PROPERTIES, "infer", "configs/inference.yaml", json.dumps(options))
    return "ConfigWorkflow.check_properties: none missing"


def check_network(bundle: Bundle) -> str:
    """Runs MONAI's `verify_net_in_out`, which compares channels and types with metadata.json."""
    says = "data shape of network is verified with no error"
    return bundle.monai("verify_net_in_out", "--net_id", "network_def", *NETWORK, says=says)


def check_torchscript(bundle: Bundle) -> str:
    """Runs MONAI's `ckpt_export` and loads the result, and `models/model.ts` if it is shipped."""
    exported = bundle.scratch / "model.ts"
    weights = ("--filepath", str(exported), "--ckpt_file", "models/model.pt")
    bundle.monai("ckpt_export", "network_def", *weights, *NETWORK, says="exported to file")
    shipped = [path for path in [bundle.root / "models" / "model.ts"] if path.is_file()]
    bundle.python("-c", LOAD, str(exported), *map(str, shipped))
    return f"monai.bundle ckpt_export, loads{'; so does the shipped model.ts' if shipped else ''}"


def _phantom(bundle: Bundle) -> Path:
    """Returns a small generated data set, which the first call creates."""
    data = bundle.scratch / "data"
    if not data.is_dir():
        counts = ("--source_training=1", "--source_validation=0", "--target_training=1", "--target_validation=1")
        script = [str(ROOT / "scripts" / "make_phantom.py"), str(data), *counts, "--target_test=0"]
        bundle.python(*script, "--spacing=6.0", "--workers=1")
    return data


CHECKS: dict[str, Callable[[Bundle], str]] = {
    "license": check_license,
    "files": check_files,
    "version": check_version,
    "file sizes": check_sizes,
    "absolute paths": check_paths,
    "readme": check_readme,
    "data license": check_data_license,
    "metadata schema": check_metadata,
    "train properties": check_train_properties,
    "inference properties": check_inference_properties,
    "network in and out": check_network,
    "TorchScript": check_torchscript,
}


def verify(bundle: Bundle, names: Sequence[str]) -> list[Row]:
    """Runs the named checks and returns a row for each."""
    rows = []
    for name in names:
        try:
            rows.append(Row(name, "passed", CHECKS[name](bundle)))
        except FaultError as fault:
            rows.append(Row(name, "failed", str(fault)))
        except SkipError as reason:
            rows.append(Row(name, "skipped", str(reason)))
    return rows


def find_schema(root: Path, schema: str | None) -> Path | None:
    """Returns the given schema file, or the one beside the checkout with the name in the metadata, or None."""
    if schema is not None:
        if not Path(schema).is_file():
            sys.exit(f"error: {schema} is not a file: give the schema as --schema FILE.")
        return Path(schema)
    try:
        url = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))["schema"]
        beside = SCHEMAS / url.rsplit("/", 1)[-1]
        return beside if beside.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # which the checks report
        return None


def main(
    bundle: str | None = None, schema: str | None = None, only: Sequence[str] | str = (), json: str | None = None
) -> None:
    """Checks a bundle.

    Args:
        bundle: its folder; that of this checkout by default.
        schema: the metadata schema, a JSON file; by default the one of its name in `../shared/data`, if it exists.
        only: names of checks, separated by commas; all by default.
        json: file to write the rows to.
    """
    root = Path(bundle or ROOT / "bundle").resolve()
    if not root.is_dir():
        sys.exit(f"error: {root} is not a folder: give the bundle's.")
    names = list(only.split(",") if isinstance(only, str) else only) if only else list(CHECKS)
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        sys.exit(f"error: there is no check {unknown[0]!r}: choose from {', '.join(CHECKS)}.")
    with tempfile.TemporaryDirectory() as scratch:
        rows = verify(Bundle(root, find_schema(root, schema), Path(scratch)), names)
    table = Table(title=f"Bundle {root.name}")
    for heading in ("check", "result", "detail"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.check, f"[{COLORS[row.result]}]{row.result}[/]", escape(row.detail))
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if json:
        write_rows(Path(json), rows)
    if any(row.result == "failed" for row in rows):
        sys.exit(1)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command_line(main)
