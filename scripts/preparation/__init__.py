"""The parts of `prepare_dataset.py`: finding scans in a layout, reading labels, splitting, writing and checking."""
