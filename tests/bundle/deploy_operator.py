"""MONAI Deploy's bundle operator, emulated: a script that sees the package and the exported file, and no bundle folder.

python tests/bundle/deploy_operator.py model.ts scan.nii.gz labels.npy
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import MetaKeys, SpaceKeys, convert_to_dst_type, ensure_tuple
from monai.utils.misc import first


def read_archive(path: Path) -> ConfigParser:
    """Reads metadata and inference config from the archive, whose root is named for the file, and parses them whole."""
    parser = ConfigParser()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        parser.read_meta(f=json.loads(archive.read(f"{path.stem}/extra/metadata.json")))
        member = f"{path.stem}/extra/inference.json"
        archive.extract(member, folder)
        parser.read_config([Path(folder, member)])
    parser.parse()
    return parser


def without_files(parser: ConfigParser, name: str) -> Compose:
    """Returns a Compose of the config without the transforms that load or save images."""
    compose = parser.get_parsed_content(name)
    kept = [
        one for one in compose.transforms if not any(word in type(one).__name__ for word in ("LoadImage", "SaveImage"))
    ]
    compose.transforms = tuple(kept)
    return compose


def as_deploy_has_it(scan: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns a scan (W, H, D) as Deploy makes it of a DICOM series, with what it notes beside it.

    The affine leads to RAS, although `space` says LPS: this is what the operator writes.
    """
    image: Any = nib.load(scan)
    affine = image.affine
    meta = {
        "spacing": nib.affines.voxel_sizes(affine),
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.LPS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(image.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
    }
    return np.asarray(image.dataobj), meta


def operate(model: Path, scan: Path) -> np.ndarray:
    """Does what `MonaiBundleInferenceOperator` does and returns what it emits, (D, H, W) uint8."""
    parser = read_archive(model)
    formats = parser["_meta_"]["network_data_format"]
    device = parser.get_parsed_content("device")
    inferer = parser.get_parsed_content("inferer")
    preprocessing, postprocessing = (without_files(parser, name) for name in ("preprocessing", "postprocessing"))
    network = torch.jit.load(model, map_location=device).eval()
    (name,), (output_name,) = formats["inputs"], formats["outputs"]
    with torch.no_grad():
        value, meta = as_deploy_has_it(scan)
        value = convert_to_dst_type(value, dst=value)[0]
        inputs = preprocessing({name: MetaTensor.ensure_torch_and_prune_meta(value, meta)})
        image = inputs.pop(name)
        outputs = inferer(inputs=image[None].to(device), network=network)
        prepared = {output_name: ensure_tuple(outputs)[0], name: image}
        output = postprocessing(prepared)[output_name]
    assert first(formats["outputs"][output_name]["channel_def"]) == "0"
    return np.swapaxes(np.squeeze(output.cpu().numpy(), 0), 0, 2).astype(np.uint8)


if __name__ == "__main__":
    np.save(sys.argv[3], operate(Path(sys.argv[1]), Path(sys.argv[2])))
