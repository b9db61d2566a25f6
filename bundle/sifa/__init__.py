"""SIFA: unsupervised MR to CT adaptation for segmentation, as the Python package of a MONAI Bundle."""

__version__ = "0.1.0"
