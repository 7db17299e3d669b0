"""Keep what C decoders print to stderr back: the error raised says it, and a host's log is its own.

Two ways lead there. OpenCV's log has a level. libjpeg and libpng, inside OpenCV, print to C's
``stderr``: with glibc that is a variable, which points to ``/dev/null`` meanwhile. The file
descriptor 2 stays as it is, so that what Python prints in other threads comes through.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_lock = threading.Lock()
_log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4, and from 5.0 on
_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT
_inside = 0
_level = 0
_stderr: ctypes.c_void_p | None = None
_nowhere: int | None = None
_shown: int | None = None


def _open() -> None:
    """Find C's ``stderr`` and open a stream to nowhere; once."""
    global _stderr, _nowhere
    if _nowhere is not None:
        return
    _nowhere = 0
    if platform.libc_ver()[0] != "glibc":  # elsewhere stderr is no variable
        return
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    _stderr = ctypes.c_void_p.in_dll(library, "stderr")
    _nowhere = library.fopen(os.fsencode(os.devnull), b"w") or 0


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing that a decoder prints appears; for the whole process, as both ways are."""
    global _inside, _level, _shown
    with _lock:
        if _inside == 0:
            _open()
            _level = _log.setLogLevel(_SILENT)
            if _stderr is not None and _nowhere:
                _shown, _stderr.value = _stderr.value, _nowhere
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _log.setLogLevel(_level)
                if _stderr is not None and _nowhere:
                    _stderr.value = _shown
