"""The models that come with Python packages: the default one with this, others with their own.

A distribution that ships models names each in the entry point group `GROUP`: its name is the
model's, its value the package in whose folder of that name the bundle lies. Nothing of the package
is imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

GROUP = "xrayedge.models"
#: What this package ships itself.
SHIPPED = Path(__file__).parent / "models"
#: Models of this project that have a distribution of their own, and what installs it.
SEPARATE = {"vgg16": "pip install 'xrayedge[vgg16]'"}

_MANIFEST = "manifest.json"


def shipped_folder(name: str) -> Path | None:
    """The bundle of this name that some package ships; ``None`` where none does."""
    if name in _bundles_in(SHIPPED):  # first, because reading what is installed takes time
        return SHIPPED / name
    return _from_distributions().get(name)


def shipped_names() -> tuple[str, ...]:
    """Names of the bundles that packages ship, sorted."""
    return tuple(sorted({*_bundles_in(SHIPPED), *_from_distributions()}))


def _bundles_in(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob(f"*/{_MANIFEST}")}


def _from_distributions() -> dict[str, Path]:
    from importlib.metadata import entry_points  # it doubles the time of `import xrayedge`

    found = {}
    for entry in entry_points(group=GROUP):
        package = find_spec(entry.module.partition(".")[0])
        for folder in (package.submodule_search_locations if package else None) or ():
            if entry.name in _bundles_in(Path(folder)):
                found[entry.name] = Path(folder) / entry.name
    return found
