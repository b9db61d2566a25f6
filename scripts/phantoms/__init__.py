"""Generated patients: anatomies as layers of tissues, scan grids, and images of several modalities; no real data.

Conventions in the code: points are float32 arrays of shape (3, X, Y, Z) in mm, patient coordinates (RAS+); fields,
distances (in mm, negative inside), masks, tissues and images have shape (X, Y, Z).
"""
