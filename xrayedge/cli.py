"""The command line: arguments and printing only; each verb is one call into the library."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import cv2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from . import dicom_out
from .batch import find_pictures, screen_in_order, unique_names
from .bundle import ModelBundle, Precision, shipped_bundles
from .engines import EngineName
from .errors import ResultsError, XrayEdgeError
from .files import write_atomically
from .imaging import Limits
from .results import ResultsFile
from .screening import Screener, Screening

_NOT_ALL_SCREENED = 1
_USAGE_ERROR = 2
_COLUMN = 14  # least width of a confusion table's, in characters

# Markup off: a file's name may hold brackets.
_results = Console(highlight=False, soft_wrap=True, markup=False)
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
    "--model", default="vgg16", show_default=True, help="A shipped bundle or a bundle's folder."
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
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
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
@click.option("--max-pixels", type=click.IntRange(min=1), default=Limits().max_pixels)
@click.option("--max-bytes", type=click.IntRange(min=1), default=Limits().max_bytes)
@click.pass_context
def screen(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: str,
    precision: Precision,
    engine: EngineName | None,
    threads: int,
    as_json: bool,
    output: Path | None,
    heatmap: Path | None,
    dicom_sr: Path | None,
    dicom_sc: Path | None,
    auto_orient: bool,
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
        limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
        auto_orient=auto_orient,
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
        line = (
            f"{screening.status:<8}  {screening.source}: {screening.label}  ({scores}; "
            f"frontal {screening.frontal_score:.3f}; {screening.timings_ms['total']:.0f} ms)"
        )
    for title, notes in (("corrected", screening.corrections), ("warning", screening.warnings)):
        line += f"  [{title}: {', '.join(notes)}]" if notes else ""
    return _printable(line)


def _printable(text: str) -> str:
    """A file's name may hold line feeds, terminal commands, or bytes that are no text."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


@main.command()
def models() -> None:
    """List the bundles that come with the package and their files."""
    table = Table("model", "version", "format", "precision", "MB", "classes")
    for name in shipped_bundles():
        bundle = ModelBundle.load(name)
        for variant in bundle.classifier.variants:
            table.add_row(
                name,
                bundle.version,
                variant.format,
                variant.precision,
                f"{variant.size_bytes / 1e6:.1f}",
                ", ".join(bundle.classifier.classes),
            )
    _results.print(table)


def _quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder.")
@click.option("--recipe", "recipe_name", default="vgg16", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Local ImageNet weights, .npz.")
@click.option("--seed", type=int, help="Another seed than the recipe's.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    help="Arithmetic of the training; bfloat16 halves the time where the processor has it.",
)
@_where
def train(
    data: Path,
    out: Path,
    recipe_name: str,
    weights: Path | None,
    seed: int | None,
    precision: str | None,
    where: list[tuple[str, str]],
) -> None:
    """Train a model on DATA, a folder per class or a manifest CSV. Goes on where it stopped."""
    _quiet_tensorflow()
    from .training.data import load_dataset
    from .training.recipe import RECIPES
    from .training.run import Epoch

    if recipe_name not in RECIPES:
        raise click.BadParameter(f"no recipe {recipe_name!r}; there are {', '.join(RECIPES)}")
    changes: dict[str, Any] = {"seed": seed, "precision": precision}
    recipe = replace(
        RECIPES[recipe_name],
        **{name: value for name, value in changes.items() if value is not None},
    )
    dataset = load_dataset(data, where, seed=recipe.seed, turned_of=recipe.turned_label)
    for split, counts in dataset.summary().items():
        listed = ", ".join(f"{count} {label}" for label, count in counts.items())
        _messages.print(f"{split}: {listed}")

    def show(number: int, total: int, epoch: Epoch) -> None:
        _messages.print(
            f"epoch {number}/{total}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  "
            f"val loss {epoch.val_loss:.4f}  val accuracy {epoch.val_accuracy:.3f}  "
            f"{epoch.seconds:.0f} s"
        )

    from .training.train import train as run_training

    record = run_training(
        dataset,
        recipe,
        out,
        data_name={"name": data.name, "where": [f"{column}={value}" for column, value in where]},
        weights=weights,
        progress=show,
    )
    best = record.best_epoch
    assert best is not None
    _messages.print(f"best epoch {best + 1}, temperature {record.temperature:.3f}; {out}")


@main.command()
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON here.")
@click.option("--frontal", is_flag=True, help="Evaluate a bundle's frontal check, by kind.")
@_precision
@_engine
@_where
def evaluate(
    model: str,
    data: Path,
    out: Path | None,
    frontal: bool,
    precision: Precision,
    engine: EngineName | None,
    where: list[tuple[str, str]],
) -> None:
    """Evaluate MODEL, a bundle or a training run, on the labelled pictures of DATA."""
    _quiet_tensorflow()
    import numpy as np
    from rich.progress import track

    from .training import evaluation
    from .training.data import load_dataset
    from .training.run import RECORD

    if (Path(model) / RECORD).is_file():
        scoring = evaluation.ScoringModel.from_run(Path(model))
    else:
        scoring = evaluation.ScoringModel.from_bundle(model, precision, engine, frontal=frontal)
    turned_of = scoring.gate[0] if scoring.gate else None
    samples = load_dataset(data, where, complete=False, turned_of=turned_of).samples
    scores = np.stack(
        [
            scoring.score(sample)
            for sample in track(samples, "scoring", console=_messages, transient=True)
        ]
    )
    result: evaluation.Evaluation | evaluation.GateEvaluation
    if scoring.gate:
        result = evaluation.evaluate_gate(samples, scoring.classes, scores, scoring.gate)
    else:
        result = evaluation.evaluate(samples, scoring.classes, scores)
    if out is not None:
        write_atomically(out, (json.dumps(result.to_dict(), indent=2) + "\n").encode())
    figures = Table("figure", "value", "95 % interval")
    for name, figure in result.figures.items():
        figures.add_row(name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}")
    _results.print(f"{result.pictures} pictures of {result.patients} patients")
    _results.print(figures)
    passed = result.passed if isinstance(result, evaluation.GateEvaluation) else None
    confusion = Table("true \\ predicted", *scoring.classes, *(["passed"] if passed else []))
    for true, row in result.confusion.items():
        counts = [*row.values(), *([passed[true]] if passed else [])]
        confusion.add_row(true, *map(str, counts))
    _results.width = max(_results.width, _COLUMN * (len(confusion.columns) + 1))
    _results.print(confusion)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="What trained RUN.")
@click.option("--frontal-run", type=click.Path(path_type=Path), required=True)
@click.option("--frontal-data", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new bundle.")
@click.option("--name", help="The model's name; the bundle folder's without one.")
@click.option("--model-version", default="0.1.0", show_default=True)
def convert(
    run: Path,
    data: Path,
    frontal_run: Path,
    frontal_data: Path,
    out: Path,
    name: str | None,
    model_version: str,
) -> None:
    """Convert a classifier's RUN and a frontal check's into a bundle for devices."""
    _quiet_tensorflow()
    from .converters.convert import TrainedRun
    from .converters.convert import convert as run_conversion

    bundle = run_conversion(
        TrainedRun.open(run, data),
        TrainedRun.open(frontal_run, frontal_data),
        out,
        name=name or out.name,
        model_version=model_version,
        progress=_messages.print,
    )
    size = sum(variant.size_bytes for variant in bundle.classifier.variants)
    _messages.print(f"{out}: {size / 1e6:.1f} MB")
