"""`screen`: images in, results out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn, Progress

from ..batch import Batch, Item, Outputs, find_images
from ..bundle import Precision
from ..engines import EngineName
from ..imaging import Limits
from ..result import Screening
from ..screening import Screener
from .options import engine_option, folder_option, model_option, precision_option
from .printing import messages, printable, results

_NOT_ALL_SCREENED = 1


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@precision_option
@engine_option
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
@folder_option("--heatmap", "Write an overlay PNG for each screened picture into this folder.")
@folder_option("--dicom-sr", "Write a DICOM structured report for each screened DICOM file here.")
@folder_option("--dicom-sc", "Write the overlay as DICOM Secondary Capture for each of them here.")
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
    found = find_images(paths)
    for folder in found.unreadable:
        messages.print(f"xrayedge: {printable(folder)}")
    if found.skipped:
        messages.print(f"{found.skipped} files in folders are not images by name: left out")
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
    outputs = Outputs(results=output, heatmaps=heatmap, reports=dicom_sr, captures=dicom_sc)
    with screener, Batch(screener, outputs) as batch:
        pending = batch.pending(found.images)
        counts = Counter(map(batch.status, set(found.images).difference(pending)))
        if counts:
            messages.print(f"{counts.total()} images are in {output} already")
        with _progress(len(pending)) as bar:
            task = bar.add_task("screening", total=len(pending))
            for item in batch.screen(pending, parallel=threads > 1):
                _show(item, as_json=as_json, quiet=output is not None)
                counts[item.screening.status] += 1
                bar.advance(task)
    if len(found.images) > 1:
        messages.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    if not found.images:
        messages.print("xrayedge: no image found in the folders given")
    whole = set(counts) == {"screened"} and not found.unreadable
    ctx.exit(0 if whole else _NOT_ALL_SCREENED)


def _show(item: Item, *, as_json: bool, quiet: bool) -> None:
    """Print a result, as JSON or, where it is not written to a file, as a line for people."""
    if as_json:
        click.echo(json.dumps(item.screening.to_dict()))
    elif not quiet:
        results.print(_line(item.screening))
    for problem in item.problems:
        messages.print(f"xrayedge: {printable(problem)}")


def _progress(pictures: int) -> Progress:
    """A bar on stderr where that is a terminal and there is more than one picture."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=messages,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=pictures < 2 or not messages.is_terminal,
    )


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
    return printable(line)
