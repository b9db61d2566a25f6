"""Data sets: `dataset.json`, unpaired slices and their sampler, and the cache of prepared slices."""

from sifa.data.dataset_json import labeled_target, labeled_training, read_dataset, require_labels
from sifa.data.slice_cache import prepare_volumes
from sifa.data.unpaired_slices import UnpairedSampler, UnpairedSlices
from sifa.data.worker_init import start_worker

__all__ = [
    "UnpairedSampler",
    "UnpairedSlices",
    "labeled_target",
    "labeled_training",
    "prepare_volumes",
    "read_dataset",
    "require_labels",
    "start_worker",
]
