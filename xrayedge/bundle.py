"""A model bundle: a folder with `manifest.json` and the model files that it names.

A model file is read once, its sha256 is checked on those very bytes, and the engine loads them.
What a manifest says is not trusted: it can name plain files of its own folder and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import BundleError
from .files import write_atomically
from .installed import installed_folder
from .preprocessing import Preprocessing

FORMAT_VERSION = 1
#: The first release that reads this format; a manifest says so to older ones.
NEEDS_RELEASE = "0.1.0"
MANIFEST = "manifest.json"
SHIPPED = Path(__file__).parent / "models"

#: The shipped bundle that is used where none is named.
DEFAULT_MODEL = "vgg16-edge"

#: A manifest is some kilobytes; more is no manifest.
_MAX_MANIFEST_BYTES = 4_000_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RELEASE = re.compile(r"\d+(\.\d+)*")
_REMEDY = "install or copy the bundle again"

ModelFormat = Literal["tflite", "onnx"]
Precision = Literal["float32", "float16", "dynamic", "int8"]


@dataclass(frozen=True)
class GoldenVector:
    """What a file gives for a computed picture, so that any device can check itself.

    Parameters
    ----------
    phantom
        Number of the picture; see `golden.phantom`.
    input_sha256
        Of the preprocessed picture's bytes.
    probabilities
        Of each class, measured where the file was made.
    tolerance
        Largest difference of one probability that an engine's rounding explains.
    """

    phantom: int
    input_sha256: str
    probabilities: tuple[float, ...]
    tolerance: float


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
        What the file gives for computed pictures; none in bundles of before they were introduced.
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
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.file}: sha256 is {self.sha256!r}")


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
    """How probabilities become a label.

    Parameters
    ----------
    name
        ``balanced``, or ``sensitive``, which would rather call a healthy person ill.
    weights
        Factor on each class's probability before the largest is taken.
    abstain_below
        The label is uncertain where its weighted share of the probability is below this.
    sensitivity
        Share of the ill that are not called healthy, on the images that the point was fitted on.
    specificity
        Share of the healthy that are called healthy, likewise.
    """

    name: str
    weights: dict[str, float]
    abstain_below: float
    sensitivity: Interval | None = None
    specificity: Interval | None = None


@dataclass(frozen=True)
class Network:
    """A trained network and its files.

    Parameters
    ----------
    classes
        Names, in the order of the output's channels.
    preprocessing
        What turns a picture into its input, ``uint8 [N, size, size, 1]``.
    temperature
        Divides the logits before the softmax.
    variants
        Its files; each gives the activation map ``float32 [N, h, w, classes]``.
    operating_points
        Ways to choose a label, the usual one first; a frontal check has none.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    variants: tuple[Variant, ...]
    operating_points: tuple[OperatingPoint, ...] = ()

    def variant(self, model_format: ModelFormat, precision: Precision) -> Variant | None:
        """The file of this format and precision, if the bundle has one."""
        for variant in self.variants:
            if (variant.format, variant.precision) == (model_format, precision):
                return variant
        return None

    def operating_point(self, name: str) -> OperatingPoint:
        """The operating point of this name; `BundleError` where there is none."""
        for point in self.operating_points:
            if point.name == name:
                return point
        there = ", ".join(point.name for point in self.operating_points)
        raise BundleError(f"the model has no operating point {name!r}; it has {there}")


@dataclass(frozen=True)
class FrontalGate:
    """The network that runs first, and the rule by which a picture passes.

    Parameters
    ----------
    network
        Sorts pictures into ``label`` and kinds that must not be screened.
    label
        The class that may pass.
    threshold
        Least probability of ``label`` that passes.
    """

    network: Network
    label: str
    threshold: float


@dataclass(frozen=True)
class ModelBundle:
    """A classifier, its frontal check and where both come from.

    Parameters
    ----------
    folder
        Where the files are.
    name, version
        Of the model, as reported with every screening.
    classifier
        The network that sorts chest radiographs into classes.
    frontal
        The check that runs before it.
    provenance
        Data sets, recipes, seeds and versions that made it.
    """

    folder: Path
    name: str
    version: str
    classifier: Network
    frontal: FrontalGate
    provenance: dict[str, Any]

    @classmethod
    def load(cls, model: str | Path) -> ModelBundle:
        """Read a bundle's manifest.

        Parameters
        ----------
        model
            The name of an installed or shipped bundle, the installed one first, or a bundle's
            folder.

        Raises
        ------
        BundleError
            There is no such bundle, or its manifest is damaged or of another format version.
        """
        folder = _find(model)
        path = folder / MANIFEST
        try:
            values = json.loads(_read_plain(path, _MAX_MANIFEST_BYTES))
        except ValueError as error:
            raise BundleError(f"{path}: can't be read; {_REMEDY}") from error
        _check_format(path, values)
        try:
            frontal = values["frontal"]
            bundle = cls(
                folder=folder,
                name=str(values["name"]),
                version=str(values["version"]),
                classifier=_network(values["classifier"]),
                frontal=FrontalGate(
                    _network(frontal["network"]), str(frontal["label"]), float(frontal["threshold"])
                ),
                provenance=dict(values["provenance"]),
            )
            bundle._check_files()
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: damaged manifest ({error})") from error
        return bundle

    def variants(self) -> Iterator[Variant]:
        """Every file that the manifest names: the classifier's, then the frontal check's."""
        yield from self.classifier.variants
        yield from self.frontal.network.variants

    def read(self, variant: Variant) -> bytes:
        """The bytes of a model file, checked.

        Raises
        ------
        BundleError
            The manifest does not name the file, it is missing, a link or no plain file, or its
            sha256 is not the manifest's.
        """
        path = self.folder / variant.file
        if variant not in self.variants():
            raise BundleError(f"{path}: the manifest names no such file")
        content = _read_plain(path, variant.size_bytes)
        if hashlib.sha256(content).hexdigest() != variant.sha256:
            raise BundleError(
                f"{path}: not the file that the manifest describes (sha256 differs); {_REMEDY}"
            )
        return content

    def write_manifest(self) -> None:
        """Write ``manifest.json`` into the folder, atomically."""
        values = {
            "format_version": FORMAT_VERSION,
            "needs_release": NEEDS_RELEASE,
            **asdict(self),
        }
        del values["folder"]
        write_atomically(self.folder / MANIFEST, (json.dumps(values, indent=2) + "\n").encode())

    def _check_files(self) -> None:
        """No two files for one purpose, and nothing in the folder that the manifest does not name.

        What is not named is not checked, so it has no business beside files that are.
        """
        for network in (self.classifier, self.frontal.network):
            purposes = [(variant.format, variant.precision) for variant in network.variants]
            if len(set(purposes)) < len(purposes):
                raise ValueError("two files of one format and precision")
        named = {variant.file for variant in self.variants()}
        for path in sorted(self.folder.iterdir()):
            if path.name not in (MANIFEST, *named) and not path.name.startswith("."):
                raise BundleError(f"{path}: the manifest names no such file; remove it")


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}")))


def _find(model: str | Path) -> Path:
    if isinstance(model, str):
        installed = installed_folder(model)
        if installed is not None:
            return installed
        if model in shipped_bundles():
            return SHIPPED / model
    folder = Path(model)
    if (folder / MANIFEST).is_file():
        return folder
    raise BundleError(
        f"no model {str(model)!r}: it is neither a bundle's folder nor installed nor one of the "
        f"shipped bundles ({', '.join(shipped_bundles())})"
    )


def _read_plain(path: Path, largest: int) -> bytes:
    """The bytes of a plain file of at most ``largest`` bytes; a link is refused, never followed."""
    try:
        # Not blocking: a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BundleError(f"{path}: a link or no plain file; {_REMEDY}")
            content = stream.read(largest + 1)
    except OSError as error:
        reason = "a link or no plain file" if path.is_symlink() else "can't be read"
        raise BundleError(f"{path}: {reason}; {_REMEDY}") from error
    if len(content) > largest:
        raise BundleError(f"{path}: larger than the {largest} bytes that it may have; {_REMEDY}")
    return content


def _check_format(path: Path, values: Any) -> None:
    found = values.get("format_version") if isinstance(values, dict) else None
    if found == FORMAT_VERSION:
        return
    release = str(values.get("needs_release", "")) if isinstance(values, dict) else ""
    needed = f"'xrayedge>={release}'" if _RELEASE.fullmatch(release) else "a newer xrayedge"
    raise BundleError(
        f"{path}: bundle format {found!r}; this xrayedge reads format {FORMAT_VERSION}: "
        f"pip install --upgrade {needed}"
        if isinstance(found, int) and found > FORMAT_VERSION
        else f"{path}: not a bundle's manifest (format {found!r}); {_REMEDY}"
    )


def _network(values: dict[str, Any]) -> Network:
    temperature = float(values["temperature"])
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise ValueError(f"temperature is {temperature}")
    return Network(
        classes=tuple(str(name) for name in values["classes"]),
        preprocessing=Preprocessing.from_dict(values["preprocessing"]),
        temperature=temperature,
        variants=tuple(_variant(variant) for variant in values["variants"]),
        operating_points=tuple(map(_operating_point, values["operating_points"])),
    )


def _operating_point(values: dict[str, Any]) -> OperatingPoint:
    rates = {
        name: Interval(**values[name])
        for name in ("sensitivity", "specificity")
        if values.get(name) is not None
    }
    return OperatingPoint(**{**values, **rates})


def _variant(values: dict[str, Any]) -> Variant:
    golden = tuple(
        GoldenVector(**{**vector, "probabilities": tuple(map(float, vector["probabilities"]))})
        for vector in values.get("golden", ())
    )
    return Variant(**{**values, "golden": golden})
