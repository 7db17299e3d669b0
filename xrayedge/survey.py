"""Screen a hospital's images to fit its `SiteProfile`: each is read once, copies count once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import reference
from .errors import ImageError
from .imaging import Limits, read
from .screening import Screener
from .site import SiteProfile, SiteScores, check, fit

#: Where the frontal check refuses at least this share, the folder holds something else.
_MANY_REFUSED = 0.5

#: Wraps what is gone through, to show progress.
Progress = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, eq=False)
class Survey:
    """What screening some images of one kind gave.

    Parameters
    ----------
    scores
        Of those that were screened.
    rejected
        Images that the frontal check or their size kept out.
    failed
        Images that could not be read, each with the reason.
    copies
        Images whose very pixels came before.
    """

    scores: SiteScores
    rejected: int
    failed: tuple[str, ...]
    copies: int

    def sentence(self) -> str:
        """How many images were used, for a person."""
        left_out = {"refused": self.rejected, "unreadable": len(self.failed), "copies": self.copies}
        rest = ", ".join(f"{count} {why}" for why, count in left_out.items() if count)
        return f"{len(self.scores.probabilities)} images used" + (f" ({rest})" if rest else "")


def calibrate(
    screener: Screener,
    name: str,
    healthy: Sequence[Path],
    ill: Sequence[Path] = (),
    *,
    specificity: float = 0.9,
    limits: Limits | None = None,
    progress: Progress = iter,
) -> tuple[SiteProfile, Survey, Survey]:
    """Fit the operating point of a site to images of people whom it knows.

    Parameters
    ----------
    screener
        With the model to fit it for.
    name
        Of the site.
    healthy
        Files with images of healthy people; 30 are better than 10.
    ill
        Files with images of ill people, to measure what the point costs; may be none.
    specificity
        Share of the healthy to be called healthy.
    limits
        Largest file and image accepted.
    progress
        Called on each list of files, to go through it.

    Returns
    -------
    The profile, and what came of the healthy and of the ill.

    Raises
    ------
    SiteError
        Too few usable images, or a model that has no class ``healthy``.
    """
    network = screener.bundle.classifier
    check(network, specificity)
    limits = limits or Limits()
    well = survey(screener, healthy, limits, progress)
    unwell = survey(screener, ill, limits, progress)
    concerns = []
    seen = len(well.scores.probabilities) + well.rejected
    if seen and well.rejected >= _MANY_REFUSED * seen:
        concerns.append(
            f"the frontal check refuses {well.rejected} of {seen} images: are these upright "
            "frontal chest radiographs?"
        )
    profile = fit(
        screener.bundle,
        name,
        well.scores,
        specificity=specificity,
        ill=unwell.scores.probabilities if len(unwell.scores.probabilities) else None,
        concerns=concerns,
    )
    return profile, well, unwell


def survey(
    screener: Screener, images: Sequence[Path], limits: Limits, progress: Progress = iter
) -> Survey:
    """Screen images; what can't be used is counted and left out."""
    classes = screener.bundle.classifier.classes
    probabilities, frontal, greys, failed = [], [], [], []
    rejected = copies = 0
    seen: set[bytes] = set()
    for path in progress(images):
        try:
            pixels = read(path, limits).pixels
        except ImageError as error:
            failed.append(str(error))
            continue
        digest = hashlib.sha256(pixels.tobytes()).digest()
        if digest in seen:
            copies += 1
            continue
        seen.add(digest)
        screening = screener.screen(pixels)
        if screening.probabilities is None or screening.frontal_score is None:
            rejected += 1
            continue
        probabilities.append([screening.probabilities[name] for name in classes])
        frontal.append(screening.frontal_score)
        greys.append(reference.grey(pixels))
    return Survey(
        scores=SiteScores(
            np.array(probabilities, np.float64).reshape(-1, len(classes)),
            np.array(frontal, np.float64),
            np.array(greys, np.float64).reshape(-1, 2),
        ),
        rejected=rejected,
        failed=tuple(failed),
        copies=copies,
    )
