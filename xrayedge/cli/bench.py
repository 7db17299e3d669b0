"""`bench`: time, memory and accuracy of model files on this device."""

from __future__ import annotations

import tempfile
import textwrap
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table

from ..bundle import Precision, shipped_bundles
from ..engines import EngineName
from ..files import write_atomically
from ..site import SiteProfile
from .group import INTERRUPTED
from .options import Number, refuse_ignored, site_option, where_option
from .printing import messages, print_table, results, wide_results

if TYPE_CHECKING:
    from ..bench.report import Key, Report
    from ..bench.tables import TextTable

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
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images: adds accuracy.")
@where_option
@site_option
@click.option(
    "--min-agreement",
    type=Number(0.0, 1.0),
    help="Exit status 1 if a file gives float32's label on a smaller share of DATA.",
)
@click.option("--stage", is_flag=True, help="Also time each stage from file to heatmap.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    show_default="JPEG, and DICOM in each transfer syntax",
    help="Time the stages of this file.",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--csv", "form", flag_value="csv", help="Print the rows as CSV.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Plot latency against accuracy (PNG, SVG or PDF); needs --data.",
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="OLD NEW",
    help="Compare two reports saved with --json instead of measuring.",
)
@click.option("--verbose", is_flag=True, help="Print every column, and describe the machine.")
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
    site: Path | None,
    min_agreement: float | None,
    stage: bool,
    images: tuple[Path, ...],
    form: str | None,
    plot: Path | None,
    compare: tuple[Path, Path] | None,
    verbose: bool,
) -> None:
    """Measure every file of a model in every engine: time, memory and, with DATA, accuracy.

    The last line names the file to ship: the fastest of those that are as accurate as the best, or
    the smallest if their times do not differ.

    Exit status: 0 all measured, 1 some not or under --min-agreement, 2 wrong usage, 130 Ctrl-C.
    """
    if compare is not None:
        others = [parameter.name or "" for parameter in ctx.command.params]
        others.remove("compare")
        refuse_ignored(ctx, "with --compare, which measures nothing", *others)
        _compare(*compare)
        return
    from ..bench import accuracy, cases, stages
    from ..bench import plot as chart
    from ..bench.measuring import measure

    if data is None and (min_agreement is not None or plot is not None or where or site):
        raise click.UsageError("--min-agreement, --plot, --site and --where need --data")
    profile = None if site is None else SiteProfile.load(site)
    if plot is not None:
        if plot.suffix.lower() not in _PLOT_SUFFIXES:
            raise click.UsageError(f"--plot {plot}: the name ends in {', '.join(_PLOT_SUFFIXES)}.")
        chart.check_matplotlib()
    usual = shipped_bundles() if profile is None else (profile.model,)
    bundles, damaged = cases.load_bundles(models or usual)
    if not bundles:
        raise damaged[0]
    for error in damaged:
        messages.print(f"xrayedge: left out: {error}")
    chosen = cases.choose_cases(bundles, precisions=precisions, engines=engines, threads=threads)
    samples = () if data is None else accuracy.load_samples(data, where)
    with tempfile.TemporaryDirectory(prefix="xrayedge-bench-") as folder, _Steps() as steps:
        if stage and not images:
            images = stages.realistic_images(Path(folder))
        report = measure(
            bundles,
            chosen,
            rounds=rounds,
            warmup=warmup,
            samples=samples,
            images=images,
            site=profile,
            progress=steps.show,
        )
    _print_report(report, form, verbose, {case.key for case in chosen if not case.meets_floor})
    if report.interrupted:
        ctx.exit(INTERRUPTED)
    if plot is not None:
        write_atomically(
            plot, chart.latency_accuracy_figure(report, plot.suffix.lower().lstrip("."))
        )
    under = [] if min_agreement is None else report.under(min_agreement)
    for row in under:
        messages.print(f"xrayedge: under --min-agreement {min_agreement}: {row.title}")
    if under or damaged or report.errors:
        ctx.exit(1)


class _Steps:
    """How far it is and about how long it takes: a bar in a terminal, a line a step in a pipe."""

    def __init__(self) -> None:
        self._bar = Progress(console=messages, transient=True)
        self._task = self._bar.add_task("")
        self._started = time.monotonic()

    def __enter__(self) -> _Steps:
        if messages.is_terminal:
            self._bar.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_error: object) -> None:
        if messages.is_terminal:
            self._bar.stop()

    def show(self, done: int, total: int, title: str) -> None:
        """Say that a step begins, with ``done`` of ``total`` steps behind it."""
        if done == 0:  # what was written and preprocessed before says nothing of the steps' time
            self._started = time.monotonic()
        if messages.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=title)
            return
        left = ""
        if done:
            seconds = (time.monotonic() - self._started) / done * (total - done)
            left = f", about {timedelta(seconds=round(seconds))} left"
        messages.print(f"{done + 1} of {total}: {title}{left}")


def _print_report(
    report: Report, form: str | None, verbose: bool, under_floor: Collection[Key]
) -> None:
    from ..bench import tables, verdict

    if form == "json":
        click.echo(report.to_json(), nl=False)
        return
    if form == "markdown":
        click.echo(tables.to_markdown(report), nl=False)
        return
    if form == "csv":
        click.echo(tables.to_csv(report), nl=False)
        return
    if verbose:
        print_table(tables.machine_table(report))
        print_table(tables.rows_table(report))
        if report.stages:
            print_table(tables.stages_table(report))
    else:
        results.print(_wrapped(tables.machine_line(report)))
        _print_narrow(tables.summary_table(report, under_floor))
        for title, table in tables.stages_summary(report):
            results.print(_wrapped(title))
            _print_narrow(table)
    for note in tables.notes(report):
        results.print(_wrapped(note))
    results.print(verdict.sentence(report.rows, under_floor))


def _print_narrow(table: TextTable) -> None:
    """Without lines between columns, to fit a terminal of 80."""
    drawn = Table(*table.headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in table.rows:
        drawn.add_row(*row)
    wide_results.print(drawn)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 80)


def _compare(old: Path, new: Path) -> None:
    from ..bench.compare import changes, changes_table, differences
    from ..bench.report import Report

    reports = Report.read(old), Report.read(new)
    print_table(changes_table(changes(*reports)))
    for line in differences(*reports):
        results.print(line)
