"""What a person looks at: training page, plots, grids of slices, previews and index page."""
