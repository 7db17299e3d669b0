"""An evaluation as a folder to read: report.json, PNG charts, and one self-contained HTML page.

The page shows radiographs by their number in the data, never by file name: names can hold
patient data.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay

from ..data import HEALTHY, Box, read_sample
from ..files import write_atomically
from .bootstrap import Metric
from .classes import Evaluation
from .judging import Judged
from .metrics import calibration_bins

#: Of the parts of a column: what tells most in few columns.
_OF_PARTS = ("accuracy", "recall/", "auc/", "ill_not_called")
_RIGHT_PER_CLASS, _MOST_WRONG, _COLUMNS = 2, 6, 6
_RIGHT_COLOUR, _WRONG_COLOUR = "#1a7f37", "#c0392b"
_OPACITY_COLOUR, _MARKED_COLOUR = "#00c2d1", "#ffd400"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;"
    "overflow-wrap:anywhere}"
    # A table that is wider than the window scrolls by itself, not with the page.
    ".table{overflow-x:auto;margin:1em 0}table{border-collapse:collapse}"
    "td,th{padding:.2em .6em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}"
    ".parts{font-size:13px}.parts td{white-space:nowrap}.parts td:first-child{white-space:normal;"
    "min-width:11em}.parts th{min-width:4.5em}"
    "small{color:#555}img{max-width:100%}"
)


def write_report(
    folder: Path,
    title: str,
    judged: Judged,
    evaluation: Evaluation,
    parts: dict[str, dict[str, Evaluation]],
) -> None:
    """Write the report; each file replaces its older self as a whole.

    Parameters
    ----------
    folder
        Where to; made if it is missing.
    title
        What was evaluated on what.
    judged
        The images and their scores.
    evaluation
        Metrics of all images.
    parts
        By column, then by its value: metrics of groups of images.
    """
    charts = {
        "images": (_images_caption(judged), _images(judged)),
        "equalisation": ("Before and after equalisation", _equalisation(judged)),
    }
    rows = np.flatnonzero(judged.labels >= 0)
    if len(rows):
        labels, scores = judged.labels[rows], judged.scores[rows]
        charts = {
            "confusion": ("Confusion matrix", confusion_figure(labels, scores, judged.classes)),
            "roc": (
                "ROC of each class against the rest",
                roc_figure(labels, scores, judged.classes),
            ),
            "reliability": ("Reliability", _reliability(labels, scores)),
            **charts,
        }
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_metrics_table(evaluation.metrics | evaluation.localisation)]
    if evaluation.operating_points:
        sections.append(_points_table(evaluation.operating_points))
    sections += [_parts_table(*part) for part in parts.items()]
    for name, (caption, canvas) in charts.items():
        image = png(canvas)
        write_atomically(folder / f"{name}.png", image)
        data = base64.b64encode(image).decode()
        sections.append(
            f"<h2>{html.escape(caption)}</h2><img alt='{name}' src='data:image/png;base64,{data}'>"
        )
    values: dict[str, Any] = {
        "title": title,
        **evaluation.to_dict(),
        "by": {
            column: {value: one.to_dict() for value, one in evaluations.items()}
            for column, evaluations in parts.items()
        },
    }
    write_atomically(folder / "report.json", (json.dumps(values, indent=2) + "\n").encode())
    page = (
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{_counts(evaluation)} Research software, not a medical device.</p>"
        f"{''.join(sections)}\n"
    )
    write_atomically(folder / "index.html", page.encode())


def _counts(evaluation: Evaluation) -> str:
    counts = f"{evaluation.images} images"
    if evaluation.unreadable:
        counts += f" ({evaluation.unreadable} more could not be read)"
    if evaluation.patients is None:
        return (
            f"{counts}; whose they are is not known: 95 % intervals take each image for a patient."
        )
    return f"{counts} of {evaluation.patients} patients; 95 % intervals by resampling patients."


def _metrics_table(metrics: dict[str, Metric]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{metric.value:.3f}</td>"
        f"<td>{metric.low:.3f} to {metric.high:.3f}</td></tr>"
        for name, metric in metrics.items()
    )
    return _table(f"<tr><th>metric</th><th>value</th><th>95 % interval</th></tr>{rows}")


def _points_table(points: dict[str, dict[str, Metric]]) -> str:
    names = list(dict.fromkeys(name for metrics in points.values() for name in metrics))
    rows = [[html.escape(point), *_cells(metrics, names)] for point, metrics in points.items()]
    return "<h2>Operating points</h2>" + _wide_table(["operating point", *names], rows)


def _parts_table(column: str, evaluations: dict[str, Evaluation]) -> str:
    found = dict.fromkeys(name for one in evaluations.values() for name in one.metrics)
    shown = [name for name in found if name.startswith(_OF_PARTS)]
    rows = [
        [html.escape(value), str(one.images), *_cells(one.metrics, shown)]
        for value, one in evaluations.items()
    ]
    return f"<h2>By {html.escape(column)}</h2>" + _wide_table([column, "images", *shown], rows)


def _cells(metrics: dict[str, Metric], names: Sequence[str]) -> list[str]:
    return [
        f"{metrics[name].value:.3f}<br><small>{metrics[name].low:.2f} to "
        f"{metrics[name].high:.2f}</small>"
        if name in metrics
        else ""
        for name in names
    ]


def _wide_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of many columns: long names of metrics may break at their joints."""
    breakable = (html.escape(one).replace("/", "/<wbr>").replace("_", "_<wbr>") for one in headings)
    header = "".join(f"<th>{one}</th>" for one in breakable)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return _table(f"<tr>{header}</tr>{body}", "parts")


def _table(content: str, kind: str = "plain") -> str:
    return f"<div class='table'><table class='{kind}'>{content}</table></div>"


def png(canvas: Canvas) -> bytes:
    """A figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()


def confusion_figure(
    labels: NDArray[np.int_], scores: NDArray[np.float64], classes: Sequence[str]
) -> Canvas:
    """The confusion matrix, counts of images."""
    canvas = Canvas(figsize=(5, 4.2))
    ConfusionMatrixDisplay.from_predictions(
        labels,
        scores.argmax(axis=1),
        labels=range(len(classes)),
        display_labels=classes,
        cmap="Blues",
        colorbar=False,
        ax=canvas.subplots(),
    )
    return canvas


def roc_figure(
    labels: NDArray[np.int_], scores: NDArray[np.float64], classes: Sequence[str]
) -> Canvas:
    """The ROC curve of each class against the rest, with its area."""
    canvas = Canvas(figsize=(5.5, 5))
    axes = canvas.subplots()
    present = np.unique(labels)
    for index in present if len(present) > 1 else ():
        RocCurveDisplay.from_predictions(
            labels == index, scores[:, index], name=classes[index], ax=axes
        )
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    return canvas


def _reliability(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> Canvas:
    canvas = Canvas(figsize=(5.5, 5))
    axes = canvas.subplots()
    bins = calibration_bins(labels, scores)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o")
    for one in bins:
        axes.annotate(
            str(one.images), (one.confidence, one.accuracy), (4, -12), textcoords="offset points"
        )
    axes.set(
        xlabel="probability of the predicted class",
        ylabel="share that was right",
        title="each point with its number of images",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    return canvas


def _is_right(judged: Judged) -> NDArray[np.bool_]:
    """Whether each image is called what it is; of what is no class: anything but healthy."""
    called = np.array(judged.classes)[judged.scores.argmax(axis=1)]
    true = np.array([sample.label for sample in judged.samples])
    return np.asarray(np.where(judged.labels >= 0, called == true, called != HEALTHY), np.bool_)


def _chosen(judged: Judged) -> list[int]:
    """Right ones of each label in the data's order, then the wrong ones by confidence."""
    right = _is_right(judged)
    labels = np.array([sample.label for sample in judged.samples])
    chosen: list[int] = []
    for label in dict.fromkeys(sorted(labels)):
        chosen += list(np.flatnonzero(right & (labels == label))[:_RIGHT_PER_CLASS])
    wrong = np.flatnonzero(~right)
    confident = wrong[np.argsort(-judged.scores[wrong].max(axis=1))]
    return chosen + list(confident[:_MOST_WRONG])


def _images_caption(judged: Judged) -> str:
    caption = (
        "Classified images with the evidence for the predicted class: some right ones, then the "
        "most confident wrong ones"
    )
    if judged.opacity is not None:
        caption += "; opacities found (solid, with their scores) and marked by a reader (dashed)"
    return caption


def _images(judged: Judged) -> Canvas:
    chosen = _chosen(judged)
    right = _is_right(judged)
    rows = -(-len(chosen) // _COLUMNS)
    canvas = Canvas(figsize=(2.2 * _COLUMNS, 4.8 * rows), layout="constrained")
    axes = canvas.subplots(2 * rows, _COLUMNS, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    side = judged.preprocessing.size
    for place, index in enumerate(chosen):
        row, column = divmod(place, _COLUMNS)
        plain, heat = axes[2 * row, column], axes[2 * row + 1, column]
        inputs = judged.inputs(index)[:, :, 0]
        predicted = int(judged.scores[index].argmax())
        for one in (plain, heat):
            one.imshow(inputs, cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0))
        found = np.maximum(judged.evidence(index, predicted), 0.0)
        heat.imshow(
            found,
            cmap="inferno",
            alpha=0.55 * found / (found.max() or 1.0),
            interpolation="bilinear",
            extent=(0, side, side, 0),
        )
        _draw_opacities(plain, judged, index)
        plain.set_title(
            f"{'right' if right[index] else 'WRONG'}: {judged.samples[index].label}\n"
            f"called {judged.classes[predicted]} {judged.scores[index, predicted]:.2f}  "
            f"(no. {index})",
            fontsize=8,
            color=_RIGHT_COLOUR if right[index] else _WRONG_COLOUR,
        )
    return canvas


def _draw_opacities(axes: Axes, judged: Judged, index: int) -> None:
    """Outlines of what the model finds and of what a reader marked, over the model's input."""
    if judged.opacity is None:
        return
    for box in judged.samples[index].opacity_boxes or ():
        _outline(axes, judged, index, box, edgecolor=_MARKED_COLOUR, linestyle="--")
    for box, score in judged.places(index).opacities:
        left, top = _outline(axes, judged, index, box, edgecolor=_OPACITY_COLOUR)
        axes.text(left, top, f"{score:.2f}", color=_OPACITY_COLOUR, fontsize=6, va="bottom")


def _outline(axes: Axes, judged: Judged, index: int, box: Box, **style: Any) -> tuple[float, float]:
    """Draw a box of the image where the model's input shows it; its left and top there."""
    height, width = judged.sizes[index]
    left, top, right, bottom = judged.preprocessing.frame_in(judged.windows[index])
    across = judged.preprocessing.size / (right - left)
    down = judged.preprocessing.size / (bottom - top)
    corner = ((box[0] * width - left) * across, (box[1] * height - top) * down)
    axes.add_patch(
        Rectangle(
            corner,
            (box[2] - box[0]) * width * across,
            (box[3] - box[1]) * height * down,
            fill=False,
            linewidth=1,
            **style,
        )
    )
    return corner


def _equalisation(judged: Judged) -> Canvas:
    """One image of each label with its histogram, as it came and as the model reads it."""
    equalised = judged.preprocessing
    if equalised.equalisation == "none":
        equalised = replace(equalised, equalisation="global")
    steps = {
        "original": replace(equalised, equalisation="none"),
        f"equalised ({equalised.equalisation})": equalised,
    }
    labels = [sample.label for sample in judged.samples]
    firsts = [labels.index(label) for label in sorted(set(labels))]
    canvas = Canvas(figsize=(11, 2.8 * len(firsts)), layout="constrained")
    axes = canvas.subplots(len(firsts), 4, squeeze=False)
    for row, index in zip(axes, firsts, strict=True):
        pixels = judged.windows[index].cut(read_sample(judged.samples[index]))
        for number, (name, preprocessing) in enumerate(steps.items()):
            image, histogram = row[2 * number], row[2 * number + 1]
            inputs = preprocessing.apply(pixels)[:, :, 0]
            image.imshow(inputs, cmap="gray", vmin=0, vmax=255)
            image.axis("off")
            image.set_title(f"{judged.samples[index].label}, {name}", fontsize=9)
            histogram.hist(inputs.ravel(), bins=64, range=(0, 256), color="#555555")
            histogram.set(yticks=[], xlabel="grey value")
    return canvas
