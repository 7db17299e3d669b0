"""Outputs: results files and DICOM objects."""
