"""What an image may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import TooLargeError

#: Bytes that a file may store for each pixel: 16 bits of grey, or 8 of each colour, and some.
_STORED_BYTES_PER_PIXEL = 4
#: Times that a JPEG decoder may go over the largest image allowed; smaller ones may have more.
_PASSES = 10


@dataclass(frozen=True)
class Limits:
    """What an image may cost before it is refused, checked before its pixels are decoded.

    Parameters
    ----------
    max_bytes
        Size of the file.
    max_pixels
        Width times height.
    """

    max_bytes: int = 512_000_000
    max_pixels: int = 100_000_000

    @property
    def max_stored(self) -> int:
        """Bytes that pixel data may take, decompressed."""
        return _STORED_BYTES_PER_PIXEL * self.max_pixels

    def check_bytes(self, size: int, source: str) -> None:
        """Raise `TooLargeError` for a file of ``size`` bytes over the limit."""
        if size > self.max_bytes:
            raise TooLargeError(
                f"{source}: {size} bytes are more than the limit of {self.max_bytes}; "
                "export a smaller image or raise Limits.max_bytes"
            )

    def check_pixels(self, width: int, height: int, source: str) -> None:
        """Raise `TooLargeError` for a declared size over the limit."""
        if width * height > self.max_pixels:
            raise TooLargeError(
                f"{source}: {width} x {height} pixels are more than the limit of "
                f"{self.max_pixels}; export a smaller image or raise Limits.max_pixels"
            )

    def check_stored(self, size: int, source: str) -> None:
        """Raise `TooLargeError` for pixel data of ``size`` bytes over the limit."""
        if size > self.max_stored:
            raise TooLargeError(
                f"{source}: more than {_STORED_BYTES_PER_PIXEL} bytes for each of "
                f"{self.max_pixels} pixels; export a smaller image or raise Limits.max_pixels"
            )

    def check_scans(self, scans: int, width: int, height: int, source: str) -> None:
        """Raise `TooLargeError` for a JPEG that makes its decoder go over it again and again."""
        if scans * width * height > _PASSES * self.max_pixels:
            raise TooLargeError(
                f"{source}: {scans} scans of {width} x {height} pixels take too long; "
                "export it again as a plain JPEG or PNG"
            )
