"""Stands in for pydicom-seg, which needs pydicom 2: MONAI Label uses it only to turn DICOM SEG into NIfTI."""
