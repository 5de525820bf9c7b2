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
from analysis.plots.energies import (
    axis_label,
    plot_acceptance,
    plot_cut_flow,
    plot_efficiency_and_background,
)
from analysis.plots.migration import plot_response
from analysis.plots.regions import geometry_lines
from analysis.plots.resolution import plot_energy_reconstruction
from analysis.plots.scoregain import plot_score_gain
from analysis.plots.scores import plot_control, plot_score_bins, plot_score_overview
from analysis.plots.spectra import plot_flux
from analysis.plots.style import SYNTHETIC_LABEL, PlotError
from analysis.plots.systematics import plot_systematics
from analysis.resolution import resolution_table, resolutions
from analysis.scoregain import (
    either_side,
    equal_efficiency,
    gain_table,
    score_templates,
    thirds_of_decades,
)
from analysis.selection import Edge, default_region, project, selection_text
from analysis.templates import template
from analysis.textfile import write_text

__all__ = ["draw_run"]

_CONTROLS = ("sum_rms", "f_last", "theta", "max_layer_ratio", "energy_sigma")


def draw_run(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    folder: Path,
    *,
    table: FluxTable | None = None,
    curve: tuple[ArrayLike, ArrayLike] | None = None,
    comparison: Comparison | None = None,
    region: str | None = None,
    edge: Edge | None = None,
    bgo: str | None = None,
    score: str | None = None,
    bins: Sequence[int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Draw a run's histograms and, if given, its flux.

    Energy reconstruction and the comparison of the scores are drawn if the file has them, each with a CSV of its
    numbers. Of a file without data in the region, only what the simulation gives is drawn.

    Args:
        hists: Histograms of a histogram file.
        meta: Its metadata.
        folder: Where the figures go; made if missing.
        table: Flux table; its cut and control region are drawn, else those of the metadata.
        curve: Energies (GeV) and flux of a reference curve, for synthetic data the injected one.
        comparison: Shown below the flux.
        region: ``fiducial`` or ``topfiducial``; default that of the flux table, else as in
            :func:`analysis.selection.default_region`.
        edge: Edge cut on or off; default that of the flux table, else on. The control variables and
            the cut flow are always those of the full chain.
        bgo: BGO reconstruction; default that of the flux table, else as in
            :func:`analysis.selection.project`.
        score: Score; default that of the flux table, else the card's. Another one needs a flux table.
        bins: Energy bins of the score distributions; default: those with a flux, or with data.
        overwrite: Replace files that exist.

    Returns:
        Paths of the figures and tables.

    Raises:
        FileExistsError: A file exists and ``overwrite`` is not set.
        AnalysisError: Histograms or metadata that do not fit.
    """
    synthetic = bool(meta.get("synthetic"))
    taken = _agreed(
        table, {"region": region, "edge_cut": edge, "bgo_reconstruction": bgo, "score": score}
    )
    region = region or str(taken.get("region") or default_region(meta))
    part: dict[str, Any] = {
        "edge": edge or taken.get("edge_cut", "on"),
        "bgo": bgo or taken.get("bgo_reconstruction"),
    }
    every_score = project(hists, meta, **part)
    hists, meta = project(hists, meta, score=score or taken.get("score"), **part)
    chosen = taken or meta["score"]
    if "cut" not in chosen or isinstance(chosen["cut"], Mapping):
        msg = f"the card has no cut for the score {score!r}: give the table of a flux made with one"
        raise PlotError(msg)
    where = selection_text(region, meta)
    unusual = where.removeprefix(region).removeprefix(", ")
    always = selection_text(region, {**meta, "edge_cut": "on"})
    data, electron, proton = (
        template(hists["score"], kind, region) for kind in ("data", "electron", "proton")
    )
    edges = data.energy_edges
    cut, low, high = (per_energy(x, edges) for x in (chosen["cut"], *chosen["control"]))
    background = proton_background(data, proton, cut, (low, high))
    if bins is None and table is not None:
        bins = np.flatnonzero(table.success & (table.n_data > 0)).tolist() or None
    livetime = float(meta["livetime_s"])
    common: dict[str, Any] = {"synthetic": synthetic, "overwrite": overwrite}
    scales: dict[str, Any] = {"electron_scale": livetime, "proton_scale": background.scale}
    marks: dict[str, Any] = {
        "cut": cut,
        "control": (low, high),
        "score_label": str(hists["score"].axes["omega"].label),
        "where": where,
    }

    measured = bool(data.values.any())
    if not (measured or electron.values.any() or proton.values.any()):
        msg = f"the file has no selected events in region {region!r}: nothing to draw"
        raise PlotError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    out: list[Path] = []
    if measured:
        spread = None if bins is None else [bins[i] for i in _spread(len(bins), 9)]
        stem = folder / "scores"
        out += plot_score_overview(
            data, electron, proton, stem, bins=spread, **scales, **marks, **common
        )
        out += plot_score_bins(data, electron, proton, stem, bins=bins, **scales, **marks, **common)
        cleaned = f"{always}, edge cut on" if meta["edge_cut"] == "off" else always
        out += _controls(hists, folder, region, where=cleaned, **scales, **common)
    out += plot_efficiency_and_background(
        signal_efficiency(electron, cut),
        background,
        folder / "efficiency_background",
        title=where,
        energy_label=axis_label(hists["score"].axes["energy"]),
        **common,
    )
    integral = meta["target_flux_integral"]["electron"]
    filled = _filled(hists)
    out += plot_acceptance(
        {r: acceptance_from_histogram(hists["passed"], integral, region=r) for r in filled},
        folder / "acceptance",
        geometric_m2sr=geometry_lines(filled, meta),
        title=unusual,
        **common,
    )
    if "cutflow" in hists:
        kinds = ("data", "electron", "proton")[0 if measured else 1 :]
        out += _cut_flows(hists["cutflow"], folder, kinds, region=region, where=always, **common)
    if table is not None:
        name = "this analysis" if where == region == "fiducial" else f"this analysis, {where}"
        versus: dict[str, Any] = {"curve": curve, "comparison": comparison, "label": name}
        out += _flux(table, folder, versus, common)
    out += _energies(hists, meta, folder, region, where, common)
    return out + _score_gain(*every_score, folder, region, where, common)


def _agreed(table: FluxTable | None, asked: Mapping[str, str | None]) -> Mapping[str, Any]:
    """What a flux table was made with, refused if something else is asked for; empty without a table."""
    taken: Mapping[str, Any] = table.meta["flux"] if table is not None else {}
    for key, value in asked.items():
        if value is not None and taken.get(key, value) != value:
            msg = f"the flux table has {key} {taken[key]!r}, asked for is {value!r}: make it anew"
            raise PlotError(msg)
    return taken


def _cut_flows(
    cutflow: Hist[Any], folder: Path, kinds: Sequence[str], **options: Any
) -> list[Path]:
    """The cut flow of each kind."""
    drawn = [plot_cut_flow(cutflow, folder / f"cutflow_{k}", kind=k, **options) for k in kinds]
    return [path for paths in drawn for path in paths]


def _controls(
    hists: Mapping[str, Hist[Any]], folder: Path, region: str, **options: Any
) -> list[Path]:
    """The control variables that the file has."""
    names = [f"control_{name}" for name in _CONTROLS if f"control_{name}" in hists]
    drawn = [plot_control(hists[n], folder / n, region=region, name=n, **options) for n in names]
    return [path for paths in drawn for path in paths]


def _flux(
    table: FluxTable, folder: Path, versus: Mapping[str, Any], common: Mapping[str, Any]
) -> list[Path]:
    """The flux and its systematic errors."""
    out = plot_flux(table, folder / "flux", **versus, **common)
    if "systematics" in table.meta:
        out += plot_systematics(
            table,
            folder / "systematics",
            title="toy data" if table.meta.get("toy") else "",
            **common,
        )
    return out


def _energies(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    folder: Path,
    region: str,
    where: str,
    common: Mapping[str, Any],
) -> list[Path]:
    """Migration, and bias and containment with their table, of a file that has them."""
    out: list[Path] = []
    if "response" in hists:
        response = response_matrix(hists, meta, region=region)
        out += plot_response(response, folder / "response", title=where, **common)
    found = resolutions(hists["energy_ratio"]) if "energy_ratio" in hists else []
    if found:
        stem = folder / "energy_reconstruction"
        unusual = where.removeprefix(region).removeprefix(", ")
        text = resolution_table(found, note=_note(meta))
        out += plot_energy_reconstruction(found, stem, title=unusual, **common)
        out.append(write_text(stem.with_suffix(".csv"), text, overwrite=common["overwrite"]))
    return out


def _score_gain(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    folder: Path,
    region: str,
    where: str,
    common: Mapping[str, Any],
) -> list[Path]:
    """Figure and table of the scores on the same events; nothing where there is one score or no simulation."""
    scores = score_templates(hists, meta, region)
    axis = hists["score"].axes["energy"]
    edges = np.asarray(axis.edges, np.float64)
    narrow, wide = (equal_efficiency(scores, g(edges)) for g in (thirds_of_decades, either_side))
    better = "omega" if "omega" in scores else next(iter(scores))
    if len(scores) < 2 or not narrow[better].e_min.size:
        return []
    stem = folder / "score_gain"
    text = gain_table([narrow, wide], better, note=_note(meta))
    label = axis_label(axis)
    figure = plot_score_gain(narrow, wide, better, stem, energy_label=label, title=where, **common)
    return [*figure, write_text(stem.with_suffix(".csv"), text, overwrite=common["overwrite"])]


def _note(meta: Mapping[str, Any]) -> str:
    """First line of a table: what the data are."""
    label = SYNTHETIC_LABEL if meta.get("synthetic") else ""
    return f"{label}, toy".removeprefix(", ") if meta.get("toy") else label


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n indices, evenly spread."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))}) if n else []


def _filled(hists: Mapping[str, Hist[Any]]) -> list[str]:
    """Regions with selected electron simulation."""
    passed: Any = hists["passed"]
    regions = [str(r) for r in passed.axes["region"]]
    return [r for r in regions if passed["electron", r, :].sum(flow=True).value > 0]
