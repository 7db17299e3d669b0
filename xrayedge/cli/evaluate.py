"""`evaluate`: metrics of a bundle or a run on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ..bundle import Precision
from ..engines import EngineName
from ..files import write_atomically
from .options import engine_option, precision_option, where_option
from .printing import messages, quiet_tensorflow, results, wide_results

if TYPE_CHECKING:
    from ..evaluation import Evaluation, GateEvaluation


@click.command()
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="REPORT",
    help="Write figures, JSON and an HTML page into this folder.",
)
@click.option("--by", multiple=True, metavar="COLUMN", help="Also each value of a column apart.")
@click.option("--frontal", is_flag=True, help="Evaluate a bundle's frontal check, by kind.")
@click.option("--operating-point", help="Weigh a bundle's scores as this operating point does.")
@precision_option
@engine_option
@where_option
def evaluate(
    model: str,
    data: Path,
    out: Path | None,
    by: tuple[str, ...],
    frontal: bool,
    operating_point: str | None,
    precision: Precision,
    engine: EngineName | None,
    where: list[tuple[str, str]],
) -> None:
    """Evaluate MODEL, a bundle or a training run, on the labelled pictures of DATA."""
    quiet_tensorflow()
    import numpy as np
    from rich.progress import track

    from .. import evaluation
    from ..data import load_dataset
    from ..training.run import RECORD

    if (Path(model) / RECORD).is_file():
        if operating_point is not None:
            raise click.UsageError("--operating-point is for bundles; a run has none")
        from ..training.scoring import scoring_model

        scoring = scoring_model(Path(model))
    else:
        scoring = evaluation.ScoringModel.from_bundle(
            model, precision, engine, frontal=frontal, operating_point=operating_point
        )
    turned_of = scoring.gate[0] if scoring.gate else None
    samples = load_dataset(data, where, complete=False, turned_of=turned_of).samples
    if not scoring.gate:
        evaluation.check_labels(samples, scoring.classes)
    judgements = [
        scoring.judge(scoring.inputs(sample))
        for sample in track(samples, "scoring", console=messages, transient=True)
    ]
    scores = np.stack([scores for scores, _ in judgements])
    if scoring.gate:
        gate = evaluation.evaluate_gate(samples, scoring.classes, scores, scoring.gate)
        if out is not None:
            content = json.dumps(gate.to_dict(), indent=2) + "\n"
            write_atomically(out / "report.json", content.encode())
        _print_evaluation(gate, scoring.classes, passed=gate.passed)
        return
    result = evaluation.evaluate(samples, scoring.classes, scores)
    parts = {
        column: evaluation.evaluate_by(column, samples, scoring.classes, scores) for column in by
    }
    if out is not None:
        from ..evaluation.report import Judged, write_report

        maps = np.stack([found for _, found in judgements])
        judged = Judged(samples, scoring.classes, scoring.preprocessing, scores, maps)
        filters = "".join(f", {column}={value}" for column, value in where)
        write_report(out, f"{Path(model).name} on {data.name}{filters}", judged, result, parts)
    _print_evaluation(result, scoring.classes)
    for column, evaluations in parts.items():
        wide_results.print(parts_table(column, evaluations))


def _print_evaluation(
    result: Evaluation | GateEvaluation,
    classes: tuple[str, ...],
    passed: dict[str, int] | None = None,
) -> None:
    metrics = Table("metric", "value", "95 % interval")
    for name, metric in result.metrics.items():
        metrics.add_row(name, f"{metric.value:.3f}", f"{metric.low:.3f} to {metric.high:.3f}")
    results.print(f"{result.images} images of {result.patients} patients")
    results.print(metrics)
    confusion = Table("true \\ predicted", *classes, *(["passed"] if passed else []))
    for true, row in result.confusion.items():
        counts = [*row.values(), *([passed[true]] if passed else [])]
        confusion.add_row(true, *map(str, counts))
    wide_results.print(confusion)


def parts_table(column: str, evaluations: dict[str, Evaluation]) -> Table:
    found = dict.fromkeys(name for part in evaluations.values() for name in part.metrics)
    shown = [name for name in found if name.startswith(("accuracy", "recall/", "auc/"))]
    table = Table(column, "images", *shown)
    for value, part in evaluations.items():
        cells = [str(part.metrics.get(name, "")) for name in shown]
        table.add_row(value, str(part.images), *cells)
    return table
