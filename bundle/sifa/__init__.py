"""SIFA: unsupervised MR to CT adaptation for segmentation, as the Python package of a MONAI Bundle."""

from importlib import import_module
from typing import Any

__version__ = "0.8.0"

# Modules of version 0.1.0, which its configs name and later versions do not have.
REMOVED = """
adversarial_update appearance arrangement atomic batch_norm curves dataset_description dicom_seg dicom_series
distributed errors extras field_of_view folding histogram_matching image_pool inferer intensity keys label_free
label_refinement label_statistics location loss_weights losses manifest mask_writer mixed_precision nifti optimizers
options orientation output_dir pictures pieces precision preflight prepare previews quality reader report resampling
run_environment scalar_table scan_slices scans segment_scan segmented_scan self_training series_reader
simultaneous_update slice_cache slice_headers source_update studies target_statistics training_state unpaired
weight_average weights workers
"""


def __getattr__(name: str) -> Any:
    """Loads `sifa.Segmenter` on first use, and refuses a config that names a module of version 0.1.0.

    Raises:
        InputError: for such a module; the process then ends with this sentence instead of a traceback.
        AttributeError: for any other name.
    """
    if name == "Segmenter":
        return import_module("sifa.api").Segmenter  # only here: importing `sifa` does not load torch
    if name not in REMOVED.split():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    errors = import_module("sifa.utils.errors")
    errors.report_input_errors_plainly()
    raise errors.InputError(
        f"sifa.{name}: this config is for version 0.1.0 of the bundle, and version {__version__} has no such module: "
        "use the configs of this version; weights of version 0.1.0 still load (--model_dir)."
    )
