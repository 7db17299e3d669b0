"""`calibrate`: an operating point for this hospital, from a few of its healthy images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import click
from rich.progress import track
from rich.table import Table

from ..batch import find_images
from ..bundle import Precision
from ..engines import EngineName
from ..errors import SiteError
from ..files import write_atomically
from ..imaging import Limits
from ..screening import Screener
from ..site import describe
from ..survey import calibrate as calibrate_site
from .options import engine_option, model_option, precision_option
from .printing import messages, printable, quiet_engines, wide_results

#: So many images that can't be read are named; the others are counted.
_MOST_NAMED = 10


@click.command()
@click.option(
    "--healthy",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    metavar="FOLDER",
    help="Frontal radiographs of at least 10, ideally 30 people known to be healthy.",
)
@click.option(
    "--ill",
    type=click.Path(path_type=Path, exists=True),
    metavar="FOLDER",
    help="Radiographs of ill people, with any disease, to measure what the point costs.",
)
@click.option(
    "--specificity",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.9,
    help="Share of the healthy to be called healthy.",
)
@click.option("--name", show_default="the name of --out", help="Name of the site in results.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="File to write the profile to, such as site.json.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Plot the trade-off here and on the model's val (PNG, SVG or PDF); needs matplotlib.",
)
@model_option
@precision_option
@engine_option
@click.option("--threads", type=click.IntRange(min=1), default=1)
def calibrate(
    healthy: Path,
    ill: Path | None,
    specificity: float,
    name: str | None,
    out: Path,
    plot: Path | None,
    model: str,
    precision: Precision,
    engine: EngineName | None,
    threads: int,
) -> None:
    """Fit an operating point to this hospital's healthy people.

    Use it with `screen --site FILE`. Scores stay as they are; only the weight on `healthy` changes.
    """
    if plot is not None:
        from ..site_figure import check_matplotlib

        check_matplotlib()
    if out.suffix != ".json":
        raise SiteError(f"{out}: a profile is a .json file")
    folders = [find_images([folder]).images if folder else () for folder in (healthy, ill)]
    with quiet_engines():
        screener = Screener(model, precision=precision, engine=engine, threads=threads)
    with screener:
        profile, well, unwell = calibrate_site(
            screener,
            name or out.stem,
            *folders,
            specificity=specificity,
            limits=Limits(),
            progress=_progress,
        )
        curve = screener.bundle.val_curve
    for kind, found in (("healthy", well), ("ill", unwell)):
        for failure in found.failed[:_MOST_NAMED]:
            messages.print(f"xrayedge: {printable(failure)}")
        if kind == "healthy" or ill is not None:
            messages.print(f"{kind}: {found.sentence()}")
    profile.save(out)
    if plot is not None:
        from ..site_figure import trade_off

        drawn = trade_off(profile, well.scores, unwell.scores, curve, plot.suffix[1:])
        write_atomically(plot, drawn)
    table = Table("", "before", "after")
    for row in describe(profile):
        table.add_row(*row)
    wide_results.print(table)
    if profile.val_sensitivity is None and not profile.ill:
        messages.print(
            f"what this costs in ill people missed is unknown: {profile.model} carries no val "
            "curve; --ill measures it"
        )
    for warning in profile.warnings:
        messages.print(f"warning: {warning}")
    messages.print(f"written: {printable(str(out))}; use it with `xrayedge screen --site`")


def _progress(images: Sequence[Path]) -> Iterable[Path]:
    show = partial(track, console=messages, transient=True, disable=not messages.is_terminal)
    return show(images, "screening")
