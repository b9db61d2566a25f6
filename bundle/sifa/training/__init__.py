"""What every training needs, whatever the method."""
