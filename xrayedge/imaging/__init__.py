"""Read a picture from a file, from bytes or from an array into plain grey pixels."""

from .picture import AcquisitionTags, Picture
from .reading import PICTURE_SUFFIXES, Limits, Source, read

__all__ = ["PICTURE_SUFFIXES", "AcquisitionTags", "Limits", "Picture", "Source", "read"]
