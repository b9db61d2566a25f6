"""Stands in for torchvision, of which MONAI Label needs only that its import works.

PyPI's torchvision is built for CUDA and cannot be imported beside a torch for CPUs.
"""

__version__ = "0.0.0"
