"""Inference: find, check, segment, measure and write scans."""
