"""Results as DICOM objects: a structured report, and the overlay as Secondary Capture.

Both belong to the study of the image that was screened and refer to it. Needs the extra
``dicom-out``.
"""

from .capture import secondary_capture
from .report import structured_report
from .writing import DISCLAIMER, DicomObject, prepare, require

__all__ = [
    "DISCLAIMER",
    "DicomObject",
    "prepare",
    "require",
    "secondary_capture",
    "structured_report",
]
