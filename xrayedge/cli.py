"""The command line: arguments and printing only; each verb is one call into the library."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import cv2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from . import dicom_out
from .batch import find_pictures, screen_in_order, unique_names
from .bundle import DEFAULT_MODEL, ModelBundle, ModelFormat, Precision, shipped_bundles
from .engines import EngineName
from .errors import ResultsError, XrayEdgeError
from .files import write_atomically
from .imaging import Limits
from .results import ResultsFile
from .screening import Screener, Screening

if TYPE_CHECKING:
    from .bench.tables import TextTable
    from .doctor import Diagnosis
    from .evaluation import Evaluation, GateEvaluation
    from .training.run import Epoch

_NOT_ALL_SCREENED = 1
_NOT_ALL_WRITTEN = 1
_NOT_FIT = 1
_USAGE_ERROR = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# Markup off: a file's name may hold brackets.
_results = Console(highlight=False, soft_wrap=True, markup=False)
_wide_results = Console(highlight=False, width=1000)
_messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """Turns our errors into one line on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except XrayEdgeError as error:
            _messages.print(f"xrayedge: {_printable(str(error))}")
            ctx.exit(_USAGE_ERROR)


def _columns(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        column, separator, wanted = value.partition("=")
        if not separator:
            raise click.BadParameter(f"{value!r} is not COLUMN=VALUE")
        pairs.append((column, wanted))
    return pairs


_where = click.option(
    "--where",
    metavar="COLUMN=VALUE",
    multiple=True,
    callback=_columns,
    help="Use the manifest's rows with this value; several of one column are alternatives.",
)


_model = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A shipped bundle or a bundle's folder.",
)
_precision = click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="int8", show_default=True
)
_engine = click.option(
    "--engine", type=click.Choice(get_args(EngineName)), help="Default: the first installed."
)


def _folder(name: str, help_text: str) -> Callable[[_Command], _Command]:
    return click.option(
        name, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help=help_text
    )


@click.group(cls=_Group)
@click.version_option(package_name="xrayedge")
def main() -> None:
    """Screen chest radiographs on the spot. Research software, not a medical device."""


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_model
@_precision
@_engine
@click.option(
    "--provider",
    "providers",
    multiple=True,
    help="ONNX Runtime's execution provider, such as TensorrtExecutionProvider; several are in "
    "order of preference.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--operating-point",
    default="balanced",
    show_default=True,
    help="balanced; sensitive: finds more COVID-19 and raises more false alarms; or specific: "
    "calls fewer healthy people ill and misses more.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per picture and line.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the results to this .csv or .jsonl file; go on with it if it is there.",
)
@_folder("--heatmap", "Write an overlay PNG for each screened picture into this folder.")
@_folder("--dicom-sr", "Write a DICOM structured report for each screened DICOM file here.")
@_folder("--dicom-sc", "Write the overlay as DICOM Secondary Capture for each of them here.")
@click.option(
    "--auto-orient", is_flag=True, help="Put turned and inverted pictures right and screen them."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    metavar="SECONDS",
    help="Give a picture up after this time.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=Limits().max_pixels)
@click.option("--max-bytes", type=click.IntRange(min=1), default=Limits().max_bytes)
@click.pass_context
def screen(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: str,
    precision: Precision,
    engine: EngineName | None,
    providers: tuple[str, ...],
    threads: int,
    operating_point: str,
    as_json: bool,
    output: Path | None,
    heatmap: Path | None,
    dicom_sr: Path | None,
    dicom_sc: Path | None,
    auto_orient: bool,
    timeout: float | None,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Screen pictures: files, and folders with all that is in them.

    Exit status: 0 all screened, 1 some rejected or failed, 2 wrong usage.
    """
    found = find_pictures(paths)
    if found.skipped:
        _messages.print(f"{found.skipped} files in folders are not pictures by name: left out")
    if dicom_sr or dicom_sc:
        dicom_out.require()
    screener = Screener(
        model,
        precision=precision,
        engine=engine,
        threads=threads,
        operating_point=operating_point,
        limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
        auto_orient=auto_orient,
        timeout=timeout,
        providers=providers,
    )
    names = dict(zip(found.pictures, unique_names(found.pictures), strict=True))
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        results = stack.enter_context(ResultsFile(output, screener)) if output else None
        pending = []
        for path in found.pictures:
            status = results.status(str(path)) if results else None
            if status is None:
                pending.append(path)
            else:
                counts[status] += 1
        if len(pending) < len(found.pictures):
            _messages.print(
                f"{len(found.pictures) - len(pending)} pictures are in {output} already"
            )
        bar = stack.enter_context(_progress(len(pending)))
        task = bar.add_task("screening", total=len(pending))
        screenings = screen_in_order(
            partial(screener.screen, heatmap=bool(heatmap or dicom_sc)),
            pending,
            parallel=threads > 1,
        )
        for path, screening in zip(pending, screenings, strict=True):
            if screening.status == "screened":
                _write_extras(screening, path, names[path], heatmap, dicom_sr, dicom_sc)
            if results:
                results.write(screening)
            if as_json:
                click.echo(json.dumps(screening.to_dict()))
            elif not results:
                _results.print(_line(screening))
            counts[screening.status] += 1
            bar.advance(task)
    if len(found.pictures) > 1:
        _messages.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    if not found.pictures:
        _messages.print("xrayedge: no picture found in the folders given")
    ctx.exit(0 if set(counts) == {"screened"} else _NOT_ALL_SCREENED)


def _progress(pictures: int) -> Progress:
    """A bar on stderr where that is a terminal and there is more than one picture."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=_messages,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=pictures < 2 or not _messages.is_terminal,
    )


def _write_extras(
    screening: Screening,
    source: Path,
    name: str,
    heatmap: Path | None,
    dicom_sr: Path | None,
    dicom_sc: Path | None,
) -> None:
    if heatmap is not None and screening.heatmap is not None:
        _, png = cv2.imencode(".png", screening.heatmap)
        write_atomically(heatmap / f"{name}.png", png.tobytes())
    try:
        if dicom_sr is not None:
            report = dicom_out.structured_report(screening, source)
            write_atomically(dicom_sr / f"{name}.sr.dcm", report)
        if dicom_sc is not None:
            capture = dicom_out.secondary_capture(screening, source)
            write_atomically(dicom_sc / f"{name}.sc.dcm", capture)
    except ResultsError as error:
        _messages.print(f"xrayedge: {_printable(str(error))}")


def _line(screening: Screening) -> str:
    if screening.probabilities is None:
        line = f"{screening.status:<8}  {screening.reason}: {screening.detail}"
    else:
        scores = "  ".join(f"{name} {score:.3f}" for name, score in screening.probabilities.items())
        label = screening.label if screening.certain else f"uncertain, rather {screening.label}"
        line = (
            f"{screening.status:<8}  {screening.source}: {label}  ({scores}; "
            f"frontal {screening.frontal_score:.3f}; {screening.timings_ms['total']:.0f} ms)"
        )
    for title, notes in (("corrected", screening.corrections), ("warning", screening.warnings)):
        line += f"  [{title}: {', '.join(notes)}]" if notes else ""
    return _printable(line)


def _printable(text: str) -> str:
    """A file's name may hold line feeds, terminal commands, or bytes that are no text."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


@main.command()
@click.argument("bundles", nargs=-1)
def models(bundles: tuple[str, ...]) -> None:
    """List BUNDLES, or those that come with the package: their files, sizes and figures.

    Figures are of the classifier, on the pictures that it was compared with its float model on.
    """
    table = Table("model", "version", "format", "precision", "MB", "accuracy", "agreement", "")
    for name in bundles or shipped_bundles():
        bundle = ModelBundle.load(name)
        for variant in bundle.classifier.variants:
            figures = [variant.parity.get(name) for name in ("accuracy", "agreement")]
            table.add_row(
                bundle.name,
                bundle.version,
                variant.format,
                variant.precision,
                f"{variant.size_bytes / 1e6:.1f}",
                *("" if figure is None else f"{figure:.3f}" for figure in figures),
                "" if variant.meets_floor else "under the floor",
            )
    _results.print(table)


def _thread_counts(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    counts = [int(part) if part.strip().isdigit() else 0 for part in value.split(",")]
    if min(counts) < 1:
        raise click.BadParameter(f"{value!r} is not numbers of threads such as 1,2,4")
    return list(dict.fromkeys(counts))


def _print_table(table: TextTable) -> None:
    """In its natural width, however narrow the terminal: no cell is cut off."""
    drawn = Table(*table.headings)
    for row in table.rows:
        drawn.add_row(*row)
    _wide_results.print(drawn)


@main.command()
@click.option(
    "--model", "models", multiple=True, help="A bundle, shipped or a folder. Default: all shipped."
)
@click.option("--precision", "precisions", type=click.Choice(get_args(Precision)), multiple=True)
@click.option("--engine", "engines", type=click.Choice(get_args(EngineName)), multiple=True)
@click.option("--threads", default="1", show_default=True, callback=_thread_counts, metavar="N,N")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled pictures: adds accuracy.")
@_where
@click.option(
    "--min-agreement",
    type=click.FloatRange(0.0, 1.0),
    help="Exit status 1 if a file gives float32's label on a smaller share of DATA.",
)
@click.option("--stage", is_flag=True, help="Also time each stage, from file to heatmap.")
@click.option(
    "--picture",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Time the stages of this file. Default: a DICOM and a JPEG in two sizes.",
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
    from .bench import accuracy, cases, figure, stages, tables
    from .bench.benchmark import benchmark

    if compare is not None:
        _compare(*compare)
        return
    if data is None and (min_agreement is not None or plot is not None or where):
        raise click.UsageError("--min-agreement, --plot and --where need --data")
    if plot is not None:
        figure.check_matplotlib()
    bundles, damaged = cases.load_bundles(models or shipped_bundles())
    if not bundles:
        raise damaged[0]
    for error in damaged:
        _messages.print(f"xrayedge: left out: {error}")
    chosen = cases.choose_cases(bundles, precisions=precisions, engines=engines, threads=threads)
    samples = () if data is None else accuracy.load_samples(data, where)
    with (
        tempfile.TemporaryDirectory(prefix="xrayedge-bench-") as folder,
        Progress(console=_messages, transient=True) as bar,
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
        _print_table(tables.machine_table(report))
        _print_table(tables.rows_table(report))
        if report.stages:
            _print_table(tables.stages_table(report))
        for note in tables.notes(report):
            _results.print(note)
    if report.interrupted:
        ctx.exit(_INTERRUPTED)
    if plot is not None:
        write_atomically(plot, figure.latency_accuracy_figure(report, plot.suffix.lstrip(".")))
    under = [] if min_agreement is None else report.under(min_agreement)
    for row in under:
        _messages.print(f"xrayedge: under --min-agreement {min_agreement}: {row.title}")
    if under or damaged or report.errors:
        ctx.exit(1)


def _compare(old: Path, new: Path) -> None:
    from .bench.compare import changes, changes_table, differences
    from .bench.report import Report

    reports = Report.read(old), Report.read(new)
    _print_table(changes_table(changes(*reports)))
    for line in differences(*reports):
        _results.print(line)


def _quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _data_name(data: Path, where: list[tuple[str, str]]) -> dict[str, Any]:
    return {"name": data.name, "where": [f"{column}={value}" for column, value in where]}


def _show_epoch(number: int, total: int, epoch: Epoch) -> None:
    val = ""
    if epoch.val_loss is not None:
        val = f"val loss {epoch.val_loss:.4f}  val accuracy {epoch.val_accuracy:.3f}  "
    _messages.print(
        f"epoch {number}/{total}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  "
        f"{val}{epoch.seconds:.0f} s"
    )


_training_precision = click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    help="Arithmetic of the training; bfloat16 halves the time where the processor has it.",
)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder.")
@click.option("--recipe", "recipe_name", default="vgg16", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Local ImageNet weights, .npz.")
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    help="A finished run to go on with: its model, widths and preprocessing.",
)
@click.option("--seed", type=int, help="Another seed than the recipe's.")
@_training_precision
@click.option(
    "--leave-one-source-out",
    is_flag=True,
    help="Train once without each of the data's sources and evaluate on it; a run for each.",
)
@_where
def train(
    data: Path,
    out: Path,
    recipe_name: str,
    weights: Path | None,
    start: Path | None,
    seed: int | None,
    precision: str | None,
    leave_one_source_out: bool,
    where: list[tuple[str, str]],
) -> None:
    """Train a model on DATA, a folder per class or a manifest CSV. Goes on where it stopped."""
    _quiet_tensorflow()
    from .data import load_dataset
    from .training.recipe import RECIPES
    from .training.run import RunRecord

    if recipe_name not in RECIPES:
        raise click.BadParameter(f"no recipe {recipe_name!r}; there are {', '.join(RECIPES)}")
    changes: dict[str, Any] = {"seed": seed, "precision": precision}
    recipe = replace(
        RECIPES[recipe_name],
        **{name: value for name, value in changes.items() if value is not None},
    )
    if start is not None:
        recipe = recipe.for_network_of(RunRecord.read(start).recipe)
    dataset = load_dataset(
        data,
        where,
        seed=recipe.seed,
        with_val=recipe.keep == "best",
        turned_of=recipe.turned_label,
    )
    for split, counts in dataset.summary().items():
        listed = ", ".join(f"{count} {label}" for label, count in counts.items())
        _messages.print(f"{split}: {listed}")

    data_name = _data_name(data, where)
    if leave_one_source_out:
        from .training.generalisation import leave_one_source_out as folds

        def announce(source: str) -> Callable[[int, int, Epoch], None]:
            _messages.print(f"without {source}")
            return _show_epoch

        evaluations = {
            fold.source: fold.evaluation
            for fold in folds(
                dataset, recipe, out, data_name=data_name, weights=weights, progress=announce
            )
        }
        _wide_results.print(_parts_table("source, by a model that never saw it", evaluations))
        return
    from .training.train import train as run_training

    record = run_training(
        dataset,
        recipe,
        out,
        data_name=data_name,
        weights=weights,
        start=start,
        progress=_show_epoch,
    )
    best = record.best_epoch
    assert best is not None
    _messages.print(
        f"kept epoch {best + 1} of {len(record.history)}, "
        f"temperature {record.temperature:.3f}; {out}"
    )


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="What trained RUN: the narrower network learns from its pictures.",
)
@click.option(
    "--target-macs",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    required=True,
    metavar="FRACTION",
    help="Of RUN's multiply-accumulates, and of its weights, to keep at most.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new run folder.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Prune in so many steps, with a short recovery between them.",
)
@click.option(
    "--half-side",
    is_flag=True,
    help="Halve the side of the input too; FRACTION counts from the quarter that this leaves.",
)
@click.option(
    "--views",
    type=click.Path(path_type=Path),
    help="Keep the varied pictures and RUN's maps of them here, for other fractions.",
)
@click.option(
    "--view-count",
    type=click.IntRange(1),
    metavar="N",
    help="Show N varied views of each picture to RUN.  [default: 10]",
)
@click.option("--epochs", type=click.IntRange(1), help="Of the last recovery.  [default: 8]")
@_training_precision
def prune(
    run: Path,
    data: Path,
    target_macs: float,
    out: Path,
    steps: int,
    half_side: bool,
    views: Path | None,
    view_count: int | None,
    epochs: int | None,
    precision: str | None,
) -> None:
    """Make a narrower, faster network of the one in RUN. Goes on where it stopped."""
    _quiet_tensorflow()
    from .training.network import ARCHITECTURES
    from .training.pruning import FINAL, VIEWS, layer_costs
    from .training.pruning import prune as run_pruning
    from .training.run import RunRecord

    changes: dict[str, Any] = {"precision": precision} if precision else {}
    if epochs:
        changes["phases"] = (replace(FINAL, epochs=epochs),)
    record = run_pruning(
        run,
        RunRecord.read(run).load_data(data),
        target_macs,
        out,
        steps=steps,
        half_side=half_side,
        views=views,
        view_count=view_count or VIEWS,
        changes=changes,
        progress=_show_epoch,
        on_view=lambda number, total: _messages.print(f"view {number}/{total}"),
    )
    recipe = record.recipe
    assert recipe.widths is not None
    operations, weights = layer_costs(
        recipe.widths,
        recipe.preprocessing.size,
        len(record.classes),
        ARCHITECTURES[recipe.architecture].pool_last,
    )
    widths = ", ".join("-".join(str(width) for width in block) for block in recipe.widths)
    _messages.print(
        f"widths {widths}: {sum(operations) / 1e9:.2f} G multiply-accumulates, "
        f"{sum(weights) / 1e6:.2f} M weights, temperature {record.temperature:.3f}; {out}"
    )


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="What trained the first; its split val fits the temperature.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new run folder.")
def average(runs: tuple[Path, ...], data: Path, out: Path) -> None:
    """Average the weights of RUNS that began with one another into a run of its own."""
    _quiet_tensorflow()
    from .training.averaging import average as average_runs
    from .training.run import RunRecord

    record = average_runs(runs, RunRecord.read(runs[0]).load_data(data), out)
    _messages.print(f"average of {len(runs)} runs, temperature {record.temperature:.3f}; {out}")


@main.command()
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
@_precision
@_engine
@_where
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
    _quiet_tensorflow()
    import numpy as np
    from rich.progress import track

    from . import evaluation
    from .data import load_dataset
    from .training.run import RECORD

    if (Path(model) / RECORD).is_file():
        if operating_point is not None:
            raise click.UsageError("--operating-point is for bundles; a run has none")
        from .training.scoring import scoring_model

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
        for sample in track(samples, "scoring", console=_messages, transient=True)
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
        from .evaluation.report import Judged, write_report

        maps = np.stack([found for _, found in judgements])
        judged = Judged(samples, scoring.classes, scoring.preprocessing, scores, maps)
        filters = "".join(f", {column}={value}" for column, value in where)
        write_report(out, f"{Path(model).name} on {data.name}{filters}", judged, result, parts)
    _print_evaluation(result, scoring.classes)
    for column, evaluations in parts.items():
        _wide_results.print(_parts_table(column, evaluations))


def _print_evaluation(
    result: Evaluation | GateEvaluation,
    classes: tuple[str, ...],
    passed: dict[str, int] | None = None,
) -> None:
    figures = Table("figure", "value", "95 % interval")
    for name, figure in result.figures.items():
        figures.add_row(name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}")
    _results.print(f"{result.pictures} pictures of {result.patients} patients")
    _results.print(figures)
    confusion = Table("true \\ predicted", *classes, *(["passed"] if passed else []))
    for true, row in result.confusion.items():
        counts = [*row.values(), *([passed[true]] if passed else [])]
        confusion.add_row(true, *map(str, counts))
    _wide_results.print(confusion)


def _parts_table(column: str, evaluations: dict[str, Evaluation]) -> Table:
    found = dict.fromkeys(name for part in evaluations.values() for name in part.figures)
    shown = [name for name in found if name.startswith(("accuracy", "recall/", "auc/"))]
    table = Table(column, "pictures", *shown)
    for value, part in evaluations.items():
        cells = [str(part.figures.get(name, "")) for name in shown]
        table.add_row(value, str(part.pictures), *cells)
    return table


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="What trained RUN.")
@click.option(
    "--frontal-from",
    default=DEFAULT_MODEL,
    show_default=True,
    help="The bundle whose frontal check to take over.",
)
@click.option(
    "--frontal-run",
    type=click.Path(path_type=Path),
    help="Convert the frontal check of this run instead, trained on --frontal-data.",
)
@click.option("--frontal-data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new bundle.")
@click.option("--name", help="The model's name; the bundle folder's without one.")
@click.option("--model-version", default="0.1.0", show_default=True)
@click.option(
    "--format",
    "formats",
    type=click.Choice(get_args(ModelFormat)),
    multiple=True,
    help="Only files of this format; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(get_args(Precision)),
    multiple=True,
    help="Only files of this precision; may be repeated.",
)
@click.option(
    "--parity-data",
    type=click.Path(path_type=Path),
    help="Labelled pictures to compare every file with the float model on. Default: DATA.",
)
@_where
@click.option("--debug-layers", is_flag=True, help="Name the layers that int8 serves worst.")
@click.option(
    "--force", is_flag=True, help="Replace the bundle, and write files under the floor as well."
)
@click.pass_context
def convert(
    ctx: click.Context,
    run: Path,
    data: Path,
    frontal_from: str,
    frontal_run: Path | None,
    frontal_data: Path | None,
    out: Path,
    name: str | None,
    model_version: str,
    formats: tuple[ModelFormat, ...],
    precisions: tuple[Precision, ...],
    parity_data: Path | None,
    where: list[tuple[str, str]],
    debug_layers: bool,
    force: bool,
) -> None:
    """Convert a classifier's RUN into a bundle for devices, with a frontal check beside it.

    Every file is compared with the float model on labelled pictures before it is written: the
    `test` split of DATA, or the rows of --parity-data or DATA that --where chooses.

    Exit status: 0 all written, 1 some file was under its floor and left out, 2 wrong usage.
    """
    if (frontal_run is None) != (frontal_data is None):
        raise click.UsageError("--frontal-run and --frontal-data go together.")
    _quiet_tensorflow()
    from .converters.convert import TrainedRun
    from .converters.convert import convert as run_conversion
    from .converters.variants import variants_of
    from .data import load_dataset

    variants = variants_of(formats, precisions)
    parity_samples = (
        load_dataset(parity_data or data, where, complete=False).samples
        if parity_data or where
        else ()
    )
    bundle = run_conversion(
        TrainedRun.open(run, data),
        TrainedRun.open(frontal_run, frontal_data)
        if frontal_run and frontal_data
        else ModelBundle.load(frontal_from),
        out,
        name=name or out.name,
        model_version=model_version,
        variants=variants,
        parity_samples=parity_samples,
        force=force,
        debug_layers=debug_layers,
        progress=_messages.print,
    )
    size = sum(variant.size_bytes for variant in bundle.variants())
    _messages.print(f"{out}: {size / 1e6:.1f} MB")
    ctx.exit(0 if len(bundle.classifier.variants) == len(variants) else _NOT_ALL_WRITTEN)


@main.command()
@click.option(
    "--model", "models", multiple=True, help="A bundle to check; all shipped ones without it."
)
@click.option("--provider", help="Run ONNX files with this execution provider.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def doctor(
    ctx: click.Context,
    models: tuple[str, ...],
    provider: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Examine this device: engines, processor, and every model file's golden vectors.

    Exit status: 0 fit to screen, 1 no engine or a file that differs or fails, 2 wrong usage.
    """
    from .doctor import diagnose

    diagnosis = diagnose(models or shipped_bundles(), threads=threads, provider=provider)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict()))
    else:
        _print_diagnosis(diagnosis)
    ctx.exit(0 if diagnosis.healthy else _NOT_FIT)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    machine = diagnosis.machine
    _results.print(
        f"xrayedge {machine.versions['xrayedge']}, Python {machine.python}, {machine.system}\n"
        f"processor: {machine.cpu or 'name not available'} ({machine.architecture}), "
        f"{machine.usable_cores} of {machine.cores} cores, {diagnosis.threads} threads in use; "
        f"features: {' '.join(machine.cpu_features) or 'not available'}"
    )
    for engine in diagnosis.engines:
        found = f"{engine.package} {engine.version}" if engine.package else "not installed"
        providers = f" ({', '.join(engine.providers)})" if engine.providers else ""
        _results.print(f"engine {engine.name}: {found}{providers}")
    for check in diagnosis.checks:
        found = check.detail or f"largest difference {check.largest_difference:.5f}"
        runs_on = f"{check.engine}, {check.provider}" if check.provider else check.engine
        _results.print(f"{check.status:<11}  {check.model} {check.file} ({runs_on}): {found}")
    for warning in diagnosis.warnings:
        _messages.print(f"xrayedge: {warning}")
