"""Options and steps that ``cre fit`` and ``cre flux`` share: from a histogram file and a card to a measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from analysis.exceptions import FitNotConvergedError
from analysis.fluxsettings import FluxSettings
from analysis.histfile import load
from analysis.systematics import Sources
from analysis.templatefit import FitResult, FitSettings
from analysis.usable import partial
from cre.analysiscard import AnalysisCard, CutRule, FitSection, SystematicsSection
from cre.provenance import Record

__all__ = [
    "check_converged",
    "partial_line",
    "partial_option",
    "selection_options",
    "shift_lowered",
    "sources",
]

_POOR = 1e-3  # p-value of the deviance below which a fit is called poor

F = TypeVar("F", bound=Callable[..., Any])


_SELECTION = (
    click.option("--card", type=click.Path(path_type=Path), help="Card; default that of the file."),
    click.option(
        "--region",
        type=click.Choice(["fiducial", "topfiducial"]),
        help="Default that of the file's card, fiducial if it has both.",
    ),
    click.option(
        "--edge",
        type=click.Choice(["on", "off"]),
        default="on",
        show_default=True,
        help="Edge cut.",
    ),
    click.option(
        "--bgo", help="BGO reconstruction; default the only one, 'new' if there are several."
    ),
    click.option("--score", help="A further score of the file, with --cut and --control."),
    click.option("--cut", type=float, help="Score cut; default the card's."),
    click.option(
        "--control", type=(float, float), help="Proton control region; default the card's."
    ),
    click.option(
        "--e-min-gev", type=float, help="Lowest bin; default where the data are complete."
    ),
    click.option("--e-max-gev", type=float, help="Highest bin."),
)


partial_option = click.option(
    "--partial",
    is_flag=True,
    help="Accept a run of which data files are missing: the livetime is that of the files read.",
)


def partial_line(meta: Mapping[str, Any]) -> list[str]:
    """What a summary says of incomplete histograms or their table; empty for complete ones."""
    found = partial(meta)
    if found is None:
        return []
    seconds = f"{found['livetime_s']:.1f} s of {found['planned_livetime_s']:.1f} s"
    return [f"PARTIAL: {100 * found['share']:.1f} % of the planned livetime, {seconds}"]


def selection_options(command: F) -> F:
    """Add the options that choose events, cut and energies."""
    for option in reversed(_SELECTION):
        command = option(command)
    return command


def fit_settings(section: FitSection) -> FitSettings:
    """Settings of the template fit."""
    low, high = section.window
    return FitSettings(
        method=section.method,
        shift_order=section.shift_order,
        width_order=section.width_order,
        electron_order=section.electron_order,
        e0_gev=section.e0_gev,
        window=(-math.inf if low is None else low, math.inf if high is None else high),
        clamped=section.clamped,
        min_effective=section.min_effective,
    )


def flux_settings(card: AnalysisCard, **options: Any) -> FluxSettings:
    """Settings of a flux from the card, and options that go before it.

    Args:
        card: The sections.
        **options: Entries of :class:`FluxSettings`; None leaves that of the card.

    Returns:
        The settings.
    """
    section = card.flux
    chosen: dict[str, Any] = {
        "method": section.method,
        "migration": section.migration,
        "fit": fit_settings(card.fit),
        "efficiency_correction": section.efficiency_correction,
        "efficiency_correction_error": section.efficiency_correction_error,
        "index": section.index,
        "ul_level": section.ul_level,
    }
    own_score = options.get("score_name") is None
    if own_score and card.score is not None:
        rule = card.score.cut
        if isinstance(rule, CutRule):
            chosen["cut_efficiency"] = "best" if rule.best else rule.efficiency
        else:
            chosen["cut"] = rule
        chosen["control"] = card.score.control
    chosen |= {key: value for key, value in options.items() if value is not None}
    if options.get("cut") is not None:
        chosen.pop("cut_efficiency", None)
    return FluxSettings(**chosen)


def sources(section: SystematicsSection, entry: Record) -> Sources:
    """The systematic errors of a card, with its files read.

    Args:
        section: Of the card.
        entry: Provenance, which notes the files.

    Returns:
        The sources.
    """
    files: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for name, path in section.files.items():
        content = load(path)
        entry.read(path)
        files[name] = content.hists, content.meta
    return Sources(**section.model_dump(exclude={"files"}), files=files)


def shift_lowered(wanted: int, used: int | None) -> str:
    """The sentence for a fit whose simulation cannot fix the shift that the card asks for."""
    what = "no shift" if used is None else f"order {used}"
    return (
        f"the simulated protons are too few to fix a shift of order {wanted}; fitted with {what}, whose "
        "errors know nothing of it"
    )


def poor_fit(deviance: float, ndf: int, p_value: float | None) -> str | None:
    """The sentence for a fit that does not describe the data, None for one that does."""
    if p_value is None or not p_value < _POOR:
        return None
    return (
        f"the fit does not describe the data (deviance {deviance:.0f} for {ndf}, p {p_value:.1g}): its errors "
        "mean little; look at the post-fit distributions, try another shift_order, width_order or "
        "electron_order"
    )


def check_converged(found: FitResult | None) -> None:
    """Say which energy bins have no fit.

    Raises:
        FitNotConvergedError: If there are any.
    """
    if found is None:
        return
    lost = [i for i in found.used if not found.success[i]]
    if lost:
        where = ", ".join(f"{found.e_min[i]:.0f}-{found.e_max[i]:.0f}" for i in lost)
        msg = f"the template fit did not converge in {len(lost)} energy bins (GeV): {where}"
        raise FitNotConvergedError(msg)
