"""An evaluation as a folder to read: report.json, PNG figures, and one self-contained HTML page.

The page shows radiographs by their number in the data, never by file name: names can hold
patient data.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay

from ..data import Sample, read_sample
from ..files import write_atomically
from ..heatmap import evidence
from ..preprocessing import Preprocessing
from .classes import Evaluation
from .metrics import calibration_bins

_RIGHT_PER_CLASS, _MOST_WRONG, _COLUMNS = 2, 6, 6
_RIGHT_COLOUR, _WRONG_COLOUR = "#1a7f37", "#c0392b"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;text-align:left;"
    "border-bottom:1px solid #ddd}img{max-width:100%}"
)


@dataclass(frozen=True)
class Judged:
    """Pictures and what a model says of them.

    Parameters
    ----------
    samples
        The pictures.
    classes
        Names, in the order of the scores.
    preprocessing
        What made the model's inputs.
    scores
        Probabilities, ``float64 [N, classes]``.
    maps
        Activation maps, ``float32 [N, h, w, classes]``.
    """

    samples: Sequence[Sample]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.int_]:
        """Indices of the true classes, ``int [N]``."""
        return np.array([self.classes.index(sample.label) for sample in self.samples])


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
        The pictures and their scores.
    evaluation
        Figures of all pictures.
    parts
        By column, then by its value: figures of groups of pictures.
    """
    figures = {
        "confusion": (
            "Confusion matrix",
            confusion_figure(judged.labels, judged.scores, judged.classes),
        ),
        "roc": (
            "ROC of each class against the rest",
            roc_figure(judged.labels, judged.scores, judged.classes),
        ),
        "reliability": ("Reliability", _reliability(judged)),
        "pictures": (
            "Classified pictures with the evidence for the predicted class: some right ones, "
            "then the most confident wrong ones",
            _pictures(judged),
        ),
        "equalisation": ("Before and after equalisation", _equalisation(judged)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    sections = [_figures_table(evaluation), *(_parts_table(*part) for part in parts.items())]
    for name, (caption, canvas) in figures.items():
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
        f"<p>{evaluation.images} images of {evaluation.patients} patients; 95 % intervals by "
        f"resampling patients. Research software, not a medical device.</p>{''.join(sections)}\n"
    )
    write_atomically(folder / "index.html", page.encode())


def _figures_table(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{metric.value:.3f}</td>"
        f"<td>{metric.low:.3f} to {metric.high:.3f}</td></tr>"
        for name, metric in evaluation.metrics.items()
    )
    return f"<table><tr><th>metric</th><th>value</th><th>95 % interval</th></tr>{rows}</table>"


def _parts_table(column: str, evaluations: dict[str, Evaluation]) -> str:
    found = dict.fromkeys(name for one in evaluations.values() for name in one.metrics)
    shown = [name for name in found if name.startswith(("accuracy", "recall/", "auc/"))]
    header = "".join(f"<th>{html.escape(name)}</th>" for name in shown)
    rows = ""
    for value, one in evaluations.items():
        cells = "".join(f"<td>{one.metrics.get(name, '')}</td>" for name in shown)
        rows += f"<tr><td>{html.escape(value)}</td><td>{one.images}</td>{cells}</tr>"
    return (
        f"<h2>By {html.escape(column)}</h2>"
        f"<table><tr><th>{html.escape(column)}</th><th>images</th>{header}</tr>{rows}</table>"
    )


def png(canvas: Canvas) -> bytes:
    """A figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()


def confusion_figure(
    labels: NDArray[np.int_], scores: NDArray[np.float64], classes: Sequence[str]
) -> Canvas:
    """The confusion matrix, counts of pictures."""
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
    for index in np.unique(labels):
        RocCurveDisplay.from_predictions(
            labels == index, scores[:, index], name=classes[index], ax=axes
        )
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    return canvas


def _reliability(judged: Judged) -> Canvas:
    canvas = Canvas(figsize=(5.5, 5))
    axes = canvas.subplots()
    bins = calibration_bins(judged.labels, judged.scores)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o")
    for one in bins:
        axes.annotate(
            str(one.images), (one.confidence, one.accuracy), (4, -12), textcoords="offset points"
        )
    axes.set(
        xlabel="probability of the predicted class",
        ylabel="share that was right",
        title="each point with its number of pictures",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )
    return canvas


def _chosen(judged: Judged) -> list[int]:
    """Right ones of each class in the data's order, then the wrong ones by confidence."""
    right = judged.scores.argmax(axis=1) == judged.labels
    chosen: list[int] = []
    for index in np.unique(judged.labels):
        chosen += list(np.flatnonzero(right & (judged.labels == index))[:_RIGHT_PER_CLASS])
    wrong = np.flatnonzero(~right)
    confident = wrong[np.argsort(-judged.scores[wrong].max(axis=1))]
    return chosen + list(confident[:_MOST_WRONG])


def _pictures(judged: Judged) -> Canvas:
    chosen = _chosen(judged)
    rows = -(-len(chosen) // _COLUMNS)
    canvas = Canvas(figsize=(2.2 * _COLUMNS, 4.8 * rows), layout="constrained")
    axes = canvas.subplots(2 * rows, _COLUMNS, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    side = judged.preprocessing.size
    for place, index in enumerate(chosen):
        row, column = divmod(place, _COLUMNS)
        plain, heat = axes[2 * row, column], axes[2 * row + 1, column]
        inputs = judged.preprocessing.apply(read_sample(judged.samples[index]))[:, :, 0]
        predicted = int(judged.scores[index].argmax())
        is_right = predicted == judged.labels[index]
        for one in (plain, heat):
            one.imshow(inputs, cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0))
        found = np.maximum(evidence(judged.maps[index], predicted), 0.0)
        heat.imshow(
            found,
            cmap="inferno",
            alpha=0.55 * found / (found.max() or 1.0),
            interpolation="bilinear",
            extent=(0, side, side, 0),
        )
        plain.set_title(
            f"{'right' if is_right else 'WRONG'}: {judged.samples[index].label}\n"
            f"called {judged.classes[predicted]} {judged.scores[index, predicted]:.2f}  "
            f"(no. {index})",
            fontsize=8,
            color=_RIGHT_COLOUR if is_right else _WRONG_COLOUR,
        )
    return canvas


def _equalisation(judged: Judged) -> Canvas:
    """One picture of each class with its histogram, as it came and as the model reads it."""
    equalised = judged.preprocessing
    if equalised.equalisation == "none":
        equalised = replace(equalised, equalisation="global")
    steps = {
        "original": replace(equalised, equalisation="none"),
        f"equalised ({equalised.equalisation})": equalised,
    }
    firsts = [int(np.argmax(judged.labels == index)) for index in np.unique(judged.labels)]
    canvas = Canvas(figsize=(11, 2.8 * len(firsts)), layout="constrained")
    axes = canvas.subplots(len(firsts), 4, squeeze=False)
    for row, index in zip(axes, firsts, strict=True):
        pixels = read_sample(judged.samples[index])
        for number, (name, preprocessing) in enumerate(steps.items()):
            picture, histogram = row[2 * number], row[2 * number + 1]
            inputs = preprocessing.apply(pixels)[:, :, 0]
            picture.imshow(inputs, cmap="gray", vmin=0, vmax=255)
            picture.axis("off")
            picture.set_title(f"{judged.samples[index].label}, {name}", fontsize=9)
            histogram.hist(inputs.ravel(), bins=64, range=(0, 256), color="#555555")
            histogram.set(yticks=[], xlabel="grey value")
    return canvas
