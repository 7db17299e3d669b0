"""Whether a unit's images changed, and what an operator is told.

Each unit's images are compared with its own first ones, `records.REFERENCE_IMAGES` of them. The
bundle's histograms would be a worse reference: they pool many hospitals, and no single one spreads
as they do. A note says where a unit differs from them.

The message is "images changed". It says nothing about accuracy, which no station can know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..bundle import ModelBundle
from ..manifest import ReferenceHistograms
from .config import ScreenConfig
from .drift import LEAST_IMAGES, Stability, stability
from .measures import OF_THE_STATION, OUTCOME, OUTCOMES, carried, measures
from .records import REFERENCE_IMAGES, Unit

_REFUSED = ("screened", "refused")  # what is compared of the outcomes


@dataclass(frozen=True)
class Reference:
    """What the model provides to compare with.

    Parameters
    ----------
    model
        Name and version.
    classes
        Of the classifier.
    bundle
        Histograms that the bundle carries; `None` where it has none.
    """

    model: str
    classes: tuple[str, ...]
    bundle: ReferenceHistograms | None


def reference_of(config: ScreenConfig) -> Reference:
    """The reference of the model that is installed now.

    Raises
    ------
    BundleError
        The model can't be read.
    """
    bundle = ModelBundle.load(config.model)
    return Reference(f"{bundle.name} {bundle.version}", bundle.classifier.classes, bundle.reference)


@dataclass(frozen=True)
class Compared:
    """One measure of one unit.

    Parameters
    ----------
    name, title
        See `measures.Measure`.
    labels
        Of the bins where they are no numbers.
    edges
        Of the bins, one more than there are bins; empty where they have labels.
    reference, recent
        Images in each bin, of the unit's first ones and of its last.
    bundle
        Images in each bin where the model was made; `None` where the bundle does not tell.
    change
        From the reference to the recent images; `None`: too few images.
    from_bundle
        From the bundle's images to the unit's, its first and last together.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    reference: tuple[int, ...]
    recent: tuple[int, ...]
    bundle: tuple[int, ...] | None
    change: Stability | None
    from_bundle: Stability | None


def compare(unit: Unit, reference: Reference) -> list[Compared]:
    """Every measure that tells of a unit's images, its outcomes last."""
    found = []
    for measure in measures(reference.classes):
        bins = len(measure.edges) - 1
        first, last = (_counts(side, measure.name, bins) for side in (unit.reference, unit.recent))
        counts = carried(reference.bundle, measure)
        found.append(
            Compared(
                name=measure.name,
                title=measure.title,
                labels=(),
                edges=tuple(measure.edges),
                reference=first,
                recent=last,
                bundle=None if counts is None else tuple(counts),
                change=stability(first, last),
                from_bundle=None
                if counts is None
                else stability(counts, [a + b for a, b in zip(first, last, strict=True)]),
            )
        )
    return [*found, _outcomes(unit)]


def _outcomes(unit: Unit) -> Compared:
    sides = []
    for rows in (unit.reference, unit.recent):
        counts = _counts(rows, OUTCOME, len(OUTCOMES))
        ours = sum(counts[OUTCOMES.index(reason)] for reason in OF_THE_STATION)
        sides.append((counts[0], sum(counts[1:]) - ours))
    first, last = sides
    return Compared(
        name=OUTCOME,
        title="Images refused",
        labels=_REFUSED,
        edges=(),
        reference=first,
        recent=last,
        bundle=None,
        change=stability(first, last, join=False),
        from_bundle=None,
    )


def _counts(rows: Iterable[Mapping[str, int]], name: str, bins: int) -> tuple[int, ...]:
    counts = [0] * bins
    for row in rows:
        number = row.get(name)
        if number is not None and 0 <= number < bins:
            counts[number] += 1
    return tuple(counts)


def state_of(unit: Unit, compared: Sequence[Compared]) -> str:
    """``learning``, ``waiting``, ``steady`` or ``changed``."""
    if any(one.change is not None and one.change.changed for one in compared):
        return "changed"
    if len(unit.reference) < REFERENCE_IMAGES:
        return "learning"
    return "waiting" if len(unit.recent) < LEAST_IMAGES else "steady"


def sentence(unit: Unit, compared: Sequence[Compared]) -> str | None:
    """What an operator is told if a unit's images changed."""
    changed = [one.title[0].lower() + one.title[1:] for one in compared if has_changed(one)]
    if not changed:
        return None
    return (
        f"Images changed: the last {len(unit.recent)} images of {unit.name} differ from the "
        f"{len(unit.reference)} that they are compared with, in {_listed(changed)}."
    )


#: What an operator reads in each state, after the sentence.
ADVICE = {
    "learning": "The station is learning what the images of this unit look like.",
    "waiting": "The station has learned what the images of this unit look like. It compares them "
    f"when {LEAST_IMAGES} more have come.",
    "steady": "The last images look as the first ones did.",
    "changed": "Look at some of the newest images beside older ones. Was the unit, its detector, "
    "its exposure or its export changed? Do other patients come? Mend what is wrong. If the images "
    "are as they should be, take them as the new reference. Scores may mean something else on "
    "changed images; whether results are still right, only a comparison with diagnoses can say.",
}


def has_changed(one: Compared) -> bool:
    """Whether the recent images differ from the first ones in this measure."""
    return one.change is not None and one.change.changed


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def note(compared: Sequence[Compared]) -> str | None:
    """How a unit's images differ from those that the model was made from; `None`: not much."""
    if all(one.bundle is None for one in compared):
        return "no reference: the model does not tell what its own images looked like."
    unlike = [one for one in compared if one.from_bundle is not None and one.from_bundle.changed]
    if not unlike:
        return None
    titles = _listed([one.title[0].lower() + one.title[1:] for one in unlike])
    return (
        f"Unlike the images that the model was made from in {titles}. That is usual at a new "
        "hospital; the command xrayedge calibrate fits the model to it."
    )
