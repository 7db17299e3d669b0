"""Silence the converters: a conversion reports its own steps, and everything else is noise."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

#: Loggers of TensorFlow, of the library that it logs through, and of tf2onnx.
_LOGGERS = ("tensorflow", "absl", "tf2onnx")


@contextmanager
def quiet_converters() -> Iterator[None]:
    """Let through only errors of the converters' loggers: no warnings, nothing on stdout."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
