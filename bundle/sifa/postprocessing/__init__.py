"""Postprocessing of masks: masks in, masks out."""
