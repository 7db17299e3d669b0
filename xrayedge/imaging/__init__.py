"""Read a picture from a file, from bytes or from an array into plain grey pixels."""

from .picture import Picture
from .reading import PICTURE_SUFFIXES, Limits, Source, read
from .tags import AcquisitionTags, contradictions

__all__ = [
    "PICTURE_SUFFIXES",
    "AcquisitionTags",
    "Limits",
    "Picture",
    "Source",
    "contradictions",
    "read",
]
