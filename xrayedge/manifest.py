"""What a bundle's manifest says, as dataclasses: their type hints are its schema.

`schema.decode` builds them from JSON, and each refuses what makes no sense, with `ValueError`;
whoever holds one can rely on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from .errors import BundleError
from .preprocessing import Preprocessing

ModelFormat = Literal["tflite", "onnx"]
Precision = Literal["float32", "float16", "dynamic", "int8"]

#: The class of people who have nothing; what a site's operating point weighs.
HEALTHY = "healthy"
#: What the channels of the network that frames the lungs stand for.
EDGES = ("left", "top", "right", "bottom")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: Beyond these a temperature or a weight makes probabilities that are no numbers.
_TEMPERATURES = (1e-3, 1e3)
_WEIGHTS = (1e-15, 1e15)
_BIASES = (-1e3, 1e3)
#: No network of ours reads more; a larger one would take a device's memory.
_LARGEST_INPUT = 2048
_LONGEST_NAME = 100
#: A share that is a sum of weights may end a little beyond 1.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class GoldenVector:
    """What a file gives for a computed image, so that any device can check itself.

    Parameters
    ----------
    phantom
        Number of the image; see `golden.phantom`.
    input_sha256
        Of the preprocessed image's bytes.
    probabilities
        Of each class, measured where the file was made.
    tolerance
        Largest difference of one probability that an engine's rounding explains.
    opacity
        Mean opacity score (`opacities.scores`) of the map's places; ``None`` where the network has
        no such channel, and in bundles of before it was measured.
    """

    phantom: int
    input_sha256: str
    probabilities: tuple[float, ...]
    tolerance: float
    opacity: float | None = None

    def __post_init__(self) -> None:
        _within("phantom", self.phantom, 0, 999)
        _sha256("input_sha256", self.input_sha256)
        opacity = () if self.opacity is None else (self.opacity,)
        for one in (*self.probabilities, self.tolerance, *opacity):
            _within("golden", one, 0.0, 1.0)


@dataclass(frozen=True)
class Variant:
    """One file of a network.

    Parameters
    ----------
    file
        Name inside the bundle's folder.
    format, precision
        What it is.
    size_bytes, sha256
        Of the file.
    parity
        How it compares with the float model that it was made from; see `converters.parity`.
    meets_floor
        Whether that is good enough; a variant that is not was written because it was forced.
    golden
        What the file gives for computed images; none in bundles of before they were introduced.
    """

    file: str
    format: ModelFormat
    precision: Precision
    size_bytes: int
    sha256: str
    parity: dict[str, float]
    meets_floor: bool = True
    golden: tuple[GoldenVector, ...] = ()

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.file):
            raise ValueError(f"{self.file!r} is not a plain file name")
        if self.format not in get_args(ModelFormat):
            raise ValueError(f"unknown format {self.format!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"unknown precision {self.precision!r}")
        if not isinstance(self.size_bytes, int) or self.size_bytes < 1:
            raise ValueError(f"{self.file}: size_bytes is {self.size_bytes!r}")
        _sha256(self.file, self.sha256)


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95 % interval over patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class OperatingPoint:
    """How probabilities become a label: the class of the largest weighted probability.

    Parameters
    ----------
    name
        ``balanced``, the usual one; ``sensitive``, which would rather call a healthy person ill;
        ``specific``; ``site:NAME``, fitted at one hospital (`site.SiteProfile`).
    weights
        Factor on each class's probability before the largest is taken.
    abstain_below
        The label is uncertain where its weighted share of the probability is below this.
    sensitivity
        Share of the ill that are not called healthy, on the images that the point was fitted on;
        ``None`` where it was not measured.
    specificity
        Share of the healthy that are called healthy, likewise.
    """

    name: str
    weights: dict[str, float]
    abstain_below: float
    sensitivity: Interval | None = None
    specificity: Interval | None = None

    def __post_init__(self) -> None:
        check_name("an operating point", self.name)
        for name, weight in self.weights.items():
            _within(f"operating point {self.name}: weight of {name}", weight, *_WEIGHTS)
        _within(f"operating point {self.name}: abstain_below", self.abstain_below, 0.0, 1.0)
        for rate in (self.sensitivity, self.specificity):
            for share in (rate.value, rate.low, rate.high) if rate else ():
                _within(f"operating point {self.name}", share, -_ROUNDING, 1.0 + _ROUNDING)


@dataclass(frozen=True)
class OpacitySettings:
    """How the channel ``opacity``, the map's last, is read: see `opacities.find`.

    Parameters
    ----------
    threshold
        Least score, 0 to 1, of a place in an opacity; fitted on `val`.
    temperature, bias
        A place's score is ``sigmoid((logit + bias) / temperature)`` (Platt 1999), fitted on `val`.
    """

    threshold: float
    temperature: float
    bias: float

    def __post_init__(self) -> None:
        _within("opacity: threshold", self.threshold, 0.0, 1.0)
        _within("opacity: temperature", self.temperature, *_TEMPERATURES)
        _within("opacity: bias", self.bias, *_BIASES)


@dataclass(frozen=True)
class ValCurve:
    """The trade-off on pooled `val`, at thresholds on the illness score; see `reference.val_curve`.

    A person is called healthy whose illness score (`reference.illness_scores`, at the network's
    first operating point) is at most the threshold, that is, where ``healthy`` is weighed by
    ``exp(threshold)`` more than at that point. So the point itself is at threshold 0.

    Parameters
    ----------
    thresholds
        Ascending.
    specificity
        Share of the healthy called healthy at each threshold; never falls.
    sensitivity
        Share of the ill, whatever they have, not called healthy; never rises.
    healthy, ill
        Images that it was measured on.
    """

    thresholds: tuple[float, ...]
    specificity: tuple[float, ...]
    sensitivity: tuple[float, ...]
    healthy: int
    ill: int

    def __post_init__(self) -> None:
        points = len(self.thresholds)
        if points < 2 or {len(self.specificity), len(self.sensitivity)} != {points}:
            raise ValueError("val_curve: at least two points, each with all three values")
        if self.healthy < 1 or self.ill < 1:
            raise ValueError("val_curve: of no images")
        for share in (*self.specificity, *self.sensitivity):
            _within("val_curve", share, 0.0, 1.0)
        rising = all(low < high for low, high in pairwise(self.thresholds))
        kept = all(low <= high for low, high in pairwise(self.specificity))
        lost = all(low >= high for low, high in pairwise(self.sensitivity))
        if not (rising and kept and lost):
            raise ValueError("val_curve: thresholds must rise, specificity not fall, sensitivity "
                             "not rise")  # fmt: skip


@dataclass(frozen=True)
class Histogram:
    """How values spread over equal bins.

    Parameters
    ----------
    low, high
        The first bin's lower and the last bin's upper edge. Values beyond count in these bins.
    counts
        Values in each bin.
    """

    low: float
    high: float
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"histogram: from {self.low} to {self.high}")
        if not 2 <= len(self.counts) <= 1000 or min(self.counts) < 0 or sum(self.counts) < 1:
            raise ValueError("histogram: 2 to 1000 counts, none negative, some values")


@dataclass(frozen=True)
class ReferenceHistograms:
    """What the model saw where it was made, for a monitor that watches for drift.

    Made by `reference.measure`, on pooled `val`.

    Parameters
    ----------
    probabilities
        Of each class, 0 to 1.
    frontal_score
        0 to 1.
    grey_mean, grey_contrast
        Mean and standard deviation of the image's grey values, 0 to 255 (`reference.grey`).
    """

    probabilities: dict[str, Histogram]
    frontal_score: Histogram
    grey_mean: Histogram
    grey_contrast: Histogram


@dataclass(frozen=True)
class Network:
    """A trained network and its files.

    Parameters
    ----------
    classes
        Names, in the order of the output's channels.
    preprocessing
        What turns an image into its input, ``uint8 [N, size, size, 1]``.
    temperature
        Divides the logits before the softmax.
    variants
        Its files; each gives the activation map ``float32 [N, h, w, channels]``.
    operating_points
        Ways to choose a label, the usual one first; a frontal check has none.
    opacity
        How the map's last channel, beyond the classes', is read; ``None``: it has none.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    variants: tuple[Variant, ...]
    operating_points: tuple[OperatingPoint, ...] = ()
    opacity: OpacitySettings | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes are {self.classes!r}: at least two, each once")
        for name in self.classes:
            check_name("a class", name)
        _within("temperature", self.temperature, *_TEMPERATURES)
        preprocessing = self.preprocessing
        _within("preprocessing: size", preprocessing.size, 1, _LARGEST_INPUT)
        if preprocessing.equalisation == "clahe":
            _within("preprocessing: clahe_tiles", preprocessing.clahe_tiles, 1, preprocessing.size)
        purposes = [(variant.format, variant.precision) for variant in self.variants]
        if len(set(purposes)) < len(purposes):
            raise ValueError("two files of one format and precision")
        for vector in (vector for variant in self.variants for vector in variant.golden):
            if len(vector.probabilities) != len(self.classes):
                raise ValueError(f"golden: not {len(self.classes)} probabilities")
            if self.opacity is None and vector.opacity is not None:
                raise ValueError("golden: an opacity score, of a network without that channel")
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError("two operating points of one name")
        for point in self.operating_points:
            if set(point.weights) != set(self.classes):
                raise ValueError(f"operating point {point.name}: not one weight for each class")

    @property
    def channels(self) -> int:
        """Of the activation map: the classes', and the one of opacities where there is one."""
        return len(self.classes) + (self.opacity is not None)

    def variant(self, model_format: ModelFormat, precision: Precision) -> Variant | None:
        """The file of this format and precision, if the bundle has one."""
        for variant in self.variants:
            if (variant.format, variant.precision) == (model_format, precision):
                return variant
        return None

    def formats(self, precision: Precision) -> frozenset[ModelFormat]:
        """The formats in which the bundle has a file of this precision."""
        return frozenset(v.format for v in self.variants if v.precision == precision)

    def operating_point(self, name: str) -> OperatingPoint:
        """The operating point of this name; `BundleError` where there is none."""
        for point in self.operating_points:
            if point.name == name:
                return point
        there = ", ".join(point.name for point in self.operating_points)
        raise BundleError(f"the model has no operating point {name!r}; it has {there}")


@dataclass(frozen=True)
class FrontalGate:
    """The network that runs first, and the rule by which an image passes.

    Parameters
    ----------
    network
        Sorts images into ``label`` and kinds that must not be screened.
    label
        The class that may pass.
    threshold
        Least probability of ``label`` that passes.
    """

    network: Network
    label: str
    threshold: float

    def __post_init__(self) -> None:
        if self.label not in self.network.classes:
            raise ValueError(f"frontal: {self.label!r} is none of its network's classes")
        _within("frontal: threshold", self.threshold, 0.0, 1.0)


@dataclass(frozen=True)
class LungSettings:
    """The network that frames the lungs, and how its box becomes the classifier's image.

    Parameters
    ----------
    network
        Its channels are `EDGES`: logits of their places, as shares of the width and the height.
    margin
        Added on each side of the box, as a share of the image.
    provenance
        Data, recipe and versions that made the network.
    """

    network: Network
    margin: float
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        if self.network.classes != EDGES or self.network.opacity is not None:
            raise ValueError(f"lungs: the network's channels are not {', '.join(EDGES)}")
        _within("lungs: margin", self.margin, 0.0, 0.5)


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``, but for its format; see `bundle.ModelBundle`."""

    name: str
    version: str
    classifier: Network
    frontal: FrontalGate
    provenance: dict[str, Any]
    val_curve: ValCurve | None = None
    reference: ReferenceHistograms | None = None
    lungs: LungSettings | None = None

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("version", self.version)
        if not self.classifier.operating_points:
            raise ValueError("the classifier has no operating point")
        if self.reference and set(self.reference.probabilities) != set(self.classifier.classes):
            raise ValueError("reference: not one histogram for each class")


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nor is NaN
        raise ValueError(f"{what} is {value}, not {low} to {high}")


def check_name(what: str, name: str) -> None:
    """`ValueError` unless a bundle may hold this name."""
    if not (0 < len(name) <= _LONGEST_NAME and name.isprintable()):
        raise ValueError(
            f"{what} is {name[:_LONGEST_NAME]!r}, not 1 to {_LONGEST_NAME} printable characters"
        )


def _sha256(what: str, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"{what}: sha256 is {digest[:_LONGEST_NAME]!r}")
