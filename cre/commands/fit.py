"""``cre fit``: fit the score templates with an energy-dependent proton shift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import click
import numpy as np

from analysis.histfile import load
from analysis.measurement import measure
from analysis.plots.style import marked
from analysis.selection import Edge, default_region
from analysis.templatefit import FitResult
from analysis.templatefit.resultfile import fit_text
from analysis.usable import partial_text
from cre.analysiscard import analysis_card
from cre.fitfigures import draw_fit
from cre.measuring import (
    check_converged,
    flux_settings,
    partial_line,
    partial_option,
    poor_fit,
    selection_options,
    shift_lowered,
)
from cre.provenance import record, sha256, write_text


@click.command("fit")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder, e.g. fit."
)
@selection_options
@click.option(
    "--way",
    type=click.Choice(["simultaneous", "smooth", "per_bin"]),
    help="All bins at once, a curve through single bins, single bins; default the card's.",
)
@click.option("--shift-order", type=click.Choice(["none", "0", "1", "2", "3", "auto"]))
@click.option("--pages", is_flag=True, help="Also draw one page per energy bin.")
@partial_option
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    histograms: Path,
    output: Path,
    card: Path | None,
    region: str | None,
    edge: Edge,
    bgo: str | None,
    score: str | None,
    cut: float | None,
    control: tuple[float, float] | None,
    e_min_gev: float | None,
    e_max_gev: float | None,
    way: str | None,
    shift_order: str | None,
    pages: bool,
    partial: bool,
    overwrite: bool,
) -> None:
    """Fit electrons and protons in HISTOGRAMS: yields, shift, goodness, figures.

    Writes OUTPUT/fit.json and figures of the post-fit distributions, the shift and the background. Exit
    code 3: the fit did not converge in some energy bin; everything is written all the same.
    """
    path = output / "fit.json"
    if path.exists() and not overwrite:
        msg = f"{path} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    output.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "region": region, "edge": edge, "bgo": bgo, "score_name": score, "cut": cut,
        "control": control, "e_min_gev": e_min_gev, "e_max_gev": e_max_gev,
        "allow_incomplete": partial,
    }  # fmt: skip
    arguments = {"file": histograms, "card": card, "way": way, "shift_order": shift_order}
    with record(output / "provenance.json", "fit", arguments | options) as entry:
        content = load(histograms)
        entry.read(histograms)
        options["region"] = region or default_region(content.meta)
        settings = flux_settings(analysis_card(card, content.meta), method="fit", **options)
        fit = settings.fit
        if way is not None:
            fit = replace(fit, method=way)  # type: ignore[arg-type]  # click checks the names
        if shift_order is not None:
            fit = replace(fit, shift_order=_order(shift_order))
        settings = replace(settings, fit=fit)
        found = measure(content.hists, content.meta, settings)
        notes = {"histograms_sha256": sha256(histograms), **found.table.meta["flux"]}
        result = replace(cast("FitResult", found.fit), meta=notes)
        entry.wrote([write_text(path, fit_text(result))])
        with marked(partial_text(found.table.meta)):
            drawn = draw_fit(
                content.hists,
                content.meta,
                replace(found, fit=result),
                settings,
                output,
                pages=pages,
                overwrite=overwrite,
            )
        entry.wrote(drawn)
    for line in partial_line(found.table.meta):
        click.echo(line)
    click.echo(summary(result, synthetic=bool(content.meta.get("synthetic"))))
    click.echo(f"wrote {path}")
    check_converged(result)


def _order(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    return None if text == "none" else int(text)


def summary(result: FitResult, *, synthetic: bool) -> str:
    """The fit as text: coefficients, then one line per energy bin."""
    lines = ["SYNTHETIC data, not data of the experiment"] if synthetic else []
    names = {"s": "proton shift", "w": "proton width", "e": "electron shift"}
    if result.settings["method"] != "per_bin":
        e0 = result.settings["e0_gev"]
        lines += [
            f"{name} ({names[name[0]]}, log10(E/{e0:g} GeV)^{name[1:]}): {value:.4f} ± {error:.4f}"
            for name, (value, error) in result.coefficients.items()
        ]
    lowered = result.settings.get("shift_order_lowered_from")
    if lowered is not None:
        lines.append(f"WARNING: {shift_lowered(lowered, result.settings['shift_order'])}")
    deviance = float(np.nansum(result.deviance))
    lines.append(f"deviance {deviance:.1f} for {result.ndf}, p {result.p_value:.3g}")
    poor = poor_fit(deviance, result.ndf, result.p_value)
    if poor is not None:
        lines.append(f"WARNING: {poor}")
    lines.append(
        f"{'E bin (GeV)':>19} {'electrons':>20} {'protons':>20} {'shift':>17} {'dev/bins':>10}"
    )
    (n_e, e_e), (n_p, e_p), (s, e_s) = result.electrons, result.protons, result.shift
    for i in np.flatnonzero(result.success).tolist():
        lines.append(
            f"{result.e_min[i]:9.1f}-{result.e_max[i]:9.1f} {_electrons(result, i, n_e[i], e_e[i])} "
            f"{n_p[i]:10.1f} ± {e_p[i]:7.1f} {s[i]:8.4f} ± {e_s[i]:6.4f} "
            f"{result.deviance[i]:6.1f}/{result.n_bins[i]:.0f}"
        )
    reasons = [r for r in result.reasons if r is not None]
    lines += [f"{reasons.count(r)} bins without a fit: {r}" for r in dict.fromkeys(reasons)]
    unsupported = float(np.nansum(result.unsupported))
    if unsupported:
        lines.append(
            f"{unsupported:.0f} data events lie in score bins that no simulated event fills; they are "
            "fitted together with the neighbouring bins"
        )
    return "\n".join(lines)


def _electrons(result: FitResult, i: int, value: float, error: float) -> str:
    return f"{'0, its limit':>20}" if result.at_limit[i] else f"{value:10.1f} ± {error:7.1f}"
