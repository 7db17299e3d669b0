"""`bench`: time, memory and accuracy of model files on this device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import get_args

import click
from rich.progress import Progress

from ..bundle import Precision, shipped_bundles
from ..engines import EngineName
from ..files import write_atomically
from .group import INTERRUPTED
from .options import Number, refuse_ignored, where_option
from .printing import messages, print_table, results

_PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def _thread_counts(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    counts = [int(part) if part.strip().isdecimal() else 0 for part in value.split(",")]
    if min(counts) < 1:
        raise click.BadParameter(f"{value!r} is not numbers of threads such as 1,2,4")
    return list(dict.fromkeys(counts))


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    show_default="all shipped",
    help="A bundle, shipped or a folder.",
)
@click.option("--precision", "precisions", type=click.Choice(get_args(Precision)), multiple=True)
@click.option("--engine", "engines", type=click.Choice(get_args(EngineName)), multiple=True)
@click.option("--threads", default="1", callback=_thread_counts, metavar="N,N")
@click.option("--rounds", type=click.IntRange(min=1), default=9)
@click.option("--warmup", type=click.IntRange(min=0), default=5)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled pictures: adds accuracy.")
@where_option
@click.option(
    "--min-agreement",
    type=Number(0.0, 1.0),
    help="Exit status 1 if a file gives float32's label on a smaller share of DATA.",
)
@click.option("--stage", is_flag=True, help="Also time each stage, from file to heatmap.")
@click.option(
    "--picture",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    show_default="a DICOM and a JPEG in two sizes",
    help="Time the stages of this file.",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--csv", "form", flag_value="csv", help="Print the rows as CSV.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw latency against accuracy (PNG, SVG or PDF); wants DATA.",
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="OLD NEW",
    help="Measure nothing; compare two reports saved with --json.",
)
@click.pass_context
def bench(
    ctx: click.Context,
    models: tuple[str, ...],
    precisions: tuple[Precision, ...],
    engines: tuple[EngineName, ...],
    threads: list[int],
    rounds: int,
    warmup: int,
    data: Path | None,
    where: list[tuple[str, str]],
    min_agreement: float | None,
    stage: bool,
    pictures: tuple[Path, ...],
    form: str | None,
    plot: Path | None,
    compare: tuple[Path, Path] | None,
) -> None:
    """Measure every file of a model in every engine: time, memory and, with DATA, accuracy.

    Exit status: 0 all measured, 1 some not or under --min-agreement, 2 wrong usage, 130 Ctrl-C.
    """
    if compare is not None:
        others = [parameter.name or "" for parameter in ctx.command.params]
        others.remove("compare")
        refuse_ignored(ctx, "with --compare, which measures nothing", *others)
        _compare(*compare)
        return
    from ..bench import accuracy, cases, figure, stages, tables
    from ..bench.benchmark import benchmark

    if data is None and (min_agreement is not None or plot is not None or where):
        raise click.UsageError("--min-agreement, --plot and --where need --data")
    if plot is not None:
        if plot.suffix.lower() not in _PLOT_SUFFIXES:
            raise click.UsageError(f"--plot {plot}: the name ends in {', '.join(_PLOT_SUFFIXES)}.")
        figure.check_matplotlib()
    bundles, damaged = cases.load_bundles(models or shipped_bundles())
    if not bundles:
        raise damaged[0]
    for error in damaged:
        messages.print(f"xrayedge: left out: {error}")
    chosen = cases.choose_cases(bundles, precisions=precisions, engines=engines, threads=threads)
    samples = () if data is None else accuracy.load_samples(data, where)
    with (
        tempfile.TemporaryDirectory(prefix="xrayedge-bench-") as folder,
        Progress(console=messages, transient=True) as bar,
    ):
        if stage and not pictures:
            pictures = stages.realistic_pictures(Path(folder))
        task = bar.add_task("")

        def show(done: int, total: int, title: str) -> None:
            bar.update(task, completed=done, total=total, description=title)

        report = benchmark(
            bundles,
            chosen,
            rounds=rounds,
            warmup=warmup,
            samples=samples,
            pictures=pictures,
            progress=show,
        )
    if form == "json":
        click.echo(report.to_json(), nl=False)
    elif form == "markdown":
        click.echo(tables.to_markdown(report), nl=False)
    elif form == "csv":
        click.echo(tables.to_csv(report), nl=False)
    else:
        print_table(tables.machine_table(report))
        print_table(tables.rows_table(report))
        if report.stages:
            print_table(tables.stages_table(report))
        for note in tables.notes(report):
            results.print(note)
    if report.interrupted:
        ctx.exit(INTERRUPTED)
    if plot is not None:
        write_atomically(
            plot, figure.latency_accuracy_figure(report, plot.suffix.lower().lstrip("."))
        )
    under = [] if min_agreement is None else report.under(min_agreement)
    for row in under:
        messages.print(f"xrayedge: under --min-agreement {min_agreement}: {row.title}")
    if under or damaged or report.errors:
        ctx.exit(1)


def _compare(old: Path, new: Path) -> None:
    from ..bench.compare import changes, changes_table, differences
    from ..bench.report import Report

    reports = Report.read(old), Report.read(new)
    print_table(changes_table(changes(*reports)))
    for line in differences(*reports):
        results.print(line)
