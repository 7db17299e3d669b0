"""`convert`: from a trained run to a bundle for devices."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from ..bundle import DEFAULT_MODEL, ModelBundle, ModelFormat, Precision
from .options import DATA, refuse_ignored, training_data_option, where_option
from .printing import messages, quiet_tensorflow

_NOT_ALL_WRITTEN = 1


def _finds_lungs(run: str) -> bool:
    from ..training.run import RECORD, RunRecord

    folder = Path(run)
    return (folder / RECORD).is_file() and RunRecord.read(folder).recipe.finds_lungs


@click.command()
@click.argument("run", metavar="RUN|BUNDLE")
@training_data_option("RUN's training data, or images of a BUNDLE's classes. May be repeated.")
@click.option(
    "--frontal-from",
    default=DEFAULT_MODEL,
    help="The bundle whose frontal check to reuse.",
)
@click.option(
    "--frontal-run",
    type=click.Path(path_type=Path),
    help="Convert the frontal check of this run instead, trained on --frontal-data.",
)
@click.option("--frontal-data", type=DATA, metavar="DATA")
@click.option(
    "--keep-classifier",
    is_flag=True,
    help="Exchange BUNDLE's frontal check alone: its other files stay as they are.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    required=True,
    help="The new bundle's folder.",
)
@click.option("--name", show_default="the name of the folder", help="The model's name.")
@click.option("--model-version", default="0.1.0")
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
    type=DATA,
    metavar="DATA",
    show_default="--data",
    help="Labelled images to compare every file with the float model on.",
)
@where_option
@click.option("--debug-layers", is_flag=True, help="Name the layers that int8 damages most.")
@click.option(
    "--force",
    is_flag=True,
    help="Replace the bundle, and write files that miss the required agreement too.",
)
@click.pass_context
def convert(
    ctx: click.Context,
    run: str,
    data: tuple[Path, ...],
    frontal_from: str,
    frontal_run: Path | None,
    frontal_data: Path | None,
    keep_classifier: bool,
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
    """Convert a classifier into a bundle for devices, together with a frontal check.

    A run of the recipe `lungs` becomes a folder for `train --lungs` instead.

    Every file is compared with the float model on labelled images before it is written: the
    `test` split of DATA, or the rows of --parity-data or DATA that --where chooses.

    Exit status: 0 all written, 1 some file missed the required agreement and was left out, 2 wrong
    usage.
    """
    if (frontal_run is None) != (frontal_data is None):
        raise click.UsageError("--frontal-run and --frontal-data go together.")
    if frontal_run is not None:
        refuse_ignored(ctx, "with --frontal-run", "frontal_from")
    if keep_classifier:
        unused = ("formats", "precisions", "parity_data", "where", "debug_layers")
        refuse_ignored(ctx, "with --keep-classifier", *unused)
    quiet_tensorflow()
    from ..converters.convert import TrainedRun, exchange_frontal
    from ..converters.convert import convert as run_conversion
    from ..converters.variants import variants_of
    from ..data import load_dataset
    from ..training.bundles import finished_run

    if not keep_classifier and _finds_lungs(run):
        from ..converters.lungs import convert_lungs

        files = convert_lungs(TrainedRun.open(Path(run), data), out, progress=messages.print)
        messages.print(f"{out}: for `xrayedge train --lungs`, margin {files.settings.margin}")
        return
    frontal = (
        TrainedRun.open(frontal_run, frontal_data)
        if frontal_run and frontal_data
        else ModelBundle.load(frontal_from)
    )
    if keep_classifier:
        kept = ModelBundle.load(run)
        bundle = exchange_frontal(
            kept,
            frontal,
            load_dataset(data, classes=kept.classifier.classes, non_classes=True).split("val"),
            out,
            name=name or out.name,
            model_version=model_version,
            force=force,
            progress=messages.print,
        )
        messages.print(f"{out}: {_megabytes(bundle)}")
        return
    variants = variants_of(formats, precisions)
    parity_samples = (
        load_dataset(parity_data or data, where, complete=False).samples
        if parity_data or where
        else ()
    )
    with finished_run(run) as folder:
        bundle = run_conversion(
            TrainedRun.open(folder, data),
            frontal,
            out,
            name=name or out.name,
            model_version=model_version,
            variants=variants,
            parity_samples=parity_samples,
            force=force,
            debug_layers=debug_layers,
            progress=messages.print,
        )
    messages.print(f"{out}: {_megabytes(bundle)}")
    ctx.exit(0 if len(bundle.classifier.variants) == len(variants) else _NOT_ALL_WRITTEN)


def _megabytes(bundle: ModelBundle) -> str:
    return f"{sum(variant.size_bytes for variant in bundle.variants()) / 1e6:.1f} MB"
