"""`archive`: many images on Dask, shard by shard."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn

from ..bundle import Precision
from ..engines import EngineName
from ..imaging import Limits
from .options import (
    Number,
    engine_option,
    max_bytes_option,
    max_pixels_option,
    model_option,
    precision_option,
    refuse_ignored,
    site_option,
)
from .printing import messages, printable, quiet_engines

if TYPE_CHECKING:
    from distributed import Client

    from ..archive.plan import Plan
    from ..archive.process import Job

_NOT_ALL_SCREENED = 1
_DEFAULT = "run"
_LINE_SECONDS = 30.0  # between two lines of progress where stderr is no terminal
_LEAST_MEMORY = 500  # 10^6 bytes: a process holds some 260 of data before its first image
_FOLDER = click.Path(path_type=Path, file_okay=False)


class _Group(click.Group):
    """Passes anything that is not one of its verbs to `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def archive() -> None:
    """Screen an archive: up to millions of images, in shards on Dask.

    `xrayedge archive INPUT --out FOLDER` writes Parquet files into FOLDER; the same
    command resumes it after any interruption. `xrayedge archive run -h` shows its options.
    """


@archive.command(_DEFAULT)
@click.argument("source", metavar="INPUT")
@click.option("--out", required=True, type=_FOLDER, metavar="FOLDER", help="For the Parquet files.")
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster, such as tcp://host:8786.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    show_default="one for each core",
    help="Processes on this machine that screen.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    show_default="500",
    help="Images of a Parquet file.",
)
@model_option
@precision_option
@engine_option
@click.option("--operating-point", default="balanced", help="balanced, sensitive or specific.")
@site_option
@click.option(
    "--auto-orient", is_flag=True, help="Correct rotated and inverted images, and screen them."
)
@click.option(
    "--time-limit",
    type=Number(0, 86_400, min_open=True),
    default=120.0,
    metavar="SECONDS",
    help="Give up on an image after this time.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=_LEAST_MEMORY),
    metavar="MB",
    show_default="the machine's, shared among its workers",
    help="Memory limit of a screening process.",
)
@click.option(
    "--dashboard/--no-dashboard",
    default=True,
    help="Serve Dask's pages to this machine; loading them takes some seconds.",
)
@max_pixels_option
@max_bytes_option
@click.pass_context
def run(
    ctx: click.Context,
    source: str,
    out: Path,
    scheduler: str | None,
    workers: int | None,
    shard_size: int | None,
    model: str,
    precision: Precision,
    engine: EngineName | None,
    operating_point: str,
    site: Path | None,
    auto_orient: bool,
    time_limit: float,
    memory: int | None,
    dashboard: bool,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Screen INPUT: a folder, a .csv or .parquet list, or s3://BUCKET/PREFIX.

    A list has its paths and s3:// or http(s):// URLs in a column `source`, `path` or `url`. The
    word `run` may be left out.

    Exit status: 0 all screened, 1 some rejected or failed, 2 wrong usage or nothing can be
    screened, 130 Ctrl-C.
    """
    from ..archive.process import Job
    from ..site import SiteProfile

    if scheduler is not None:
        refuse_ignored(
            ctx, "with --scheduler, which has workers of its own", "workers", "dashboard"
        )
    if site is not None:
        refuse_ignored(ctx, "with --site, which has a point of its own", "operating_point")
    job = Job(
        model=model,
        precision=precision,
        engine=engine,
        operating_point=operating_point,
        site=None if site is None else SiteProfile.load(site),
        limits=Limits(max_bytes=max_bytes, max_pixels=max_pixels),
        auto_orient=auto_orient,
        memory=None if memory is None else memory * 1_000_000,
        time_limit=time_limit,
    )
    # Absolute: workers may have another working folder.
    ctx.exit(_run(source, out.absolute(), job, scheduler, workers, shard_size, dashboard))


@archive.command()
@click.argument("folder", type=_FOLDER)
def status(folder: Path) -> None:
    """Show the progress of the archive in FOLDER, even while it runs."""
    from ..archive.status import status as read_status

    found = read_status(folder)
    plan = found.plan
    click.echo(
        f"{found.images:,} of {plan.images:,} images, {found.finished:,} of {plan.shards:,} parts"
    )
    for name, count in sorted(found.statuses.items()):
        click.echo(f"{count:>12,} {name}")
    for name, count in sorted(found.reasons.items(), key=lambda one: -one[1]):
        click.echo(f"{count:>12,}   {name}")


@archive.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--out",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    show_default="FOLDER/report.html",
    help="The page.",
)
@click.option(
    "--model",
    show_default="the one that the archive names",
    help="Bundle that screened it, whose reference the scores are compared with.",
)
def report(folder: Path, page: Path | None, model: str | None) -> None:
    """Write one HTML page about the archive in FOLDER: counts, scores, drift, speed.

    Works while the archive runs; the report covers what is finished.
    """
    from ..archive.report import write_report

    page = page or folder / "report.html"
    summary = write_report(folder, page, model)
    rows = sum(summary.statuses.values())
    messages.print(f"{page}: {rows:,} of {summary.plan.images:,} images")


def _run(
    source: str,
    out: Path,
    job: Job,
    scheduler: str | None,
    workers: int | None,
    shard_size: int | None,
    dashboard: bool,
) -> int:
    """Screen, and the exit status."""
    from ..archive.engine import cluster_at, local_cluster, share
    from ..archive.plan import locked, open_plan
    from ..archive.sources import open_input
    from ..archive.status import status as read_status

    with locked(out):
        with quiet_engines():
            job, settings = job.settled()
        plan, left_out = open_plan(
            out, open_input(source), settings, shard_size=shard_size, listed=_listed
        )
        if left_out is not None:
            for folder in left_out.unreadable:
                messages.print(f"xrayedge: {printable(folder)}")
            if left_out.not_images:
                messages.print(f"{left_out.not_images} files are not images by name: left out")
        finished = sum(map(plan.size_of, plan.finished()))
        if finished:
            messages.print(f"{finished:,} of {plan.images:,} images are in {out} already")
        if finished < plan.images:
            if scheduler is not None:
                cluster = cluster_at(scheduler)
            else:
                workers, job = share(job, workers)
                cluster = local_cluster(workers, dashboard=dashboard)
            with cluster as client:
                if dashboard:
                    messages.print(f"dashboard: {client.dashboard_link}")
                _screen(plan, job, client, finished)
        plan.clean()
    statuses = read_status(out).statuses
    messages.print(", ".join(f"{count:,} {name}" for name, count in sorted(statuses.items())))
    whole = set(statuses) == {"screened"} and not (left_out and left_out.unreadable)
    return 0 if whole else _NOT_ALL_SCREENED


def _listed(count: int) -> None:
    if messages.is_terminal:
        messages.print(f"{count:,} images listed", end="\r")


def _screen(plan: Plan, job: Job, client: Client, finished: int) -> None:
    from ..archive.engine import screen_plan

    started = told = time.monotonic()
    already = finished
    bar = Progress(
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("starting", total=plan.images, completed=finished)
            for now in screen_plan(plan, job, client):
                finished += now.done.images if now.done else 0
                seconds = time.monotonic() - started
                line = _so_far(finished, plan.images, (finished - already) / seconds, now.workers)
                bar.update(task, completed=finished, description=line)
                if bar.disable and time.monotonic() - told > _LINE_SECONDS:
                    told = time.monotonic()
                    messages.print(line)
    except KeyboardInterrupt:
        messages.print(f"{finished:,} images are in {plan.folder}; run the same command to resume")
        raise


def _so_far(finished: int, images: int, rate: float, workers: int) -> str:
    """Such as ``1,500 of 10,000 images, 98/s, 0:01:27 left, 2 workers``."""
    left = timedelta(seconds=round((images - finished) / rate)) if rate else "unknown time"
    return f"{finished:,} of {images:,} images, {rate:.0f}/s, {left} left, {workers} workers"
