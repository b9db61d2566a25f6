"""Draws the labels that a running MONAI Label server returns for one scan: three planes with contours, as a PNG.

python scripts/monailabel_picture.py --image NAME --output PICTURE.png [--address http://127.0.0.1:8000]
"""

from __future__ import annotations

import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nibabel as nib
import numpy as np
import torch
from command_line import run_command_line
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.io.nifti_files import load_nifti
from sifa.reports.previews import write_preview
from sifa.transforms.intensity import intensity_window
from sifa.utils.errors import InputError

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"

TIMEOUT = 600  # seconds


def ask(address: str, body: bytes | None = None) -> bytes:
    """Sends a request, a POST if there is a body, and returns the content of the reply.

    Raises:
        InputError: with the server's message, or when there is no server.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=TIMEOUT) as reply:
            content: bytes = reply.read()
            return content
    except urllib.error.HTTPError as error:
        raise InputError(f"{address}: {error.read().decode(errors='replace')}") from error
    except urllib.error.URLError as error:
        raise InputError(f"{address}: there is no answer ({error.reason}): start the server first.") from error


def as_volume(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns voxels and affine of a compressed NIfTI file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        path.write_bytes(content)
        image = load_nifti(path)
        return np.asarray(image.dataobj), np.asarray(image.affine)


def draw(image: str, output: str, address: str = "http://127.0.0.1:8000") -> None:
    """Requests a scan and its labels from the server and draws them.

    Args:
        image: name of a scan (`.nii.gz`) among the studies.
        output: the PNG to write.
        address: address of the server.
    """
    models: dict[str, Any] = json.loads(ask(f"{address}/info/"))["models"]
    name, model = next(iter(models.items()))
    scan, _ = as_volume(ask(f"{address}/datastore/image?{urlencode({'image': image})}"))
    mask, affine = as_volume(ask(f"{address}/infer/{name}?{urlencode({'image': image, 'output': 'image'})}", b""))
    labels = {value: structure for structure, value in model["labels"].items()}
    voxel_ml = float(np.prod(nib.affines.voxel_sizes(affine))) / 1000
    volumes = {structure: float((mask == value).sum()) * voxel_ml for value, structure in labels.items()}
    rule = read_fingerprint(BUNDLE / "models" / "fingerprint.json").target.intensity
    window = intensity_window(torch.as_tensor(scan.astype(np.float32)), rule)
    write_preview(Path(output), scan, mask, affine, labels, volumes, {}, window)
    print(f"Wrote {output}: {', '.join(f'{structure} {volume:.0f} ml' for structure, volume in volumes.items())}")


if __name__ == "__main__":
    run_command_line(draw)
