"""Read an image from a file, from bytes or from an array into plain grey pixels."""

from .image import Picture
from .limits import Limits
from .reading import PICTURE_SUFFIXES, Source, read, source_name
from .tags import AcquisitionTags, contradictions

__all__ = [
    "PICTURE_SUFFIXES",
    "AcquisitionTags",
    "Limits",
    "Picture",
    "Source",
    "contradictions",
    "read",
    "source_name",
]
