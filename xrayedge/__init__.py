"""Screening of chest radiographs on the device that takes them.

Research software, not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    __version__: str

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

#: Where each name comes from. A module is loaded with the first of its names that is used
#: (PEP 562), so that a program that wants one module of the package doesn't wait for all others.
_MODULES = {
    "BundleError": "errors",
    "EngineError": "errors",
    "Image": "imaging",
    "ImageError": "errors",
    "Limits": "imaging",
    "ModelBundle": "bundle",
    "Preprocessing": "preprocessing",
    "Screener": "screening",
    "Screening": "result",
    "TooLargeError": "errors",
    "UnreadableError": "errors",
    "XrayEdgeError": "errors",
    "read": "imaging",
    "shipped_bundles": "bundle",
}


if not TYPE_CHECKING:  # it would let checkers take any name for one of the package

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        elif name == "__version__":
            from importlib.metadata import version  # takes as long as the rest of the package

            value = version("xrayedge")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value  # next time it is found without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
