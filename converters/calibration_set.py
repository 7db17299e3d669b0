"""The calibration set: training images, preprocessed as on the device, that set int8 ranges."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrayedge.data import Sample, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.errors import ConversionError
from xrayedge.lungs import LungFiles
from xrayedge.preprocessing import Preprocessing

#: Images of a calibration set.
IMAGES = 150


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Model inputs to observe activations on.

    Parameters
    ----------
    inputs
        ``uint8 [N, size, size, 1]``.
    """

    inputs: NDArray[np.uint8]

    @property
    def digest(self) -> str:
        """sha256 of the inputs' bytes."""
        return hashlib.sha256(self.inputs.tobytes()).hexdigest()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One image at a time, ``uint8 [1, size, size, 1]``."""
        return iter(self.inputs[:, np.newaxis])


def choose(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    lungs: LungFiles | None = None,
    images: int = IMAGES,
    seed: int = 0,
) -> CalibrationSet:
    """Draw training images, spread evenly over classes and the sources within them.

    Parameters
    ----------
    samples
        Of the training split.
    preprocessing
        Makes the network's inputs.
    lungs
        What frames the images for the network, if anything does.
    images
        How many to draw; all samples if there are fewer.
    seed
        The same seed draws the same images.

    Raises
    ------
    ConversionError
        A sample is not of the training split, or there is none.
    """
    if not samples or any(sample.split != "train" for sample in samples):
        raise ConversionError("a calibration set takes images of the training split")
    cells: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        cells[sample.label, sample.source].append(sample)
    rng = np.random.default_rng(seed)
    queues = [
        [cells[cell][index] for index in rng.permutation(len(cells[cell]))]
        for cell in sorted(cells)
    ]
    chosen: list[Sample] = []
    while any(queues) and len(chosen) < images:
        chosen += [queue.pop() for queue in queues if queue]
    return CalibrationSet(model_inputs(as_seen(chosen[:images], lungs), preprocessing))
