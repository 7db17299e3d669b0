"""Read an image from a file, bytes or an array as grey pixels."""

from .image import Image
from .limits import Limits
from .reading import IMAGE_SUFFIXES, Source, read, source_name
from .tags import AcquisitionTags, contradictions

__all__ = [
    "IMAGE_SUFFIXES",
    "AcquisitionTags",
    "Image",
    "Limits",
    "Source",
    "contradictions",
    "read",
    "source_name",
]
