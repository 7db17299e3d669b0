"""All errors that xrayedge raises on purpose.

XrayEdgeError
├── ImageError          one image can't be screened; carries a machine-readable ``reason``
│   ├── UnreadableError   not an image, damaged, or of a kind that is not supported
│   └── TooLargeError     over the limits on file size or pixel count
├── BundleError           a model bundle is missing, altered or of an unknown format
├── FleetError            a model can't be signed, trusted, installed or rolled back to
├── EngineError           an inference engine is missing or can't run a model file
├── SiteError             a site profile can't be made, read or used
├── BenchmarkError        something can't be measured, or a saved report can't be read
├── ResultsError          results can't be written to the requested place
├── ArchiveError         an archive can't be screened, gone on with or read
├── StationError          a station's configuration or state can't be used
│   └── StorageFullError  its database can't be written to now; an OSError too
└── WorkstationError      training, evaluation or conversion
    ├── DatasetError      the labelled images can't be used as they are
    ├── RunError          a training run is missing, unfinished or made by another recipe
    └── ConversionError   a model can't be converted to the requested file
"""

from __future__ import annotations


class XrayEdgeError(Exception):
    """Base of every error raised on purpose by xrayedge."""


class ImageError(XrayEdgeError):
    """An image that can't be screened.

    Parameters
    ----------
    message
        One sentence for people: what is wrong with which image, and what to do.
    reason
        The code that appears as ``reason`` in a screening.
    """

    default_reason = "unreadable"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class UnreadableError(ImageError):
    """Not an image, a damaged one, or one of a kind that is not supported."""


class TooLargeError(ImageError):
    """An image that exceeds the limits on file size or pixel count."""

    default_reason = "too-large"


class BundleError(XrayEdgeError):
    """A model bundle that is missing, altered or of an unknown format."""


class FleetError(XrayEdgeError):
    """A model that can't be signed, trusted, installed or rolled back to."""


class EngineError(XrayEdgeError):
    """An inference engine that is missing or can't run a model file."""


class SiteError(XrayEdgeError):
    """A site profile that can't be made, read or used."""


class BenchmarkError(XrayEdgeError):
    """Something that can't be measured, or a saved report that can't be read."""


class ResultsError(XrayEdgeError):
    """Results that can't be written to the requested place."""


class ArchiveError(XrayEdgeError):
    """An archive that can't be screened, gone on with or read."""


class StationError(XrayEdgeError):
    """A station whose configuration or state folder can't be used."""


class StorageFullError(StationError, OSError):
    """A station's database that can't be written to now: its disk is full, or fails."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}; free space on its disk"


class WorkstationError(XrayEdgeError):
    """Training, evaluation or conversion can't go on."""


class DatasetError(WorkstationError):
    """Labelled images that can't be used as they are."""


class RunError(WorkstationError):
    """A training run that is missing, unfinished or made by another recipe."""


class ConversionError(WorkstationError):
    """A model that can't be converted to the requested file."""
