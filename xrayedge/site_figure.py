"""The trade-off at a site as a chart. Needs matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from .bundle import ValCurve
from .errors import SiteError
from .reference import illness_scores
from .site import SiteProfile, SiteScores

FORMATS = ("png", "svg", "pdf")


def check_matplotlib() -> None:
    """Raise `SiteError` where matplotlib is missing; cheap, so ask before screening."""
    if find_spec("matplotlib") is None:
        raise SiteError("a chart needs matplotlib; pip install matplotlib")


def trade_off(
    profile: SiteProfile,
    healthy: SiteScores,
    ill: SiteScores,
    curve: ValCurve | None,
    file_format: str,
) -> bytes:
    """Specificity and sensitivity against the weight on ``healthy``, as a file's bytes.

    Raises
    ------
    SiteError
        A format that is none of `FORMATS`.
    """
    if file_format not in FORMATS:
        raise SiteError(f"a chart is a {', '.join(FORMATS)} file, not {file_format!r}")
    from matplotlib.figure import Figure

    classes = tuple(profile.before.weights)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    limit = 6.0
    grid = np.linspace(-limit, limit, 400)

    def share(scores: SiteScores) -> NDArray[np.float64]:
        values = np.sort(illness_scores(scores.probabilities, classes, profile.before))
        return np.asarray(np.searchsorted(values, grid, "right") / len(values))

    axes.plot(
        grid, share(healthy), "C0", label=f"healthy called healthy, here (n = {profile.healthy})"
    )
    if profile.ill:
        axes.plot(grid, 1.0 - share(ill), "C3", label=f"ill called ill, here (n = {profile.ill})")
    if curve is not None:
        for values, colour, what in (
            (curve.specificity, "C0", f"healthy called healthy, val (n = {curve.healthy})"),
            (curve.sensitivity, "C3", f"ill called ill, val (n = {curve.ill})"),
        ):
            shown = np.interp(grid, curve.thresholds, values)
            axes.plot(grid, shown, colour, linestyle=":", label=what)
    before, after = (np.log(p.weights["healthy"]) for p in (profile.before, profile.point))
    axes.axvline(0.0, color="grey", linestyle="--", label=f"before: {profile.before.name}")
    axes.axvline(after - before, color="black", label=f"after: {profile.point.name}")
    axes.axhline(profile.asked_specificity, color="lightgrey", zorder=0)
    axes.set(
        xlabel="log of the further weight on healthy",
        ylabel="share",
        ylim=(0, 1.02),
        title=f"{profile.model} {profile.version} at {profile.name}",
    )
    axes.legend(fontsize=8, framealpha=0.9)
    stream = io.BytesIO()
    figure.savefig(stream, format=file_format, dpi=120)
    return stream.getvalue()
