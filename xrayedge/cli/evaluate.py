"""`evaluate`: metrics of a bundle or a run on labelled images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ..bundle import Precision
from ..engines import EngineName
from ..files import write_atomically
from .options import (
    engine_option,
    precision_option,
    refuse_ignored,
    site_option,
    where_option,
)
from .printing import messages, printable, quiet_engines, quiet_tensorflow, results, wide_results

if TYPE_CHECKING:
    from ..data import Sample
    from ..evaluation import Evaluation, GateEvaluation, Judged, Metric, ScoringModel

_SOME_UNREADABLE = 1
#: So many images that can't be read are named; the others are counted.
_MOST_NAMED = 10
#: Metrics shown for the parts of a column: the most informative few.
_OF_PARTS = ("accuracy", "recall/", "auc/", "ill_not_called")


@click.command()
@click.argument("model")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="REPORT",
    help="Write charts, JSON and an HTML page into this folder.",
)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also evaluate the images of each value of this column separately, such as source.",
)
@click.option(
    "--frontal", is_flag=True, help="Evaluate a bundle's frontal check, for each kind of image."
)
@click.option("--operating-point", help="Weight a bundle's scores by this operating point.")
@site_option
@precision_option
@engine_option
@where_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str,
    data: tuple[Path, ...],
    out: Path | None,
    by: tuple[str, ...],
    frontal: bool,
    operating_point: str | None,
    site: Path | None,
    precision: Precision,
    engine: EngineName | None,
    where: list[tuple[str, str]],
) -> None:
    """Evaluate MODEL, a bundle or a training run, on labelled images.

    DATA are folders with a folder per class, or manifest CSVs.

    Exit status: 0 all images were scored, 1 some could not be read, 2 wrong usage.
    """
    if site is not None:
        refuse_ignored(ctx, "with --site, which has a point of its own", "operating_point")
    quiet_tensorflow()
    from .. import evaluation
    from ..data import load_to_evaluate

    scoring = _open(model, precision, engine, frontal, operating_point, site)
    samples, seen = load_to_evaluate(
        data,
        where,
        scoring.trained_on,
        turned_of=scoring.gate[0] if scoring.gate else None,
        classes=None if scoring.gate else scoring.classes,
        non_classes=not scoring.gate,
    )
    if seen:
        messages.print(
            f"warning: the model was trained on {seen} of these {len(samples)} images; "
            "`--where split=test` leaves only those that it has not seen"
        )
    judged = evaluation.judge(scoring, samples, _progress)
    _report_unreadable(judged)
    if scoring.gate:
        gate = evaluation.evaluate_gate(
            judged.samples, scoring.classes, judged.scores, scoring.gate
        )
        if out is not None:
            content = json.dumps(gate.to_dict(), indent=2) + "\n"
            write_atomically(out / "report.json", content.encode())
        _print_evaluation(gate, scoring.classes, passed=gate.passed)
    else:
        result = judged.evaluate()
        parts = {column: judged.evaluate_by(column) for column in by}
        if out is not None:
            from ..evaluation.report import write_report

            names = ", ".join(path.name for path in data)
            filters = "".join(f", {column}={value}" for column, value in where)
            write_report(out, f"{Path(model).name} on {names}{filters}", judged, result, parts)
        _print_evaluation(result, scoring.classes)
        if result.operating_points:
            wide_results.print(_points_table(result.operating_points))
        for column, evaluations in parts.items():
            wide_results.print(parts_table(column, evaluations))
    ctx.exit(_SOME_UNREADABLE if judged.unreadable else 0)


def _open(
    model: str,
    precision: Precision,
    engine: EngineName | None,
    frontal: bool,
    operating_point: str | None,
    site: Path | None,
) -> ScoringModel:
    from ..evaluation import ScoringModel
    from ..training.run import RECORD

    if not (Path(model) / RECORD).is_file():
        with quiet_engines():
            return ScoringModel.from_bundle(
                *(model, precision, engine),
                frontal=frontal,
                operating_point=operating_point,
                site=site,
            )
    if operating_point is not None or site is not None:
        raise click.UsageError("--operating-point and --site are for bundles; a run has none")
    from ..training.scoring import scoring_model

    return scoring_model(Path(model))


def _progress(samples: Sequence[Sample]) -> Iterable[Sample]:
    from rich.progress import track

    return track(samples, "scoring", console=messages, transient=True)


def _report_unreadable(judged: Judged) -> None:
    for _, error in judged.unreadable[:_MOST_NAMED]:
        messages.print(printable(error))
    if judged.unreadable:
        total = len(judged.unreadable) + len(judged.samples)
        messages.print(f"{len(judged.unreadable)} of {total} images can't be read; left out")


def _print_evaluation(
    result: Evaluation | GateEvaluation,
    classes: tuple[str, ...],
    passed: dict[str, int] | None = None,
) -> None:
    metrics = Table("metric", "value", "95 % interval")
    for name, metric in (result.metrics | getattr(result, "localisation", {})).items():
        metrics.add_row(name, f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}")
    if result.patients is None:
        results.print(
            f"{result.images} images; whose they are is not known, so intervals take each image "
            "for a patient"
        )
    else:
        results.print(f"{result.images} images of {result.patients} patients")
    results.print(metrics)
    confusion = Table("true \\ predicted", *classes, *(["passed"] if passed else []))
    for true, row in result.confusion.items():
        counts = [*row.values(), *([passed[true]] if passed else [])]
        confusion.add_row(true, *map(str, counts))
    wide_results.print(confusion)


def _points_table(points: dict[str, dict[str, Metric]]) -> Table:
    names = dict.fromkeys(name for metrics in points.values() for name in metrics)
    table = Table("operating point", *names)
    for point, metrics in points.items():
        table.add_row(point, *(str(metrics.get(name, "")) for name in names))
    return table


def parts_table(column: str, evaluations: dict[str, Evaluation]) -> Table:
    """The metrics of each part of the images, a row a part."""
    found = dict.fromkeys(name for part in evaluations.values() for name in part.metrics)
    shown = [name for name in found if name.startswith(_OF_PARTS)]
    table = Table(column, "images", *shown)
    for value, part in evaluations.items():
        cells = [str(part.metrics.get(name, "")) for name in shown]
        table.add_row(value, str(part.images), *cells)
    return table
