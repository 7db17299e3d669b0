"""What image stores have in common: reasons for images that can't be read, and time limits."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..errors import ImageError
from ..imaging import Limits

S3 = "s3://"
WEB = ("http://", "https://")

#: Reasons for images that a store does not deliver, in addition to those of `screen`.
NOT_FOUND, ACCESS_DENIED, UNREACHABLE = "not-found", "access-denied", "unreachable"

# Together they must be shorter than `process.Job.time_limit`, so that a slow store is distinguished
# from an image that takes too long to screen.
CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0  # without a byte
TRIES = 3
#: For the bytes of an image, with all retries; one more may have begun.
IMAGE_SECONDS = 60.0
#: Bytes read at a time, between two checks of the clock.
CHUNK = 1 << 20


def is_url(source: str) -> bool:
    """Whether a source is a URL rather than a path."""
    return source.lower().startswith((S3, *WEB))


def is_object(url: str) -> bool:
    """Whether a URL is an ``s3://`` URL."""
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
        The deadline, by ``time.monotonic``.

    Raises
    ------
    TooLargeError
        They exceed the limit.
    ImageError
        With the reason ``unreachable``: the deadline has passed.
    """
    content = bytearray()
    for chunk in chunks:
        content += chunk
        limits.check_bytes(len(content), source)
        if time.monotonic() > until:
            raise ImageError(f"{source}: comes too slowly", reason=UNREACHABLE)
    return bytes(content)
