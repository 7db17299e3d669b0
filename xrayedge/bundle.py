"""A model bundle: a folder with `manifest.json` and the model files that it names.

A model file is read once, its sha256 is checked on those very bytes, and the engine loads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import BundleError
from .files import write_atomically
from .preprocessing import Preprocessing

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHIPPED = Path(__file__).parent / "models"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

ModelFormat = Literal["tflite", "onnx"]
Precision = Literal["float32", "float16", "dynamic", "int8"]


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
    """

    file: str
    format: ModelFormat
    precision: Precision
    size_bytes: int
    sha256: str
    parity: dict[str, float]

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.file):
            raise ValueError(f"{self.file!r} is not a plain file name")
        if self.format not in get_args(ModelFormat):
            raise ValueError(f"unknown format {self.format!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"unknown precision {self.precision!r}")


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
    """

    name: str
    weights: dict[str, float]
    abstain_below: float


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
            The name of a shipped bundle, or a bundle's folder.

        Raises
        ------
        BundleError
            There is no such bundle, or its manifest is damaged or of another format version.
        """
        folder = _find(model)
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: can't be read; install or copy the bundle again") from error
        found = values.get("format_version") if isinstance(values, dict) else None
        if found != FORMAT_VERSION:
            raise BundleError(
                f"{path}: bundle format {found!r}; this xrayedge reads format {FORMAT_VERSION}"
            )
        try:
            frontal = values["frontal"]
            return cls(
                folder=folder,
                name=str(values["name"]),
                version=str(values["version"]),
                classifier=_network(values["classifier"]),
                frontal=FrontalGate(
                    _network(frontal["network"]), str(frontal["label"]), float(frontal["threshold"])
                ),
                provenance=dict(values["provenance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: damaged manifest ({error})") from error

    def read(self, variant: Variant) -> bytes:
        """The bytes of a model file, checked.

        Raises
        ------
        BundleError
            The file is missing or its sha256 is not the manifest's.
        """
        path = self.folder / variant.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: can't be read; install or copy the bundle again") from error
        if hashlib.sha256(content).hexdigest() != variant.sha256:
            raise BundleError(
                f"{path}: not the file that the manifest describes (sha256 differs); "
                "install or copy the bundle again"
            )
        return content

    def write_manifest(self) -> None:
        """Write ``manifest.json`` into the folder, atomically."""
        values = {"format_version": FORMAT_VERSION, **asdict(self)}
        del values["folder"]
        write_atomically(self.folder / MANIFEST, (json.dumps(values, indent=2) + "\n").encode())


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}")))


def _find(model: str | Path) -> Path:
    if isinstance(model, str) and model in shipped_bundles():
        return SHIPPED / model
    folder = Path(model)
    if (folder / MANIFEST).is_file():
        return folder
    raise BundleError(
        f"no model {str(model)!r}: it is neither a bundle's folder nor one of the shipped "
        f"bundles ({', '.join(shipped_bundles())})"
    )


def _network(values: dict[str, Any]) -> Network:
    return Network(
        classes=tuple(str(name) for name in values["classes"]),
        preprocessing=Preprocessing.from_dict(values["preprocessing"]),
        temperature=float(values["temperature"]),
        variants=tuple(Variant(**variant) for variant in values["variants"]),
        operating_points=tuple(OperatingPoint(**point) for point in values["operating_points"]),
    )
