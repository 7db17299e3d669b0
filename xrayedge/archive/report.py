"""A report on an archive as one HTML page, without scripts or external resources."""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle import MANIFEST, ModelBundle
from ..errors import BundleError, ResultsError
from ..files import write_atomically
from ..manifest import Histogram, ReferenceHistograms
from ..station.drift import LARGE_CHANGE, LEAST_IMAGES, Stability, stability
from . import charts
from .style import STYLE
from .summary import BINS, MOST_FOLDERS, NONE, OTHERS, Groups, Summary, summarise

_MOST_ROWS = 24  # of folders; the largest
_STEPS = 120  # of the chart of the rate
_STATUSES = {"screened": "var(--good)", "rejected": "var(--odd)", "failed": "var(--bad)"}


def write_report(folder: Path, page: Path, model: str | Path | None = None) -> Summary:
    """Write a page about the archive in a folder.

    Parameters
    ----------
    folder
        Of the archive, finished or not.
    page
        The HTML file.
    model
        Name or folder of the bundle that screened it, whose reference the scores are compared
        with; by default the name in the archive.

    Returns
    -------
    What the page says.

    Raises
    ------
    ArchiveError
        There is no archive.
    ResultsError
        A part is damaged, no image has a row yet, or the page can't be written.
    BundleError
        The model that was given is not the one that screened it.
    """
    summary = summarise(folder)
    if not summary.runs:
        raise ResultsError(f"{folder}: no part is finished yet; there is nothing to report")
    reference, missing = _reference(summary, model)
    content = "".join(_page(summary, reference, missing))
    try:
        write_atomically(page, content.encode())
    except OSError as error:
        raise ResultsError(f"{page}: can't be written ({error.strerror})") from error
    return summary


def _reference(
    summary: Summary, model: str | Path | None
) -> tuple[ReferenceHistograms | None, str]:
    """What the model saw when it was made, or why there is nothing to compare with."""
    settings = summary.plan.settings
    name = f"{settings.model} {settings.version}"
    try:
        bundle = ModelBundle.load(model or settings.model)
        digest = hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()
    except BundleError:
        if model is not None:
            raise
        return None, f"The bundle {name} is not installed here; give its folder with --model."
    if digest != settings.bundle_sha256:
        if model is not None:
            raise BundleError(f"{model}: not the bundle that screened the archive, {name}")
        return None, f"A bundle other than {name} is installed; give its folder with --model."
    if bundle.reference is None:
        return None, f"The bundle {name} carries no reference."
    return bundle.reference, ""


def _page(summary: Summary, reference: ReferenceHistograms | None, missing: str) -> Iterator[str]:
    plan = summary.plan
    settings = plan.settings
    title = f"Archive of {plan.images:,} images"
    yield (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src "
        "'unsafe-inline'\"><meta name='color-scheme' content='light dark'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>Screened by {_text(settings.model)} {_text(settings.version)} "
        f"({settings.precision}, {settings.engine}) at the operating point "
        f"{_text(settings.operating_point)}. Research software, not a medical device.</p>"
    )
    yield _overview(summary)
    yield "<h2>What became of the images</h2>" + _outcomes(summary)
    yield "<h2>Scores</h2>" + _scores(summary, reference, missing)
    yield "<h2>By source folder</h2>" + _by_folder(summary, reference)
    yield (
        "<h2>By month</h2><p>The month in which the file was last changed. The rows hold no date "
        "of acquisition.</p>" + _by_month(summary, reference)
    )
    yield "<h2>Speed</h2>" + _speed(summary)
    yield "<h2>The slowest images</h2>" + _slowest(summary)
    yield "<h2>Images that crashed a process</h2>" + _crashed(summary)
    yield "<h2>What made it</h2>" + _made(summary) + "</main></body></html>\n"


def _overview(summary: Summary) -> str:
    plan = summary.plan
    rows = sum(summary.statuses.values())
    tiles = [
        ("with a row", f"{rows:,}", f"{rows / plan.images:.1%} of {plan.images:,}"),
        *(
            (status, f"{summary.statuses[status]:,}", f"{summary.statuses[status] / rows:.1%}")
            for status in _STATUSES
        ),
        ("read", _bytes(summary.bytes), f"{_bytes(summary.bytes / rows)} an image"),
    ]
    missing = plan.shards - len(summary.runs)
    note = (
        f"<p class='warn'>{missing:,} of {plan.shards:,} parts are not there yet. Run the same "
        "command again to finish.</p>"
        if missing
        else ""
    )
    cells = "".join(
        f"<div><b>{value}</b><span>{name}</span><small>{more}</small></div>"
        for name, value, more in tiles
    )
    return f"{note}<div class='tiles'>{cells}</div>"


def _outcomes(summary: Summary) -> str:
    rows = sum(summary.statuses.values())
    labels = summary.folders.labels.sum(axis=0)
    uncertain = int(summary.folders.images[:, 2].sum())
    screened = summary.statuses["screened"]
    bar = charts.split_bar(
        [(name, summary.statuses[name], colour) for name, colour in _STATUSES.items()]
    )
    lines = [
        (f"screened: {name}", int(count), f"var(--c{number % charts.COLOURS})")
        for number, (name, count) in enumerate(
            zip(summary.plan.settings.classes, labels, strict=True)
        )
    ]
    lines += [
        (f"{status}: {reason}", count, _STATUSES[status])
        for (status, reason), count in sorted(
            summary.reasons.items(), key=lambda one: (one[0][0] != "rejected", -one[1])
        )
    ]
    cells = [
        [f"<i style='background:{colour}'></i>{_text(name)}", f"{count:,}", f"{count / rows:.2%}"]
        for name, count, colour in lines
    ]
    share = f" ({uncertain / screened:.1%})" if screened else ""
    return (
        bar
        + _table(["outcome", "images", "share"], cells)
        + f"<p>{uncertain:,} screened images{share} are uncertain: the other classes together are "
        "more probable than the label.</p>"
    )


def _scores(summary: Summary, reference: ReferenceHistograms | None, missing: str) -> str:
    groups = summary.folders
    measures = [
        (f"probability of {name}", groups.histograms[:, column].sum(axis=0), column, name)
        for column, name in enumerate(summary.plan.settings.classes)
    ]
    measures.append(("frontal score", groups.frontal.sum(axis=0), charts.COLOURS - 1, ""))
    figures, rows = [], []
    for what, counts, colour, name in measures:
        expected = _expected(reference, name)
        images = int(counts.sum())
        figures.append(charts.histogram(counts, expected, colour, f"{what}, n = {images:,}"))
        found = None if expected is None else stability(expected, counts.tolist())
        rows.append([what, f"{images:,}", _index(found), f"{found.limit:.2f}" if found else "",
                     _verdict(found)])  # fmt: skip
    text = "<p>Shares of images by score."
    if reference is None:
        return f"{text} {_text(missing)}</p><div class='charts'>{''.join(figures)}</div>"
    return (
        f"{text} The line is the reference: the images that the model was validated on.</p>"
        f"<div class='charts'>{''.join(figures)}</div><h3>Drift</h3>"
        "<p>The population stability index against the reference. An index beyond the limit means "
        "that the images differ from those that the model was validated on. It does not say how "
        "accurate the model is on them.</p>"
        + _table(["measure", "images", "index", "limit", "verdict"], rows)
    )


def _by_folder(summary: Summary, reference: ReferenceHistograms | None) -> str:
    groups = summary.folders
    if OTHERS in groups.names:
        return (
            f"<p>There are more than {MOST_FOLDERS} folders below the one that all images are in. "
            "These are probably patients rather than places, so they are not shown; "
            "examples/archive_duckdb.py counts by any other part of the path.</p>"
        )
    names = sorted(groups.names, key=lambda name: -groups.images[groups.names[name], 0])
    more = len(names) - _MOST_ROWS
    note = "<p>The first folder below the one that all images are in. Its name is shown unchanged: "
    note += "check it before you share this page."
    note += f" The {_MOST_ROWS} largest of {len(names)}.</p>" if more > 0 else "</p>"
    return note + _groups_table("folder", names[:_MOST_ROWS], groups, summary, reference)


def _by_month(summary: Summary, reference: ReferenceHistograms | None) -> str:
    groups = summary.months
    names = sorted(groups.names)
    dated = [name for name in names if name not in (NONE, OTHERS)]
    table = _groups_table("month", names, groups, summary, reference)
    if len(dated) < 2:
        return table
    counts = [int(groups.images[groups.names[name], 0]) for name in dated]
    caption = f"images by month with images, {dated[0]} to {dated[-1]}; most: {max(counts):,}"
    if len(names) > _MOST_ROWS:
        table = f"<details><summary>All {len(names)} months</summary>{table}</details>"
    return charts.area(counts, caption) + table


def _groups_table(
    heading: str,
    names: Sequence[str],
    groups: Groups,
    summary: Summary,
    reference: ReferenceHistograms | None,
) -> str:
    classes = summary.plan.settings.classes
    rows = []
    for name in names:
        number = groups.names[name]
        images, screened, uncertain = (int(one) for one in groups.images[number])
        labels = groups.labels[number]
        cells = [_text(name), f"{images:,}", f"{1 - screened / images:.1%}"]
        for column, one in enumerate(classes):
            share = f"{labels[column] / screened:.1%}" if screened else "-"
            counts = groups.histograms[number, column]
            caption = f"probabilities of {one}"
            cells.append(f"{share}<br>{charts.small_histogram(counts, column, caption)}")
        cells.append(f"{uncertain / screened:.1%}" if screened else "-")
        if reference is not None:
            cells.append(_worst(groups, number, classes, reference))
        rows.append(cells)
    headings = [heading, "images", "not screened", *classes, "uncertain"]
    return _table(headings + (["drift"] if reference is not None else []), rows)


def _worst(
    groups: Groups, number: int, classes: Sequence[str], reference: ReferenceHistograms
) -> str:
    """The largest index of a group, and of what."""
    measures = [(name, groups.histograms[number, column]) for column, name in enumerate(classes)]
    measures.append(("", groups.frontal[number]))
    found = []
    for name, counts in measures:
        expected = _expected(reference, name)
        one = None if expected is None else stability(expected, counts.tolist())
        if one is not None:
            found.append((one.index, name or "frontal score", one))
    if not found:
        return f"<small>under {LEAST_IMAGES} images</small>"
    _, name, one = max(found, key=lambda entry: entry[0])
    return f"{_index(one)} <small>{_text(name)}</small> {_verdict(one)}"


def _expected(reference: ReferenceHistograms | None, name: str) -> tuple[int, ...] | None:
    """The reference's counts of a class's probability, or of the frontal score for no name."""
    if reference is None:
        return None
    found: Histogram = reference.probabilities[name] if name else reference.frontal_score
    return found.counts if len(found.counts) == BINS else None


def _index(found: Stability | None) -> str:
    return "" if found is None else f"{found.index:.2f}"


def _verdict(found: Stability | None) -> str:
    if found is None:
        return f"<small>under {LEAST_IMAGES} images</small>"
    if found.changed:
        return "<strong class='bad'>drift</strong>"
    return "some" if found.index > LARGE_CHANGE / 2.5 else "none"


def _speed(summary: Summary) -> str:
    starts, ends, images = (np.array(one) for one in zip(*summary.runs, strict=True))
    first, last = float(starts.min()), float(ends.max())
    span = max(last - first, 1e-3)
    worked = float((ends - starts).sum())
    each = [
        f"{name} {sums[0] / sums[1]:.1f} ms"
        for name, sums in summary.stages.items()
        if sums[1] and name != "total"
    ]
    hosts = summary.hosts
    rows = [
        ["first part begun", _time(first)],
        ["last part ended", _time(last)],
        ["images a second, pauses included", f"{images.sum() / span:,.1f}"],
        ["images a second of one worker", f"{images.sum() / max(worked, 1e-3):,.1f}"],
        ["workers at work on average", f"{worked / span:.1f}"],
        ["machines", f"{len(hosts)}, with {_range(list(hosts.values()))} images each"],
        ["on average per image", ", ".join(each) or "-"],
        ["half of the images within", _ms(summary.quantile(0.5))],
        ["99 % within", _ms(summary.quantile(0.99))],
        ["99.99 % within", _ms(summary.quantile(0.9999))],
    ]
    rates = _rates(starts, ends, images, first, span)
    caption = (
        f"images a second over the {_duration(span)} from first to last; most: {max(rates):,.0f}"
    )
    return charts.area(rates, caption) + _table(["", ""], [[*map(_text, row)] for row in rows])


def _rates(
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    images: NDArray[np.int64],
    first: float,
    span: float,
) -> list[float]:
    """Images a second in each of `_STEPS` equal times; a part's images are spread over its own."""
    edges = first + span * np.linspace(0.0, 1.0, _STEPS + 1)
    done = np.zeros(_STEPS + 1)
    for start, end, count in zip(starts, ends, images, strict=True):
        done += count * np.clip((edges - start) / max(end - start, 1e-3), 0.0, 1.0)
    return [float(one) for one in np.diff(done) / (span / _STEPS)]


def _slowest(summary: Summary) -> str:
    rows = [
        [
            f"part {one.part}, row {one.row}",
            _ms(one.total),
            _bytes(one.size) if one.size is not None else "-",
            ", ".join(f"{name} {_ms(value)}" for name, value in one.stages.items()),
        ]
        for one in summary.slowest
    ]
    return (
        "<p>By part and row; the first row is 0. File names are not shown, since they can hold "
        "patient data.</p>" + _table(["image", "took", "file", "stages"], rows, "long")
        if rows
        else "<p>No image was timed.</p>"
    )


def _crashed(summary: Summary) -> str:
    if not summary.crashed:
        return "<p>None.</p>"
    total = summary.reasons["failed", "crashed"]
    rows = [
        [
            f"part {one.part}, row {one.row}",
            _bytes(one.size) if one.size is not None else "-",
            _text(one.detail),
        ]
        for one in summary.crashed
    ]
    first = f"<p>The first {len(rows)} of {total:,}.</p>" if total > len(rows) else ""
    return first + _table(["image", "file", "what happened"], rows, "long")


def _made(summary: Summary) -> str:
    plan = summary.plan
    values = {
        **plan.settings.to_dict(),
        "classes": ", ".join(plan.settings.classes),
        "input": plan.input,
        "images of a shard": plan.shard_size,
        "page written": _time(datetime.now(timezone.utc).timestamp()),
    }
    rows = [
        [_text(name.replace("_", " ")), _text(str(value))]
        for name, value in values.items()
        if value is not None
    ]
    return _table(["", ""], rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "plain") -> str:
    header = "".join(f"<th scope='col'>{_text(one)}</th>" for one in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = f"<thead><tr>{header}</tr></thead>" if any(headings) else ""
    content = f"{head}<tbody>{body}</tbody>"
    return f"<div class='table' tabindex='0'><table class='{kind}'>{content}</table></div>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    raise AssertionError("the last unit takes any number")


def _ms(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.3g} ms"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
