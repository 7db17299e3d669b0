"""Screening of chest radiographs on the device that takes them.

Research software, not a medical device.
"""

from .bundle import ModelBundle, shipped_bundles
from .errors import (
    BundleError,
    EngineError,
    ImageError,
    TooLargeError,
    UnreadableError,
    XrayEdgeError,
)
from .imaging import Image, Limits, read
from .preprocessing import Preprocessing
from .result import Screening
from .screening import Screener

__all__ = [
    "BundleError",
    "EngineError",
    "Image",
    "ImageError",
    "Limits",
    "ModelBundle",
    "Preprocessing",
    "Screener",
    "Screening",
    "TooLargeError",
    "UnreadableError",
    "XrayEdgeError",
    "read",
    "shipped_bundles",
]


def __getattr__(name: str) -> str:
    """``__version__``, looked up when it is asked for: that takes as long as all the imports."""
    if name == "__version__":
        from importlib.metadata import version

        return version("xrayedge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
