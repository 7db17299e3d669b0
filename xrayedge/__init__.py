"""Screening of chest radiographs on the device that takes them.

Research software, not a medical device.
"""

from importlib.metadata import version

from .bundle import ModelBundle, shipped_bundles
from .errors import (
    BundleError,
    EngineError,
    PictureError,
    TooLargeError,
    UnreadableError,
    XrayEdgeError,
)
from .imaging import Limits, Picture, read
from .preprocessing import Preprocessing
from .result import Screening
from .screening import Screener

__version__ = version("xrayedge")

__all__ = [
    "BundleError",
    "EngineError",
    "Limits",
    "ModelBundle",
    "Picture",
    "PictureError",
    "Preprocessing",
    "Screener",
    "Screening",
    "TooLargeError",
    "UnreadableError",
    "XrayEdgeError",
    "read",
    "shipped_bundles",
]
