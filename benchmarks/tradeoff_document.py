"""What `tradeoff.py` writes: text, tables and plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas
from tradeoff_measuring import ENGINES, Accuracy, Line
from tradeoff_students import PEERS

from xrayedge.evaluation import Metric

_LABEL: dict[str, Any] = {"fontsize": 8, "xytext": (4, 4), "textcoords": "offset points"}
_TOP = 1.05  # of the axis of accuracy: room for names
_UPRIGHT = {**_LABEL, "xytext": (0, 4), "rotation": 90, "ha": "center", "va": "bottom"}

TEXT = """\
# What fewer operations cost

Written by `{command}`.

The first row is the teacher. `vgg16 / 8` is the teacher pruned by `xrayedge prune` to an eighth
of its multiply-accumulates. From `vgg16 / {half_side}` on, `--half-side` is used as well, which
alone leaves a quarter of them and all the weights. MobileNetV2 and DenseNet121 learn from the
same teacher's activation maps of the same augmented views, at most {views} of each training
image, and are quantised too.
{peers}

Every network gets about the same training compute: `vgg16 / 2` sees each training image
{passes:g} times, at least once, and a network with fewer operations proportionally more often
(column `passes`).
{also}

All metrics are of the int8 files, with 95 % intervals over patients. `lost` is the teacher's
metric minus the network's, by a paired bootstrap. Times are medians of {rounds} rounds in which
all files alternated in one process, with one thread each. Ratios carry over to other machines
better than milliseconds do. The machine: {machine}. Networks without accuracy were timed but not
trained. [The model card](model-card.md) says what each dataset can prove.

![latency against balanced accuracy](tradeoff.png)

## Size and time

{costs}"""

ACCURACY = """
## Accuracy{on}

{images} images of {patients} patients.

{table}"""

ALSO = """\
{names} was trained outside this rule."""

_RANDOM = """\
{names} started from random weights, while the pruned networks started from the teacher's.
That many views are too few for random weights: these networks can reach more than they do here."""


def costs_table(lines: Sequence[Line]) -> str:
    """Operations, size and time of each network, in Markdown."""
    headings = [
        "network",
        "passes",
        "G MAC",
        "MB, TFLite",
        *(f"ms, {engine}" for engine in ENGINES),
        *(f"times faster, {engine}" for engine in ENGINES),
    ]
    rows = []
    for line in lines:
        passes = "teacher" if line.student.passes is None else str(line.student.passes)
        rows.append(
            [
                line.student.name,
                passes,
                f"{line.operations / 1e9:.2f}",
                f"{line.sizes['litert'] / 1e6:.2f}",
                *(f"{line.milliseconds[engine].value:.2f}" for engine in ENGINES),
                *(f"{line.times_faster[engine].value:.1f}" for engine in ENGINES),
            ]
        )
    return _markdown(headings, rows)


def accuracy_table(lines: Sequence[Line], part: str) -> str:
    """The metrics of each trained network on a part of the images, in Markdown."""
    headings = [
        "network",
        "balanced accuracy",
        "lost",
        "macro AUC",
        "lost",
        "COVID sensitivity",
        "COVID specificity",
    ]
    rows = []
    for line in lines:
        if part in line.parts:
            found = line.parts[part]
            metrics = found.evaluation.metrics
            rows.append(
                [
                    line.student.name,
                    str(metrics["balanced_accuracy"]),
                    _lost(found, "balanced_accuracy"),
                    str(metrics["macro_auc"]),
                    _lost(found, "macro_auc"),
                    str(metrics["recall/covid"]),
                    str(metrics["specificity/covid"]),
                ]
            )
    return _markdown(headings, rows)


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _lost(found: Accuracy, name: str) -> str:
    return _signed(found.lost[name]) if found.lost else ""


def _signed(lost: Metric) -> str:
    return f"{lost.value:+.3f} ({lost.low:+.3f} to {lost.high:+.3f})"


def beginnings(weights: dict[str, str]) -> str:
    """Sentences on what the peers began with."""
    sentences = [f"{name} began with {Path(one).name}." for name, one in weights.items()]
    at_random = [name for name in PEERS if name not in weights]
    if at_random:
        sentences.append(_RANDOM.format(names=" and ".join(at_random)))
    return "\n".join(sentences)


def draw(lines: Sequence[Line], parts: Sequence[str]) -> Canvas:
    """Latency against balanced accuracy on each part, and against operations."""
    canvas = Canvas(figsize=(5.5 * (len(parts) + 1), 5), layout="constrained")
    *accuracies, speed = canvas.subplots(1, len(parts) + 1)
    for line in lines:
        colour = "tab:orange" if line.student.name in PEERS else "tab:blue"
        milliseconds = line.milliseconds["litert"].value
        speed.plot(line.operations / 1e9, milliseconds, "o", color=colour)
        speed.annotate(line.student.name, (line.operations / 1e9, milliseconds), **_LABEL)
        for part, axes in zip(parts, accuracies, strict=True):
            if part not in line.parts:
                continue
            found = line.parts[part].evaluation.metrics["balanced_accuracy"]
            spread = [[found.value - found.low], [found.high - found.value]]
            axes.errorbar(milliseconds, found.value, spread, fmt="o", color=colour, capsize=3)
            axes.annotate(line.student.name, (milliseconds, found.high), **_UPRIGHT)
    for part, axes in zip(parts, accuracies, strict=True):
        axes.set(xscale="log", xlabel="ms per image, int8, LiteRT, one thread", title=part)
        axes.set(ylabel="balanced accuracy, 95 % interval over patients", ylim=(None, _TOP))
    speed.set(xscale="log", yscale="log", xlabel="multiply-accumulates, thousand millions")
    speed.set(ylabel="ms per image, int8, LiteRT, one thread")
    speed.margins(x=0.15)
    return canvas
