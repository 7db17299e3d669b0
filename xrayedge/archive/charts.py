"""Charts of a report as SVG and HTML, in colours that the page's style sheet names."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Colours of classes in the style sheet, ``--c0`` and so on.
COLOURS = 6

_WIDE, _HIGH = 240.0, 64.0  # of a histogram, in units of its view box
_AREA = (720.0, 120.0)


def histogram(
    counts: Sequence[int], reference: Sequence[int] | None, colour: int, caption: str
) -> str:
    """Bars of shares from 0 to 1, with the reference's shares as an outline.

    Parameters
    ----------
    counts
        Of equal bins.
    reference
        Of as many bins, if there is one.
    colour
        Number of the class.
    caption
        For those who don't see it, and beneath it.
    """
    shares = _shares(counts)
    others = None if reference is None else _shares(reference)
    top = max(shares.max(), 0.0 if others is None else others.max(), 1e-9)
    width = _WIDE / len(shares)
    bars = "".join(
        f"<rect x='{number * width + 0.5:.1f}' y='{_HIGH * (1 - share / top):.1f}' "
        f"width='{width - 1:.1f}' height='{_HIGH * share / top:.1f}'/>"
        for number, share in enumerate(shares)
        if share > 0
    )
    outline = ""
    if others is not None:
        steps = "".join(
            f"L{number * width:.1f},{_HIGH * (1 - share / top):.1f}H{(number + 1) * width:.1f}"
            for number, share in enumerate(others)
        )
        outline = f"<path class='reference' d='M{steps[1:]}'/>"
    return (
        f"<figure><svg viewBox='-1 -2 {_WIDE + 2:.0f} {_HIGH + 4:.0f}' role='img' "
        f"aria-label='{_text(caption)}' preserveAspectRatio='none'>"
        f"<g fill='var(--c{colour % COLOURS})'>{bars}</g>{outline}"
        f"<path class='axis' d='M0,{_HIGH:.0f}H{_WIDE:.0f}'/></svg>"
        f"<div class='ends'><span>0</span><span>1</span></div>"
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def small_histogram(counts: Sequence[int], colour: int, caption: str) -> str:
    """A histogram for a cell of a table."""
    shares = _shares(counts)
    top = max(shares.max(), 1e-9)
    bars = "".join(
        f"<rect x='{4 * number}' y='{20 * (1 - share / top):.1f}' width='3' "
        f"height='{20 * share / top:.1f}'/>"
        for number, share in enumerate(shares)
        if share > 0
    )
    return (
        f"<svg class='small' viewBox='0 0 {4 * len(shares)} 20' role='img' "
        f"aria-label='{_text(caption)}'><g fill='var(--c{colour % COLOURS})'>{bars}</g></svg>"
    )


def split_bar(parts: Sequence[tuple[str, int, str]]) -> str:
    """One bar that its parts share.

    Parameters
    ----------
    parts
        Name, count, and CSS colour of each.
    """
    total = sum(count for _, count, _ in parts) or 1
    said = ", ".join(f"{name} {count / total:.1%}" for name, count, _ in parts)
    pieces = "".join(
        f"<span style='width:{100 * count / total:.2f}%;background:{colour}'></span>"
        for _, count, colour in parts
        if count
    )
    return f"<div class='split' role='img' aria-label='{_text(said)}'>{pieces}</div>"


def area(values: Sequence[float], caption: str) -> str:
    """A filled line of values at equal distances, the largest at the top."""
    wide, high = _AREA
    numbers = np.asarray(values, np.float64)
    top = max(numbers.max(), 1e-9)
    step = wide / len(numbers)
    line = "".join(
        f"L{number * step:.1f},{high * (1 - value / top):.1f}H{(number + 1) * step:.1f}"
        for number, value in enumerate(numbers)
    )
    return (
        f"<figure><svg class='area' viewBox='-1 -2 {wide + 2:.0f} {high + 4:.0f}' role='img' "
        f"aria-label='{_text(caption)}' preserveAspectRatio='none'>"
        f"<path d='M0,{high:.0f}{line}V{high:.0f}Z' fill='var(--plain)'/></svg>"
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(counts, np.float64)
    return np.asarray(numbers / max(numbers.sum(), 1.0))


def _text(text: str) -> str:
    return html.escape(text, quote=True)
