"""Reports: training page, curves, grids of slices, previews of masks and index page."""
