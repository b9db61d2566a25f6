"""The bundle in Python, cell by cell: editors such as VS Code, Spyder and PyCharm run each part between `# %%` lines.

python scripts/make_phantom.py DATA
python bundle/docs/python_example.py DATA
"""

# %% Load a trained network. RUN is the output folder of a training; here, the weights that ship with the bundle.
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow, load
from monai.data import MetaTensor
from sifa import Segmenter
from sifa.networks import Segmenter as Network

BUNDLE = Path(__file__).resolve().parents[1]
RUN = BUNDLE / "models"
if len(sys.argv) != 2:
    sys.exit("usage: python python_example.py DATA, the folder of make_phantom.py")
scans = sorted((Path(sys.argv[1]) / "ct_images").glob("*.nii.gz"))
output = Path(tempfile.mkdtemp())

segmenter = Segmenter.from_run(RUN)
print(segmenter.fingerprint.labels)

# %% Segment a file, or a folder with one DICOM series. The mask lies in the scan's own grid.
result = segmenter.segment(scans[0])
print(result.mask.shape, result.mask.dtype, result.warnings)
for name, figures in result.quality.items():
    print(f"{name}: {figures['volume_ml']} ml, mean {figures['mean']} {figures['unit']}, flags: {figures['flags']}")
result.save(output / "mask.nii.gz")

# %% Segment an array with its affine, or a MetaTensor: the same mask.
image = nib.load(scans[0])
array = np.asarray(image.dataobj)
for scan in (segmenter.segment(array, image.affine), segmenter.segment(MetaTensor(array, affine=image.affine))):
    assert np.array_equal(scan.mask, result.mask)

# %% Keep one connected component of a structure. A list of runs, [RUN0, RUN1], gives the mean of several trainings.
single = Segmenter.from_run([RUN], largest_component=["ascending aorta"])
print(single.segment(scans[0]).quality["ascending aorta"]["components"], "connected component")

# %% The network alone, as MONAI loads it from a folder of bundles.
network = load(
    BUNDLE.name, bundle_dir=BUNDLE.parent, model=Network(in_channels=1, out_channels=5, width=0.25), device="cpu"
)
print(sum(weights.numel() for weights in network.parameters()), "weights")

# %% A whole folder of scans, with the config of `run inference`.
workflow = ConfigWorkflow(
    config_file=str(BUNDLE / "configs" / "inference.yaml"),
    workflow_type="infer",
    logging_file=False,
    dataset_dir=str(scans[0].parent),
    output_dir=str(output / "masks"),
)
workflow.initialize()
workflow.run()
workflow.finalize()
print((output / "masks" / "volumes.csv").read_text(encoding="utf-8").splitlines()[0])
