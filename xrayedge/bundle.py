"""A model bundle: a folder with `manifest.json` and the model files that it names.

A model file is read once, its sha256 is checked on those very bytes, and the engine loads them.
What a manifest says is not trusted: it can name plain files of its own folder and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from .errors import BundleError
from .files import write_atomically
from .installed import installed_folder
from .manifest import (
    HEALTHY,
    FrontalGate,
    GoldenVector,
    Histogram,
    Interval,
    LungSettings,
    Manifest,
    ModelFormat,
    Network,
    OpacitySettings,
    OperatingPoint,
    Precision,
    ReferenceHistograms,
    ValCurve,
    Variant,
)
from .schema import decode
from .shipped import SEPARATE, SHIPPED, shipped_folder, shipped_names

__all__ = [
    "DEFAULT_MODEL",
    "FORMAT_VERSION",
    "HEALTHY",
    "MANIFEST",
    "SHIPPED",
    "FrontalGate",
    "GoldenVector",
    "Histogram",
    "Interval",
    "LungSettings",
    "ModelBundle",
    "ModelFormat",
    "Network",
    "OpacitySettings",
    "OperatingPoint",
    "Precision",
    "ReferenceHistograms",
    "ValCurve",
    "Variant",
    "shipped_bundles",
]

#: Format 2 added opacities, what operating points promise, the val curve and the histograms;
#: format 3 adds the network that frames the lungs.
FORMAT_VERSION = 3
_READABLE_FORMATS = (1, 2, FORMAT_VERSION)
#: The first release that reads this format; a manifest says so to older ones.
NEEDS_RELEASE = "0.2.0"
MANIFEST = "manifest.json"

#: The shipped bundle that is used where none is named.
DEFAULT_MODEL = "vgg16-edge"

#: A manifest has a few kilobytes; anything larger is not a manifest.
_MAX_MANIFEST_BYTES = 4_000_000
_RELEASE = re.compile(r"\d+(\.\d+)*")
_REMEDY = "install or copy the bundle again"


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
        Datasets, recipes, seeds and versions that made it.
    val_curve
        What a stricter or laxer threshold costs; ``None`` in bundles of format 1.
    reference
        How its inputs and scores spread where it was made; ``None`` in bundles of format 1.
    lungs
        What frames the lungs; ``None``: the classifier sees the whole image.
    """

    folder: Path
    name: str
    version: str
    classifier: Network
    frontal: FrontalGate
    provenance: dict[str, Any]
    val_curve: ValCurve | None = None
    reference: ReferenceHistograms | None = None
    lungs: LungSettings | None = None

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
            values = json.loads(
                _read_plain(path, _MAX_MANIFEST_BYTES), parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path}: can't be read ({error}); {_REMEDY}") from error
        _check_format(path, values)
        described = {
            key: value
            for key, value in values.items()
            if key not in ("format_version", "needs_release")
        }
        try:
            manifest = decode(Manifest, described, "manifest")
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{path}: damaged manifest ({error}); {_REMEDY}") from error
        bundle = cls(folder, **vars(manifest))
        bundle._check_files()
        return bundle

    def networks(self) -> Iterator[Network]:
        """The classifier, the frontal check, and what frames the lungs where there is one."""
        yield self.classifier
        yield self.frontal.network
        if self.lungs is not None:
            yield self.lungs.network

    def variants(self) -> Iterator[Variant]:
        """Every file that the manifest names, in the order of `networks`."""
        for network in self.networks():
            yield from network.variants

    def digest(self) -> str:
        """A sha256 of all that scores depend on, for what is fitted to them; see `site`."""
        network = self.classifier
        made_of = {
            "classes": network.classes,
            "preprocessing": network.preprocessing.to_dict(),
            "temperature": network.temperature,
            "weights": network.operating_points[0].weights,
            "files": sorted(variant.sha256 for variant in network.variants),
        }
        if self.lungs is not None:
            finder = self.lungs.network
            made_of["lungs"] = {
                "preprocessing": finder.preprocessing.to_dict(),
                "margin": self.lungs.margin,
                "files": sorted(variant.sha256 for variant in finder.variants),
            }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def formats(self, precision: Precision) -> frozenset[ModelFormat]:
        """The formats with all that screens: the classifier in a precision, the others in int8."""
        _, *others = self.networks()
        found = self.classifier.formats(precision)
        return found.intersection(*(network.formats("int8") for network in others))

    def read(self, variant: Variant) -> bytes:
        """The bytes of a model file, checked.

        Raises
        ------
        BundleError
            The manifest does not name the file, it is missing, a link or no plain file, or its
            sha256 is not the manifest's.
        """
        if variant not in self.variants():
            raise BundleError(f"{self.folder / variant.file}: the manifest names no such file")
        return read_checked(self.folder, variant)

    def write_manifest(self) -> None:
        """Write ``manifest.json`` into the folder, atomically, in the present format.

        Raises
        ------
        ValueError
            `load` would refuse it.
        """
        described = {key: value for key, value in vars(self).items() if key != "folder"}
        values = {
            "format_version": FORMAT_VERSION,
            "needs_release": NEEDS_RELEASE,
            **asdict(Manifest(**described)),
        }
        text = json.dumps(values, indent=2, allow_nan=False)
        write_atomically(self.folder / MANIFEST, (text + "\n").encode())

    def _check_files(self) -> None:
        """Check that the folder holds nothing that the manifest does not name.

        Files that are not named are not checked, so they must not lie beside files that are.
        """
        named = {variant.file for variant in self.variants()}
        for path in sorted(self.folder.iterdir()):
            if path.name not in (MANIFEST, *named) and not path.name.startswith("."):
                raise BundleError(f"{path}: the manifest names no such file; remove it")


def read_checked(folder: Path, variant: Variant) -> bytes:
    """The bytes of a model file; `BundleError` unless they have the variant's sha256."""
    path = folder / variant.file
    content = _read_plain(path, variant.size_bytes)
    if hashlib.sha256(content).hexdigest() != variant.sha256:
        raise BundleError(
            f"{path}: not the file that the manifest describes (sha256 differs); {_REMEDY}"
        )
    return content


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with installed packages, sorted."""
    return shipped_names()


def _find(model: str | Path) -> Path:
    if isinstance(model, str):
        installed = installed_folder(model)
        if installed is not None:
            return installed
        shipped = shipped_folder(model)
        if shipped is not None:
            return shipped
    folder = Path(model)
    if (folder / MANIFEST).is_file():
        return folder
    remedy = f"; {SEPARATE[str(model)]}" if str(model) in SEPARATE else ""
    raise BundleError(
        f"no model {str(model)!r}: it is neither a bundle's folder nor installed nor one of the "
        f"shipped bundles ({', '.join(shipped_bundles())}){remedy}"
    )


def _read_plain(path: Path, largest: int) -> bytes:
    """The bytes of a regular file of at most ``largest`` bytes; links are never followed."""
    try:
        # Non-blocking, because a named pipe would wait for a writer for ever.
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
    if isinstance(found, int) and found in _READABLE_FORMATS:
        return
    release = str(values.get("needs_release", "")) if isinstance(values, dict) else ""
    needed = f"'xrayedge>={release}'" if _RELEASE.fullmatch(release) else "a newer xrayedge"
    raise BundleError(
        f"{path}: bundle format {found!r}; this xrayedge reads formats up to {FORMAT_VERSION}: "
        f"pip install --upgrade {needed}"
        if isinstance(found, int) and found > FORMAT_VERSION
        else f"{path}: not a bundle's manifest (format {found!r}); {_REMEDY}"
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
