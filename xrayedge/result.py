"""`Screening`: the result of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bundle import Precision
from .engines import EngineName
from .imaging import AcquisitionTags
from .opacities import Box, Opacity

Status = Literal["screened", "rejected", "failed"]


@dataclass(frozen=True, eq=False)
class Screening:
    """The result of one image. Immutable: its mappings and arrays are read-only.

    Parameters
    ----------
    source
        The path as the caller gave it, ``<bytes>`` or ``<array>``.
    status
        ``screened``; ``rejected``, if the image must not be screened; or ``failed``.
    reason
        Why it was not screened, as a code for programs: ``not-frontal``, ``turned``, ``inverted``,
        ``too-small``, ``unreadable``, ``timeout``, ...
    detail
        The same in a sentence for people.
    label
        The class that the operating point chooses.
    certain
        Whether the label's share of the probability, weighted by the operating point, is at least
        the point's ``abstain_below``.
    probabilities
        Of each class; they sum to 1.
    frontal_score
        Probability that the image is an upright frontal chest radiograph.
    model, version, precision, engine, operating_point
        What made the result.
    timings_ms
        Milliseconds for ``read``, ``frontal``, ``preprocess`` (finding the lungs, too),
        ``classify`` and ``total``; ``None`` for a stage that was not reached.
    tags
        What a DICOM file says about modality, body part and view.
    warnings
        Where that contradicts the frontal check; see `imaging.contradictions`.
    corrections
        How the image was corrected before it was screened: ``contrast`` if it filled little of the
        grey range (`preprocessing.fill_range`); if that was requested, ``inverted``,
        ``turned-90``, ``turned-180``, ``turned-270`` (degrees counter-clockwise).
    opacities
        Where the image shows opacities: boxes in pixels of the image as it was read, with
        scores, strongest first. Empty too where the model has no channel for them.
    lungs
        The part of the image that the classifier saw, framed around the lungs: left, top, right and
        bottom edge, in pixels of the image as it was read. ``None`` where the model sees whole
        images.
    grey
        Mean and standard deviation of the image's grey values, 0 to 255, where they were asked
        for; see `reference.grey`.
    activation_map
        ``float32 [h, w, channels]``, logits at each place: the classes' channels and, where the
        model has it, last that of opacities.
    heatmap
        ``uint8 [H, W, 3]``, the overlay in OpenCV's order of colours, BGR, where it was asked
        for; see `heatmap.overlay`. ``heatmap[:, :, ::-1]`` is RGB.
    """

    source: str
    status: Status
    reason: str | None
    detail: str | None
    label: str | None
    certain: bool | None
    probabilities: Mapping[str, float] | None
    frontal_score: float | None
    model: str
    version: str
    precision: Precision
    engine: EngineName
    operating_point: str
    timings_ms: Mapping[str, float | None]
    tags: AcquisitionTags | None = None
    warnings: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    opacities: tuple[Opacity, ...] = ()
    lungs: Box | None = None
    grey: tuple[float, float] | None = None
    activation_map: NDArray[np.float32] | None = field(default=None, repr=False)
    heatmap: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.__setstate__(self.__dict__)

    @property
    def ok(self) -> bool:
        """Whether the image was screened, so that there is a label."""
        return self.status == "screened"

    def __getstate__(self) -> dict[str, Any]:
        """Plain dicts, so that a result can be pickled and copied."""
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in self.__dict__.items()
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update({name: _read_only(value) for name, value in state.items()})

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the command line's contract."""
        return {
            "source": self.source,
            "status": self.status,
            "reason": self.reason,
            "label": self.label,
            "certain": self.certain,
            "probabilities": None if self.probabilities is None else dict(self.probabilities),
            "frontal_score": self.frontal_score,
            "model": self.model,
            "version": self.version,
            "precision": self.precision,
            "engine": self.engine,
            "operating_point": self.operating_point,
            "timings_ms": dict(self.timings_ms),
            "tags": asdict(self.tags) if self.tags else None,
            "warnings": list(self.warnings),
            "corrections": list(self.corrections),
            "opacities": [{"box": list(one.box), "score": one.score} for one in self.opacities],
            "lungs": None if self.lungs is None else list(self.lungs),
        }


def _read_only(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType(dict(value))
    if isinstance(value, np.ndarray):
        value = value.view()
        value.setflags(write=False)
    return value
