"""`models` and `doctor`: what this device has, and whether it is fit to screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ..bundle import ModelBundle, shipped_bundles
from ..installed import models_folder
from . import fleet
from .printing import messages, quiet_engines, results

if TYPE_CHECKING:
    from ..doctor import Diagnosis

_NOT_FIT = 1


@click.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """Models on this device: list, sign, install and roll back (extra `fleet`)."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@models.command("list")
@click.argument("bundles", nargs=-1)
def list_models(bundles: tuple[str, ...] = ()) -> None:
    """List BUNDLES, or the shipped ones: files, sizes and metrics.

    The metrics are the classifier's, on the images used to compare it with its float model.
    """
    table = Table("model", "version", "format", "precision", "MB", "accuracy", "agreement", "note")
    for name in bundles or shipped_bundles():
        bundle = ModelBundle.load(name)
        for variant in bundle.classifier.variants:
            metrics = [variant.parity.get(name) for name in ("accuracy", "agreement")]
            table.add_row(
                bundle.name,
                bundle.version,
                variant.format,
                variant.precision,
                f"{variant.size_bytes / 1e6:.1f}",
                *("" if metric is None else f"{metric:.3f}" for metric in metrics),
                "" if variant.meets_floor else "under the floor",
            )
    results.print(table)
    if not bundles and models_folder().is_dir():
        fleet.print_installed()


for _verb in (
    fleet.install,
    fleet.rollback,
    fleet.verify,
    fleet.trust,
    fleet.sign,
    fleet.keyring,
    fleet.new_key,
):
    models.add_command(_verb)


@click.command()
@click.option("--model", "models", multiple=True, help="The bundle to check. Default: all shipped.")
@click.option("--provider", help="Run ONNX files with this execution provider.")
@click.option("--threads", type=click.IntRange(min=1), default=1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def doctor(
    ctx: click.Context,
    models: tuple[str, ...],
    provider: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Check this device: engines, processor, and every model file against its golden vectors.

    Exit status: 0 fit to screen, 1 no engine or a file that differs or fails, 2 wrong usage.
    """
    from ..doctor import diagnose

    with quiet_engines():
        diagnosis = diagnose(models or shipped_bundles(), threads=threads, provider=provider)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict()))
    else:
        _print_diagnosis(diagnosis)
    ctx.exit(0 if diagnosis.healthy else _NOT_FIT)


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    machine = diagnosis.machine
    results.print(
        f"xrayedge {machine.versions['xrayedge']}, Python {machine.python}, {machine.system}\n"
        f"processor: {machine.cpu or 'name not available'} ({machine.architecture}), "
        f"{machine.usable_cores} of {machine.cores} cores, {diagnosis.threads} threads in use; "
        f"features: {' '.join(machine.cpu_features) or 'not available'}"
    )
    for engine in diagnosis.engines:
        found = f"{engine.package} {engine.version}" if engine.package else "not installed"
        providers = f" ({', '.join(engine.providers)})" if engine.providers else ""
        results.print(f"engine {engine.name}: {found}{providers}")
    for check in diagnosis.checks:
        found = check.detail or f"largest difference {check.largest_difference:.5f}"
        runs_on = f"{check.engine}, {check.provider}" if check.provider else check.engine
        results.print(f"{check.status:<11}  {check.model} {check.file} ({runs_on}): {found}")
    for warning in diagnosis.warnings:
        messages.print(f"xrayedge: {warning}")
    results.print("fit to screen" if diagnosis.healthy else f"NOT fit to screen: {_why(diagnosis)}")


def _why(diagnosis: Diagnosis) -> str:
    if not any(engine.package for engine in diagnosis.engines):
        return "no engine is installed"
    return ", ".join(
        f"{check.model} {check.file} {check.status}"
        for check in diagnosis.checks
        if check.status not in ("ok", "not-checked")
    )
