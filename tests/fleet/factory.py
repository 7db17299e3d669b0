"""What a manufacturer makes, small enough for tests."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from xrayedge.bundle import SHIPPED, ModelBundle
from xrayedge.fleet import SecretKey, sign

NAME = "chest"


def make_bundle(folder: Path, version: str, name: str = NAME) -> Path:
    """The edge model's int8 files as a bundle of its own: 1 MB, and it runs."""
    folder.mkdir(parents=True)
    shipped = ModelBundle.load(SHIPPED / "vgg16-edge")

    def lightest(network):
        return replace(network, variants=(network.variant("tflite", "int8"),))

    bundle = replace(
        shipped,
        folder=folder,
        name=name,
        version=version,
        classifier=lightest(shipped.classifier),
        frontal=replace(shipped.frontal, network=lightest(shipped.frontal.network)),
    )
    for variant in bundle.variants():
        shutil.copy(shipped.folder / variant.file, folder / variant.file)
    bundle.write_manifest()
    return folder


class Manufacturer:
    """A root key in the safe, a key of the release desk, and what was released."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.desk = SecretKey.create(), SecretKey.create()

    def release(
        self, version: str, serial: int, key: SecretKey | None = None, name: str = NAME
    ) -> Path:
        bundle = self.folder / "bundles" / f"{name}-{version}"
        if not bundle.exists():
            make_bundle(bundle, version, name)
        out = self.folder / f"{name}-{version}-{serial}.xeb"
        return sign(bundle, key or self.root, out, serial=serial)


def version_in_use(name: str = NAME) -> str:
    """What a program gets that loads the model by its name."""
    bundle = ModelBundle.load(name)
    for variant in bundle.variants():
        bundle.read(variant)
    return bundle.version
