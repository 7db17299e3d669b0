"""What stores of images have in common: the reasons of what can't be had, and time limits."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..errors import ImageError
from ..imaging import Limits

S3 = "s3://"
WEB = ("http://", "https://")

#: The reasons of images that a store does not give, beside those of `screen`.
NOT_FOUND, ACCESS_DENIED, UNREACHABLE = "not-found", "access-denied", "unreachable"

# Together they must end before `process.Job.time_limit` does, so that a slow store is told from an
# image that takes too long.
CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0  # without a byte
TRIES = 3
#: For the bytes of an image, with all tries; one try more may have begun.
IMAGE_SECONDS = 60.0
#: Bytes read at a time, between two looks at the clock.
CHUNK = 1 << 20


def is_url(source: str) -> bool:
    """Whether a source is in a store, and is no path."""
    return source.lower().startswith((S3, *WEB))


def is_object(url: str) -> bool:
    """Whether a URL is one of S3's."""
    return url.lower().startswith(S3)


def collected(chunks: Iterable[bytes], source: str, limits: Limits, until: float) -> bytes:
    """Join the chunks of one image.

    Parameters
    ----------
    chunks
        As they arrive.
    source
        For messages.
    limits
        Largest file accepted.
    until
        When the time is over, by ``time.monotonic``.

    Raises
    ------
    TooLargeError
        They are more than the limit.
    ImageError
        With the reason ``unreachable``: the time is over.
    """
    content = bytearray()
    for chunk in chunks:
        content += chunk
        limits.check_bytes(len(content), source)
        if time.monotonic() > until:
            raise ImageError(f"{source}: comes too slowly", reason=UNREACHABLE)
    return bytes(content)
