"""What becomes of results: files of rows, and DICOM objects."""
