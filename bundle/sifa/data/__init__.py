"""Data sets: their description, unpaired slices, the cache of prepared slices."""
