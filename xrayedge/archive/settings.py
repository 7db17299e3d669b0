"""`Settings`: everything that the rows of an archive depend on; the same for all of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..bundle import MANIFEST, Precision
from ..engines import EngineName
from ..imaging import Limits
from ..machine import describe
from ..schema import decode
from ..screening import Screener
from ..site import SiteProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The packages whose version is the engine's, the installed one of them.
_ENGINE_PACKAGES: dict[EngineName, tuple[str, ...]] = {
    "litert": ("ai-edge-litert", "tflite-runtime"),
    "onnx": ("onnxruntime",),
}


@dataclass(frozen=True)
class Settings:
    """What made, or is to make, the rows.

    Parameters
    ----------
    model, version, precision, engine, operating_point
        As in every row.
    classes
        Of the model, in its order.
    bundle_sha256
        Of the bundle's ``manifest.json``, which names the sha256 of each of its files.
    site_sha256
        Of the site profile's operating point, where there is one.
    auto_orient
        Whether turned and inverted images are corrected.
    max_bytes, max_pixels
        Largest file and image accepted.
    xrayedge_version, engine_version
        Of the installed packages.
    """

    model: str
    version: str
    precision: Precision
    engine: EngineName
    operating_point: str
    classes: tuple[str, ...]
    bundle_sha256: str
    site_sha256: str | None
    auto_orient: bool
    max_bytes: int
    max_pixels: int
    xrayedge_version: str
    engine_version: str

    @classmethod
    def of(
        cls, screener: Screener, site: SiteProfile | None, limits: Limits, *, auto_orient: bool
    ) -> Settings:
        """The settings of a screener that was made with these arguments."""
        bundle = screener.bundle
        versions = describe().versions
        engine = [versions.get(name) for name in _ENGINE_PACKAGES[screener.engine]]
        return cls(
            model=bundle.name,
            version=bundle.version,
            precision=screener.precision,
            engine=screener.engine,
            operating_point=screener.operating_point,
            classes=tuple(bundle.classifier.classes),
            bundle_sha256=hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest(),
            site_sha256=None if site is None else _digest(asdict(site.point)),
            auto_orient=auto_orient,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
            xrayedge_version=versions["xrayedge"] or "unknown",
            engine_version=next(filter(None, engine), "unknown"),
        )

    @classmethod
    def from_dict(cls, values: Any) -> Settings:
        """Rebuild from `to_dict`; a `ValueError` says what is wrong."""
        return decode(cls, values, "settings")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "classes": list(self.classes)}

    def differences(self, other: Settings) -> Iterator[str]:
        """The differences from another's, in words: ``precision int8, now float16``."""
        mine, others = asdict(self), asdict(other)
        for name, value in mine.items():
            if value != others[name]:
                yield f"{name} {value}, now {others[name]}"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
