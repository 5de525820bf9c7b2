"""All figures of one run: distributions, efficiencies, acceptance, cut flow, flux."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike

from analysis.acceptance import acceptance_from_histogram
from analysis.background import proton_background
from analysis.compare import Comparison
from analysis.efficiency import signal_efficiency
from analysis.fluxtable import FluxTable
from analysis.migration.response import response_matrix
from analysis.perenergy import per_energy
from analysis.plots.energies import plot_acceptance, plot_cut_flow, plot_efficiency_and_background
from analysis.plots.migration import plot_response
from analysis.plots.scores import plot_control, plot_score_bins, plot_score_overview
from analysis.plots.spectra import plot_flux
from analysis.plots.style import PlotError
from analysis.plots.systematics import plot_systematics
from analysis.selection import Edge, project, selection_text
from analysis.templates import template

__all__ = ["draw_run"]


def draw_run(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    folder: Path,
    *,
    table: FluxTable | None = None,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    comparison: Comparison | None = None,
    region: str = "fiducial",
    edge: Edge | None = None,
    bgo: str | None = None,
    score: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Draw a run's histograms and, if given, its flux.

    Args:
        hists: Histograms of a histogram file.
        meta: Its metadata.
        folder: Where the figures go; made if missing.
        table: Flux table; its cut and control region are drawn, else those of the metadata.
        curve: Energies (GeV) and flux of a reference curve, for synthetic data the injected one.
        comparison: Shown below the flux.
        region: ``fiducial`` or ``topfiducial``.
        edge: Edge cut on or off; default that of the flux table, else on. The control variables and
            the cut flow are always those of the full chain.
        bgo: BGO reconstruction; default that of the flux table, else as in
            :func:`analysis.selection.project`.
        score: Score; default that of the flux table, else the card's. Another one needs a flux table.
        bins: Energy bins of the score distributions; default: those with a flux, or with data.
        overwrite: Replace files that exist.

    Returns:
        Paths of the figures.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
        AnalysisError: Histograms or metadata that do not fit.
    """
    synthetic = bool(meta.get("synthetic"))
    taken = table.meta["flux"] if table is not None else {}
    asked = {"edge_cut": edge, "bgo_reconstruction": bgo, "score": score}
    for key, value in asked.items():
        if value is not None and taken.get(key, value) != value:
            msg = f"the flux table has {key} {taken[key]!r}, asked for is {value!r}: make it anew"
            raise PlotError(msg)
    hists, meta = project(
        hists,
        meta,
        edge=edge or taken.get("edge_cut", "on"),
        bgo=bgo or taken.get("bgo_reconstruction"),
        score=score or taken.get("score"),
    )
    chosen = taken or meta["score"]
    if "cut" not in chosen or isinstance(chosen["cut"], Mapping):
        msg = f"the card has no cut for the score {score!r}: give the table of a flux made with one"
        raise PlotError(msg)
    where = selection_text(region, meta)
    always = selection_text(region, {**meta, "edge_cut": "on"})
    data, electron, proton = (
        template(hists["score"], kind, region) for kind in ("data", "electron", "proton")
    )
    edges = data.energy_edges
    cut, low, high = (per_energy(x, edges) for x in (chosen["cut"], *chosen["control"]))
    background = proton_background(data, proton, cut, (low, high))
    if bins is None and table is not None:
        bins = np.flatnonzero(table.success & (table.n_data > 0)).tolist() or None
    label = str(hists["score"].axes["omega"].label)
    livetime = float(meta["livetime_s"])
    common: dict[str, Any] = {"synthetic": synthetic, "overwrite": overwrite}
    scales: dict[str, Any] = {"electron_scale": livetime, "proton_scale": background.scale}
    marks: dict[str, Any] = {
        "cut": cut,
        "control": (low, high),
        "score_label": label,
        "where": where,
    }

    folder.mkdir(parents=True, exist_ok=True)
    spread = None if bins is None else [bins[i] for i in _spread(len(bins), 9)]
    out = plot_score_overview(
        data, electron, proton, folder / "scores", bins=spread, **scales, **marks, **common
    )
    out += plot_score_bins(
        data, electron, proton, folder / "scores", bins=bins, **scales, **marks, **common
    )
    out += plot_efficiency_and_background(
        signal_efficiency(electron, cut),
        background,
        folder / "efficiency_background",
        title=where,
        **common,
    )
    integral = meta["target_flux_integral"]["electron"]
    out += plot_acceptance(
        {r: acceptance_from_histogram(hists["passed"], integral, region=r) for r in _filled(hists)},
        folder / "acceptance",
        title=where.removeprefix(region).removeprefix(", "),
        **common,
    )
    for kind in ("data", "electron", "proton") if "cutflow" in hists else ():
        out += plot_cut_flow(
            hists["cutflow"],
            folder / f"cutflow_{kind}",
            kind=kind,
            region=region,
            where=always,
            **common,
        )
    for name in ("sum_rms", "f_last", "theta", "max_layer_ratio"):
        if f"control_{name}" in hists:
            out += plot_control(
                hists[f"control_{name}"],
                folder / f"control_{name}",
                region=region,
                where=f"{always}, edge cut on" if meta["edge_cut"] == "off" else always,
                name=name,
                **scales,
                **common,
            )
    if table is not None:
        label = "this analysis" if where == region == "fiducial" else f"this analysis, {where}"
        out += plot_flux(
            table, folder / "flux", label=label, curve=curve, comparison=comparison, **common
        )
        if "systematics" in table.meta:
            out += plot_systematics(table, folder / "systematics", **common)
    if "response" in hists:
        response = response_matrix(hists, meta, region=region)
        out += plot_response(response, folder / "response", title=where, **common)
    return out


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n indices, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))}) if n else []


def _filled(hists: Mapping[str, Hist[Any]]) -> list[str]:
    """Regions with selected electron simulation."""
    passed: Any = hists["passed"]
    regions = [str(r) for r in passed.axes["region"]]
    return [r for r in regions if passed["electron", r, :].sum(flow=True).value > 0]
