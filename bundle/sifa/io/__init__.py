"""NIfTI and DICOM, read and written."""
