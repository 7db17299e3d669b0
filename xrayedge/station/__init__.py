"""A screening station: images in by DICOM or folder, one durable queue, results to a PACS."""
