"""PNG, JPEG, BMP and TIFF to grey pixels, through OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError
from .headers import jpeg_scans, raster_header
from .image import to_grey
from .limits import Limits
from .stderr import silenced


def decode(data: bytes, name: str, limits: Limits) -> NDArray[np.uint8]:
    """Decode the bytes of a raster file to ``uint8 [H, W]``.

    Raises
    ------
    UnreadableError
        Damaged, of several pages (reason ``multi-frame``), or encoded in a way that is not read.
    TooLargeError
        The declared size is over the limit.
    """
    header = raster_header(data)
    if header is None or min(header.width, header.height) < 1:
        raise UnreadableError(f"{name}: the file's header is damaged; export it again")
    limits.check_pixels(header.width, header.height, name)
    limits.check_scans(jpeg_scans(data), header.width, header.height, name)
    if header.fault is not None:
        raise UnreadableError(f"{name}: the file is {header.fault}; export it again")
    if header.pages > 1:
        raise UnreadableError(
            f"{name}: several pages; screen one image at a time", reason="multi-frame"
        )
    try:
        # Keeps 16 bits, turns colour to grey and follows the EXIF orientation.
        with silenced():
            pixels = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
            )
    except cv2.error as error:
        raise UnreadableError(f"{name}: the file is damaged; export it again") from error
    if pixels is None:
        raise UnreadableError(f"{name}: the file is damaged or its encoding is not supported")
    grey = to_grey(pixels, name)
    return 255 - grey if header.inverted else grey
