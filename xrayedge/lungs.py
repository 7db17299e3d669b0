"""Where the lungs are: a small network frames them, and the classifier sees that part alone.

Hospitals collimate and position differently. With the lungs always at the same place and scale, a
classifier depends less on the hospital: docs/hospitals.md has what that brings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import ModelBundle, read_checked
from .classifier import Classifier
from .engines import EngineName, preferred_engine
from .errors import BundleError
from .files import write_atomically
from .manifest import LungSettings, Variant
from .preprocessing import Window
from .schema import decode

#: A box of a smaller share of the width or the height is no pair of lungs: the whole image is used.
SMALLEST_SHARE = 0.3

#: In a folder of `LungFiles`, beside the files that it names.
DESCRIPTION = "lungs.json"


def edges(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Left, top, right and bottom as shares of the image, of the network's ``float [..., 4]``."""
    return np.asarray(0.5 * (1.0 + np.tanh(np.asarray(logits, np.float64) / 2.0)))


def window(box: Sequence[float], margin: float, height: int, width: int) -> Window:
    """The part of an image that the classifier sees.

    Parameters
    ----------
    box
        Left, top, right and bottom edge of the lungs, as shares of the image.
    margin
        To add on each side, as a share of the image.
    height, width
        Of the image, in pixels.
    """
    left, top, right, bottom = box
    if right - left < SMALLEST_SHARE or bottom - top < SMALLEST_SHARE:
        return Window.whole(height, width)
    return Window(
        _pixel(left - margin, width),
        _pixel(top - margin, height),
        _pixel(right + margin, width),
        _pixel(bottom + margin, height),
    )


def _pixel(share: float, side: int) -> int:
    """The nearest whole pixel inside the image, halves upwards."""
    return int(np.floor(min(max(share, 0.0), 1.0) * side + 0.5))


@dataclass(frozen=True)
class LungFiles:
    """The files of the network that frames the lungs, in a bundle or in a folder of their own.

    A run folder keeps a copy: its classifier has seen images framed by these very files.

    Parameters
    ----------
    folder
        Where the files are.
    settings
        What they are.
    """

    folder: Path
    settings: LungSettings

    name = "lungs"

    @classmethod
    def of(cls, bundle: ModelBundle) -> LungFiles | None:
        """A bundle's; ``None`` where its classifier sees whole images."""
        return None if bundle.lungs is None else cls(bundle.folder, bundle.lungs)

    @classmethod
    def load(cls, folder: Path) -> LungFiles:
        """Those of a folder with ``lungs.json``; `BundleError` where there is none, or no such."""
        path = folder / DESCRIPTION
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, decode(LungSettings, values, "lungs"))
        except FileNotFoundError as error:
            raise BundleError(f"{path}: there is no such file") from error
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path}: damaged ({error}); copy the folder again") from error

    @classmethod
    def find(cls, where: str | Path) -> LungFiles:
        """Those of a folder with ``lungs.json``, or of a bundle or the name of one.

        Raises
        ------
        BundleError
            There is neither, it is damaged, or the bundle has none.
        """
        if (Path(where) / DESCRIPTION).exists():
            return cls.load(Path(where))
        bundle = ModelBundle.load(where)
        found = cls.of(bundle)
        if found is None:
            raise BundleError(
                f"{bundle.name} has nothing that frames the lungs: it sees whole images"
            )
        return found

    def read(self, variant: Variant) -> bytes:
        """The bytes of a file, checked; see `ModelBundle.read`."""
        return read_checked(self.folder, variant)

    def digest(self) -> str:
        """A sha256 of all that the window depends on."""
        return hashlib.sha256(
            json.dumps(asdict(self.settings), sort_keys=True).encode()
        ).hexdigest()

    def copy_to(self, folder: Path) -> LungFiles:
        """Write the files and their description into a folder; the copy."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write_files(folder)
        copy = LungFiles(folder, self.settings)
        copy.write_description()
        return copy

    def write_files(self, folder: Path) -> None:
        """Write the files alone into a folder, such as a bundle's, whose manifest has the rest."""
        for variant in self.settings.network.variants:
            write_atomically(folder / variant.file, self.read(variant))

    def write_description(self) -> None:
        """Write ``lungs.json`` beside the files."""
        text = json.dumps(asdict(self.settings), indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / DESCRIPTION, text.encode())


@dataclass(frozen=True)
class LungFinder:
    """Finds the part of an image that the classifier sees.

    Parameters
    ----------
    margin
        See `LungSettings`.
    network
        Its network, loaded.
    """

    margin: float
    network: Classifier

    @classmethod
    def open(
        cls,
        files: LungFiles,
        engine: EngineName | None = None,
        threads: int = 1,
        providers: Sequence[str] = (),
    ) -> LungFinder:
        """Load the int8 file; see `Classifier.open`."""
        network = files.settings.network
        engine = engine or preferred_engine(network.formats("int8"))
        opened = Classifier.open(files, network, "int8", engine, threads, providers)
        return cls(files.settings.margin, opened)

    def find(self, pixels: NDArray[np.uint8], height: int, width: int) -> Window:
        """The window in an image of this height and width.

        ``pixels``, ``uint8 [H, W]``, may be a smaller copy of the image.

        Raises
        ------
        EngineError
            See `Classifier.classify`.
        """
        _, places = self.network.classify(self.network.preprocess(pixels))
        logits = places.mean(axis=(0, 1))
        return window(edges(logits).tolist(), self.margin, height, width)


def open_finder(
    files: LungFiles | None,
    engine: EngineName | None = None,
    threads: int = 1,
    providers: Sequence[str] = (),
) -> LungFinder | None:
    """`LungFinder.open`; ``None`` for a network that sees whole images."""
    return None if files is None else LungFinder.open(files, engine, threads, providers)


def window_for(finder: LungFinder | None, pixels: NDArray[np.uint8]) -> Window:
    """The part of ``uint8 [H, W]`` that a network sees: all of it without a finder."""
    if finder is None:
        return Window.whole(*pixels.shape)
    return finder.find(pixels, *pixels.shape)
