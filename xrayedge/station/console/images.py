"""`Images`: an image as a browser shows it, and the layer of its heatmap.

An image is decoded again when it is looked at: only one that the worker has finished, so that a
file which ends the process is found there, where it is counted. One at a time, for the memory's
sake.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from ...errors import ImageError
from ...heatmap import layer, part_of
from ...imaging import read
from ...preprocessing import Preprocessing
from .. import memory
from ..records import Job
from ..state import StateFolder
from ..store import Store
from .guard import Refusal

#: Longer side of the heatmap's layer: it is smooth, and browsers enlarge it as smoothly.
LAYER_SIDE = 1024
_MOST_WAITING = 16
_MOST_SIZES = 1024
# Fast: the console is near, and a radiograph's noise does not compress.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class Images:
    """PNG files of jobs.

    Parameters
    ----------
    state, store
        Where the images and the activation maps are.
    """

    def __init__(self, state: StateFolder, store: Store) -> None:
        self._state, self._store = state, store
        self._one = asyncio.Semaphore(1)
        self._waiting = 0
        self._sizes: OrderedDict[int, tuple[int, int]] = OrderedDict()

    async def image(self, job: Job) -> bytes:
        """8 bits of grey. `Refusal` where it can't be shown."""
        return await self._alone(job, self._image)

    async def heatmap(self, job: Job) -> bytes:
        """Red, green, blue and alpha; covers the whole image. `Refusal` where there is none."""
        return await self._alone(job, self._heatmap)

    async def _alone(self, job: Job, make: Callable[[Job], bytes]) -> bytes:
        if job.state not in ("done", "refused"):
            raise Refusal(
                409, "The image has not been screened.", "Wait until its result is there."
            )
        if self._waiting >= _MOST_WAITING:
            raise Refusal(503, "Too many images are requested.", "Try again.", retry_after=2)
        self._waiting += 1
        try:
            async with self._one:
                return await run_in_threadpool(make, job)
        finally:
            self._waiting -= 1
            memory.give_back()

    def _image(self, job: Job) -> bytes:
        return _png(self._pixels(job))

    def _heatmap(self, job: Job) -> bytes:
        result = job.result or {}
        activation_map = self._store.jobs.activation_map(job.id)
        if activation_map is None or not result.get("label") or "fit" not in result:
            raise Refusal(404, "There is no heatmap.", "Only a screened image has one.")
        height, width = self._sizes.get(job.id) or self._pixels(job).shape
        scale = min(1.0, LAYER_SIDE / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        fit = Preprocessing(fit=result["fit"])
        part = part_of(result.get("lungs"), height, width)
        scores, label = result["probabilities"], result["label"]
        return _png(layer(activation_map, fit, scores, label, *size, part))

    def _pixels(self, job: Job) -> NDArray[np.uint8]:
        path = self._state.image(job)
        if not path.exists():
            raise Refusal(404, "The image is not kept any more.", "Look for it in the PACS.")
        try:
            pixels = read(path).pixels
        except ImageError:
            raise Refusal(
                422, "The image can't be shown.", "Export it again as DICOM, PNG or JPEG."
            ) from None
        height, width = pixels.shape
        self._sizes[job.id] = (height, width)
        while len(self._sizes) > _MOST_SIZES:
            self._sizes.popitem(last=False)
        return pixels


def _png(pixels: NDArray[np.uint8]) -> bytes:
    written, content = cv2.imencode(".png", pixels, _PNG)
    if not written:
        raise Refusal(500, "The image can't be made.", "Try again.")
    return content.tobytes()
