"""`screen`: images in, results out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn, Progress

from ..batch import Batch, Item, Outputs, find_images
from ..bundle import Precision
from ..engines import EngineName
from ..imaging import Limits
from ..result import Screening
from ..screening import Screener
from .options import (
    Number,
    engine_option,
    folder_option,
    max_bytes_option,
    max_pixels_option,
    model_option,
    precision_option,
    refuse_ignored,
    site_option,
)
from .printing import messages, printable, quiet_engines, results
from .stdin import read_stdin

_NOT_ALL_SCREENED = 1
_STDIN = Path("-")
_RESULTS_FILE = click.Path(path_type=Path, dir_okay=False)


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
@click.option("--threads", type=click.IntRange(min=1), default=1)
@click.option(
    "--operating-point",
    default="balanced",
    help="balanced; sensitive: finds more COVID-19 and raises more false alarms; or specific: "
    "calls fewer healthy people ill and misses more.",
)
@site_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per image, one per line."
)
@click.option(
    "--out",
    type=_RESULTS_FILE,
    metavar="FILE",
    help="Write the results to this .csv or .jsonl file; resume it if it exists.",
)
@click.option("--output", "old_out", type=_RESULTS_FILE, hidden=True)
@folder_option("--heatmap", "Write an overlay PNG for each screened image into this folder.")
@folder_option("--dicom-sr", "Write a DICOM structured report for each screened DICOM file here.")
@folder_option("--dicom-sc", "Write the overlay as DICOM Secondary Capture for each of them here.")
@click.option(
    "--auto-orient", is_flag=True, help="Correct rotated and inverted images, and screen them."
)
@click.option(
    "--timeout",
    type=Number(0, 86_400, min_open=True),
    metavar="SECONDS",
    help="Give up on an image after this time.",
)
@max_pixels_option
@max_bytes_option
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
    site: Path | None,
    as_json: bool,
    out: Path | None,
    old_out: Path | None,
    heatmap: Path | None,
    dicom_sr: Path | None,
    dicom_sc: Path | None,
    auto_orient: bool,
    timeout: float | None,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Screen images: files, and folders with everything in them.

    "-" reads standard input: an image, or paths, each on a line, in a JSON string on a line, or
    ended by a zero byte. A path is screened as soon as it arrives, so with --json a program that
    runs for a long time can write a path, read a line, and so on.

    Exit status: 0 all screened, 1 some rejected or failed, 2 wrong usage or an output that can't
    be written, 130 Ctrl-C.
    """
    if out and old_out:
        raise click.UsageError("--output is the old name of --out; give one of them.")
    if site is not None:
        refuse_ignored(ctx, "with --site, which has a point of its own", "operating_point")
    outputs = Outputs(results=out or old_out, heatmaps=heatmap, reports=dicom_sr, captures=dicom_sc)
    streamed = _STDIN in paths
    if streamed and len(paths) > 1:
        raise click.UsageError("- must stand alone: write other paths to standard input.")
    found = find_images(() if streamed else paths)
    for folder in found.unreadable:
        messages.print(f"xrayedge: {printable(folder)}")
    if found.skipped:
        messages.print(f"{found.skipped} files in folders are not images by name: left out")
    with quiet_engines():
        screener = Screener(
            model,
            precision=precision,
            engine=engine,
            threads=threads,
            operating_point=operating_point,
            site=site,
            limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
            auto_orient=auto_orient,
            timeout=timeout,
            providers=providers,
        )
    counts: Counter[str] = Counter()
    with screener:
        given = read_stdin(max_bytes) if streamed else None
        if isinstance(given, bytes):
            names = ("out", "old_out", "heatmap", "dicom_sr", "dicom_sc")
            refuse_ignored(ctx, "on an image from standard input, which has no name", *names)
            item = Item(_STDIN, screener.screen(given))
            _show(item, as_json=as_json, quiet=False)
            counts[item.screening.status] += 1
        else:
            images = found.images if given is None else given
            _screen_all(screener, images, outputs, counts, as_json=as_json, parallel=threads > 1)
    if counts.total() > 1:
        messages.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    if not counts:
        messages.print("xrayedge: no image found")
    whole = set(counts) == {"screened"} and not found.unreadable
    ctx.exit(0 if whole else _NOT_ALL_SCREENED)


def _screen_all(
    screener: Screener,
    images: Iterable[Path],
    outputs: Outputs,
    counts: Counter[str],
    *,
    as_json: bool,
    parallel: bool,
) -> None:
    """Screen a list or a stream of images, and print and count the results."""
    with Batch(screener, outputs) as batch:
        total = None
        if isinstance(images, tuple):
            pending = batch.pending(images)
            counts.update(batch.status(one) or "" for one in set(images).difference(pending))
            if counts:
                messages.print(f"{counts.total()} images are in {outputs.results} already")
            images, total = pending, len(pending)
        try:
            with _progress(total) as bar:
                task = bar.add_task("screening", total=total)
                for item in batch.screen(images, parallel=parallel):
                    _show(item, as_json=as_json, quiet=outputs.results is not None)
                    counts[item.screening.status] += 1
                    bar.advance(task)
        except KeyboardInterrupt:
            if outputs.results is not None:
                messages.print(
                    f"{counts.total()} images are in {outputs.results}; "
                    "run the same command to resume"
                )
            raise


def _show(item: Item, *, as_json: bool, quiet: bool) -> None:
    """Print a result, as JSON or, where it is not written to a file, as a line for people."""
    if as_json:
        click.echo(json.dumps(item.screening.to_dict()))
    elif not quiet:
        results.print(_line(item.screening))
    for problem in item.problems:
        messages.print(f"xrayedge: {printable(problem)}")


def _progress(images: int | None) -> Progress:
    """A bar on stderr, if that is a terminal and the number of images is known and above one."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=messages,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=images is None or images < 2 or not messages.is_terminal,
    )


def _line(screening: Screening) -> str:
    if screening.probabilities is None:
        line = f"{screening.status:<8}  {screening.reason}: {_by_option(screening.detail or '')}"
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


def _by_option(detail: str) -> str:
    """A limit by the name of its option, not of the library's attribute."""
    for name in ("max_pixels", "max_bytes"):
        detail = detail.replace(f"Limits.{name}", f"--{name.replace('_', '-')}")
    return detail
