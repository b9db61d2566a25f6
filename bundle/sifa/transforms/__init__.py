"""Transforms of volumes and slices: arrays in, arrays out."""
