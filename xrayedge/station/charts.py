"""The monitor's charts as SVG, without scripts or styles, so that any CSP allows them.

Everything is drawn in ``currentColor``, the page's colour of text, light or dark; two series differ
by filling and outline, not by colour. Title and description say in words what is to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from .judging import Compared

#: Of the latency, that are told.
PERCENTILES = (50, 95, 99)

_WIDTH, _HEIGHT = 360, 200
_LEFT, _TOP, _RIGHT, _BOTTOM = 34, 30, 8, 24
_TEXT = 11  # height of letters
_FILL = 0.35  # opacity of filled bars
_Box = tuple[float, float, float, float]


@dataclass
class _Drawing:
    """An SVG that is being drawn; `finish` gives its text."""

    name: str
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, content: str | None = None, **attributes: Any) -> None:
        said = "".join(
            f" {name.replace('_', '-')}={quoteattr(_short(value))}"
            for name, value in attributes.items()
        )
        self.parts.append(
            f"<{tag}{said}/>" if content is None else f"<{tag}{said}>{_clean(content)}</{tag}>"
        )

    def text(self, x: float, y: float, content: str, anchor: str = "start") -> None:
        self.add("text", content, x=x, y=y, text_anchor=anchor)

    def finish(self, title: str, description: str) -> str:
        ids = f"{self.name}-title", f"{self.name}-desc"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
            f' aria-labelledby="{" ".join(ids)}" fill="currentColor" font-family="sans-serif"'
            f' font-size="{_TEXT}"><title id="{ids[0]}">{_clean(title)}</title>'
            f'<desc id="{ids[1]}">{_clean(description)}</desc>{"".join(self.parts)}</svg>'
        )


def compared(one: Compared) -> str:
    """A unit's recent images, filled, and its first ones, outlined; dotted those of the bundle."""
    drawing = _Drawing(f"chart-{one.name}")
    series = [("last images", one.recent), ("first images", one.reference)]
    if one.bundle is not None:
        series.append(("where the model was made", one.bundle))
    shares = [_shares(counts) for _, counts in series]
    top = max([0.05, *(share for of in shares for share in of)])
    _frame(drawing, top)
    columns = len(one.recent)
    boxes = [_boxes(of, top, columns) for of in shares]
    for x, y, width, height in boxes[0]:
        drawing.add("rect", x=x, y=y, width=width, height=height, fill_opacity=_FILL)
    _outline(drawing, boxes[1], dashes=None)
    if one.bundle is not None:
        _outline(drawing, boxes[2], dashes="2 3")
    if one.labels:
        for label, (x, _, width, _) in zip(one.labels, boxes[0], strict=True):
            drawing.text(x + width / 2, _HEIGHT - 8, label, "middle")
    else:
        low, high = one.edges[0], one.edges[-1]
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
            x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
            drawing.text(x, _HEIGHT - 8, _short(low + share * (high - low)), anchor)
    _legend(drawing, with_bundle=one.bundle is not None)
    spoken = [f"{name}: {_spoken(counts, one)}" for name, counts in series]
    return drawing.finish(one.title, ". ".join([*spoken, _verdict(one)]))


def latency(bins: Sequence[int], edges: Sequence[float], days: int) -> str:
    """How long screening took, on a logarithmic axis."""
    drawing = _Drawing("chart-latency")
    shares = _shares(bins)
    top = max([0.05, *shares])
    _frame(drawing, top)
    for x, y, width, height in _boxes(shares, top, len(bins)):
        drawing.add("rect", x=x, y=y, width=width, height=height, fill_opacity=_FILL)
    step = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    anchors = {0: "start", len(edges) - 1: "end"}
    for number in range(0, len(edges), 16):  # from one label to the next a factor of 16
        x = _LEFT + (number + 1) * step
        drawing.text(x, _HEIGHT - 8, _milliseconds(edges[number]), anchors.get(number, "middle"))
    if not sum(bins):
        return drawing.finish("Time to screen an image", "No image was screened.")
    said = ", ".join(
        f"{one} % within {_milliseconds(percentile(bins, edges, one / 100.0) or 0.0)}"
        for one in PERCENTILES
    )
    return drawing.finish(
        "Time to screen an image", f"{sum(bins)} images of the last {days} days: {said}."
    )


def days(counts: Mapping[str, tuple[int, int]]) -> str:
    """Images of each day, all of them outlined and those that were screened filled."""
    drawing = _Drawing("chart-days")
    top = max([1, *(images for images, _ in counts.values())])
    _frame(drawing, float(top), of_shares=False)
    for values, filled in ((0, False), (1, True)):
        heights = [pair[values] for pair in counts.values()]
        for x, y, width, height in _boxes(heights, float(top), max(len(counts), 1)):
            look = {"fill_opacity": _FILL} if filled else {"fill": "none", "stroke": "currentColor"}
            drawing.add("rect", x=x, y=y, width=width, height=height, **look)
    listed = list(counts)
    if listed:
        drawing.text(_LEFT, _HEIGHT - 8, listed[0])
    if len(listed) > 1:
        drawing.text(_WIDTH - _RIGHT, _HEIGHT - 8, listed[-1], "end")
    drawing.text(_LEFT, 12, "filled: screened; outline: all")
    said = [f"{day}: {images}, {images - well} refused" for day, (images, well) in counts.items()]
    return drawing.finish("Images a day", ". ".join(said) or "No images yet.")


def percentile(bins: Sequence[int], edges: Sequence[float], share: float) -> float | None:
    """The value below which a share of the images lies, interpolated logarithmically in its bin.

    ``edges`` are upper ones; the first bin has no lower and the last no upper one, and give theirs.
    """
    wanted = share * sum(bins)
    if not wanted:
        return None
    below = 0
    for number, count in enumerate(bins):
        if count and below + count >= wanted:
            low = edges[max(number - 1, 0)]
            high = edges[min(number, len(edges) - 1)]
            return round(float(low * (high / low) ** ((wanted - below) / count)), 3)
        below += count
    return edges[-1]


def _verdict(one: Compared) -> str:
    if one.change is None:
        return "Too few images to compare."
    said = "changed" if one.change.changed else "no change"
    return (
        f"Population stability index {one.change.index:.2f}, limit {one.change.limit:.2f}: {said}."
    )


def _spoken(counts: Sequence[int], one: Compared) -> str:
    images = sum(counts)
    if not images:
        return "no images"
    if one.labels:
        parts = (f"{n} {label}" for label, n in zip(one.labels, counts, strict=True))
        return ", ".join(parts)
    low, middle, high = (_short(_quantile(counts, one.edges, at)) for at in (0.1, 0.5, 0.9))
    return f"{images} images, half of them up to {middle}, most from {low} to {high}"


def _quantile(counts: Sequence[int], edges: Sequence[float], share: float) -> float:
    wanted, below = share * sum(counts), 0
    for number, count in enumerate(counts):
        if count and below + count >= wanted:
            low, high = edges[number], edges[number + 1]
            return float(low + (high - low) * (wanted - below) / count)
        below += count
    return float(edges[-1])


def _frame(drawing: _Drawing, top: float, *, of_shares: bool = True) -> None:
    bottom = _HEIGHT - _BOTTOM
    drawing.add(
        "path", d=f"M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}", fill="none", stroke="currentColor"
    )
    said = f"{top:.0%}" if of_shares else _short(top)
    drawing.text(_LEFT - 4, _TOP + 8, said, "end")
    drawing.text(_LEFT - 4, bottom, "0", "end")


def _legend(drawing: _Drawing, *, with_bundle: bool) -> None:
    said = "filled: last; line: first"
    drawing.text(_LEFT, 12, f"{said}; dotted: the model's" if with_bundle else said)


def _boxes(values: Sequence[float], top: float, columns: int) -> list[_Box]:
    step = (_WIDTH - _LEFT - _RIGHT) / columns
    tall = (_HEIGHT - _BOTTOM - _TOP) / top
    return [
        (_LEFT + number * step, _HEIGHT - _BOTTOM - value * tall, step, value * tall)
        for number, value in enumerate(values)
    ]


def _outline(drawing: _Drawing, boxes: Sequence[_Box], dashes: str | None) -> None:
    path = [f"M{_short(boxes[0][0])} {_HEIGHT - _BOTTOM}"]
    path += [f"V{_short(y)}H{_short(x + width)}" for x, y, width, _ in boxes]
    look = {} if dashes is None else {"stroke_dasharray": dashes}
    drawing.add("path", d="".join(path), fill="none", stroke="currentColor", **look)


def _shares(counts: Sequence[int]) -> list[float]:
    images = sum(counts)
    return [count / images if images else 0.0 for count in counts]


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value < 1000.0 else f"{value / 1000.0:.1f} s"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clean(text: str) -> str:
    """Text for XML, which forbids control characters; a unit's name comes from a file."""
    return escape("".join(one if one.isprintable() else " " for one in text))
