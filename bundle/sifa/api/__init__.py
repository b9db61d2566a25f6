"""The Python interface; `sifa.Segmenter` is a shorter name for its class."""

from sifa.api.segmenter import Segmenter

__all__ = ["Segmenter"]
