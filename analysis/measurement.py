"""The measurement: from a histogram file to the flux, with everything that was found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.acceptance import Acceptance, acceptance_from_histogram
from analysis.background import Background, fitted_background, proton_background
from analysis.cutscan import CutScan, choose_cuts, cut_grid, scan_cuts
from analysis.efficiency import Efficiency, signal_efficiency
from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.flux import flux
from analysis.fluxsettings import FluxSettings
from analysis.fluxtable import FluxTable
from analysis.migration.correction import migrated
from analysis.perenergy import per_energy
from analysis.selection import project, square_half_width
from analysis.templatefit import FitResult, fit_templates
from analysis.templatefit.result import check_axes
from analysis.templates import Template, template
from analysis.usable import entry, outside, usable

__all__ = ["File", "Hists", "Measurement", "flux_from_histograms", "measure", "scan"]

FloatArray = NDArray[np.float64]
Hists = Mapping[str, Hist[Any]]
File = tuple[Hists, Mapping[str, Any]]

#: Nodes of the curve in log10 E that chosen cuts follow: few where the choice itself follows the simulation.
_NODES_BEST, _NODES_EFFICIENCY = 4, 9

_CARRIED = (  # metadata of the histogram file that travels with the flux
    "program", "inputs", "ledger", "target_spectrum", "energy", "injected", "score", "synthetic", "toy", "complete",
    "partial", "period", "bgo_reconstruction", "edge_cut", "histograms_sha256",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measurement:
    """A flux and what it was made of.

    Attributes:
        table: the flux table.
        data: score distribution of the data.
        electrons: that of the simulated electrons.
        protons: that of the simulated protons.
        cut: (n,) score cut.
        control: borders of the control region, (n,) each.
        efficiency: of the cut.
        acceptance: before the cut.
        background: above the cut, by the method asked for.
        fit: the template fit; None for the sideband.
    """

    table: FluxTable
    data: Template
    electrons: Template
    protons: Template
    cut: FloatArray
    control: tuple[FloatArray, FloatArray]
    efficiency: Efficiency
    acceptance: Acceptance
    background: Background
    fit: FitResult | None


def scan(found: Measurement, *, index: float = -3.0) -> CutScan:
    """Counts, efficiency, background and flux of a measurement at other cuts, its own among them.

    Args:
        found: the measurement.
        index: spectral index of the reference energy.

    Returns:
        The scan.
    """
    return scan_cuts(
        found.data,
        found.electrons,
        found.protons,
        np.union1d(cut_grid(found.electrons), found.cut),
        found.acceptance,
        float(found.table.livetime[0]),
        result=found.fit,
        control=found.control if found.fit is None else None,
        index=index,
    )


def flux_from_histograms(hists: Hists, meta: Mapping[str, Any], **settings: Any) -> FluxTable:
    """The flux alone; see :func:`measure`.

    Args:
        hists: histograms of a file.
        meta: its metadata.
        **settings: entries of :class:`FluxSettings`.

    Returns:
        The flux table.
    """
    return measure(hists, meta, FluxSettings(**settings)).table


def measure(
    hists: Hists,
    meta: Mapping[str, Any],
    settings: FluxSettings,
    *,
    simulation: File | None = None,
    replaced: Mapping[str, Template] | None = None,
) -> Measurement:
    """Measure the flux of a histogram file: background, efficiency, acceptance, migration, errors.

    The statistical error holds counts, efficiency, the normalisation of the background and the simulated
    protons above the cut; what the fitted shift adds is kept apart as ``sys_shift_n/p``, the statistics of the
    simulated acceptance as ``sys_acceptance_n/p``, other spectra in the migration as ``sys_migration_n/p``.

    Args:
        hists: ``score`` (axes kind, region, bgo, edge, energy, omega), ``passed`` (kind, region, bgo,
            edge, energy_true) and, for migration, ``response``, Weight storage; or what
            :func:`analysis.selection.project` made of them.
        meta: metadata of the file: ``livetime_s``, ``target_flux_integral``, ``score``,
            ``complete``, ``by_bgo``.
        settings: how.
        simulation: histograms and metadata of another file, whose simulated events stand for those of this
            one, kind by kind where it has any.
        replaced: ``electron`` or ``proton`` templates that stand for those of the file.

    Returns:
        The measurement; the table carries the inputs' metadata.

    Raises:
        IncompleteDataError: incomplete histograms, no usable livetime, or files that were skimmed for
            the other region.
        HistogramMismatchError: a histogram, axis, category or metadata entry is missing, or energy
            bins differ.
        CutNotOnEdgeError: cut or control border inside a score bin.
        AnalysisError: control region above the cut, or no energy bin that can be fitted.
    """
    hists, meta = usable(
        hists,
        meta,
        settings.region,
        edge=settings.edge,
        bgo=settings.bgo,
        score=settings.score_name,
        allow_incomplete=settings.allow_incomplete,
    )
    score = entry(hists, "score")
    data, electrons, protons = (
        template(score, kind, settings.region) for kind in ("data", "electron", "proton")
    )
    made: File = (hists, meta)  # where acceptance and migration come from
    if simulation is not None:
        made, electrons, protons = _simulated(simulation, settings, meta, made, electrons, protons)
    electrons, protons = ((replaced or {}).get(t.kind, t) for t in (electrons, protons))
    if settings.method == "fit" and settings.electrons_in_control:
        msg = "electrons are subtracted from the control region by the method 'sideband' only"
        raise AnalysisError(msg)
    edges = data.energy_edges
    recorded = (meta.get("score") or {}).get("cut")
    if settings.cut is None and settings.cut_efficiency is None and isinstance(recorded, Mapping):
        settings = replace(settings, cut_efficiency=recorded.get("efficiency") or "best")
    cut, control = _borders(meta, settings, edges)
    beyond = outside(meta, edges, settings.e_min_gev, settings.e_max_gev)
    area = acceptance_from_histogram(
        entry(made[0], "passed"),
        entry(made[1], "target_flux_integral", "electron"),
        region=settings.region,
    )
    true_edges = np.append(area.e_min, area.e_max[-1:])
    if not np.array_equal(true_edges, edges):
        msg = "bins of true energy ('passed') differ from those of energy ('score'); use one card"
        raise HistogramMismatchError(msg)
    found = None
    if settings.method == "fit":
        found = _fitted(data, electrons, protons, settings, beyond, cut)
    if cut is None:
        tried = scan_cuts(
            data,
            electrons,
            protons,
            cut_grid(electrons),
            area,
            meta["livetime_s"],
            result=found,
            control=control if found is None else None,
        )
        share = settings.cut_efficiency
        cut = (
            choose_cuts(tried, "error", nodes=_NODES_BEST)
            if share is None or share == "best"
            else choose_cuts(tried, "efficiency", efficiency=share, nodes=_NODES_EFFICIENCY)
        )
    moved = None if found is None else found.electron_shift[0]
    signal = _corrected(signal_efficiency(electrons, cut, shift=moved), settings, edges)
    if found is not None:
        background = fitted_background(found, data, protons, cut)
    else:
        background = proton_background(
            data,
            protons,
            cut,
            control,
            electrons=electrons if settings.electrons_in_control else None,
        )
    shift = background.parts.get("shift", np.zeros(edges.size - 1))
    still = np.sqrt(np.maximum(background.fraction_error**2 - np.nan_to_num(shift) ** 2, 0.0))
    table = flux(
        background.n_data,
        background.fraction,
        still,
        np.where(signal.success, signal.value, np.nan),
        signal.error,
        np.where(beyond | _lost(found, edges.size - 1), np.nan, area.value),
        area.error,
        entry(meta, "livetime_s"),
        area.e_min,
        area.e_max,
        index=settings.index,
        ul_level=settings.ul_level,
        meta={
            **{key: meta[key] for key in _CARRIED if key in meta},
            "flux": _description(settings, meta, cut, control, background, found),
        },
    )
    if found is not None:
        table = _with_reasons(table, found, beyond)
        by_shift = np.nan_to_num(table.n_data * shift / (table.efficiency * _exposure(table)))
        by_shift = np.where(table.success, by_shift, np.nan)
        table = replace(table, background_fraction_err=background.fraction_error)
        table = table.with_systematic("shift", by_shift, by_shift)
    table = migrated(table, background, signal, *made, settings.region, settings.migration)
    return Measurement(
        table, data, electrons, protons, cut, control, signal, area, background, found
    )


def _lost(found: FitResult | None, size: int) -> NDArray[np.bool_]:
    """Energy bins with a fit that did not converge: no flux, not even where nothing was counted."""
    lost = np.zeros(size, dtype=np.bool_)
    if found is not None:
        lost[found.used] = ~found.success[found.used]
    return lost


def _with_reasons(table: FluxTable, found: FitResult, beyond: NDArray[np.bool_]) -> FluxTable:
    """Bins that failed for want of a fit say what the fit says; those outside the energies keep theirs."""
    told = []
    for failed in table.meta["failed_bins"]:
        why = None if beyond[failed["bin"]] else found.reasons[failed["bin"]]
        told.append(failed | ({} if why is None else {"reason": why}))
    return replace(table, meta={**table.meta, "failed_bins": told})


def _simulated(
    simulation: File,
    settings: FluxSettings,
    meta: Mapping[str, Any],
    made: File,
    electrons: Template,
    protons: Template,
) -> tuple[File, Template, Template]:
    """Simulation of another file, where it has any."""
    hists, other = project(
        *simulation, edge=settings.edge, bgo=settings.bgo, score=settings.score_name
    )
    names = [(m.get("score") or {}).get("name") for m in (meta, other)]
    for what, first, second in (
        ("score", names[0], names[1]),
        ("networks", meta.get("models"), other.get("models")),
    ):
        if first != second:
            msg = f"the other simulation was filled with other {what} ({second!r}, not {first!r})"
            raise HistogramMismatchError(msg)
    found = []
    for ours in (electrons, protons):
        theirs = template(entry(hists, "score"), ours.kind, settings.region)
        check_axes(ours, theirs)
        found.append(theirs if theirs.values.sum() > 0 else ours)
    if not any(a is not b for a, b in zip(found, (electrons, protons), strict=True)):
        msg = f"the other file has no simulated events in region {settings.region!r}"
        raise HistogramMismatchError(msg)
    return ((hists, other) if found[0] is not electrons else made), found[0], found[1]


def _fitted(
    data: Template,
    electrons: Template,
    protons: Template,
    settings: FluxSettings,
    beyond: NDArray[np.bool_],
    cut: FloatArray | None,
) -> FitResult:
    """The template fit in the energies of the measurement."""
    edges = data.energy_edges
    if beyond.all():
        msg = "no energy bin lies inside the energies of the data and of the simulated electrons"
        raise IncompleteDataError(msg)
    low, high = settings.fit.window
    fit = replace(
        settings.fit,
        window=(per_energy(low, edges), per_energy(high, edges)),
        e_min_gev=max(settings.fit.e_min_gev, float(edges[:-1][~beyond].min())),
        e_max_gev=min(settings.fit.e_max_gev, float(edges[1:][~beyond].max())),
    )
    return fit_templates(data, electrons, protons, fit, cut=cut)


def _borders(
    meta: Mapping[str, Any], settings: FluxSettings, edges: FloatArray
) -> tuple[FloatArray | None, tuple[FloatArray, FloatArray]]:
    """Cut and control region per energy bin; the cut is None if it is to be chosen."""
    cut, control = settings.cut, settings.control
    foreign = settings.score_name is not None and "cut" not in meta["score"]
    if foreign and (cut is None or control is None):
        msg = f"the card has no cut and control region for the score {settings.score_name!r}: give both"
        raise AnalysisError(msg)
    chosen = settings.cut_efficiency is not None
    if cut is None and not chosen:
        cut = entry(meta, "score", "cut")
    low, high = entry(meta, "score", "control") if control is None else control
    borders = per_energy(low, edges), per_energy(high, edges)
    return None if chosen or cut is None else per_energy(cut, edges), borders


def _corrected(signal: Efficiency, settings: FluxSettings, edges: FloatArray) -> Efficiency:
    """Efficiency of the simulation times data over simulation."""
    factor = per_energy(settings.efficiency_correction, edges)
    error = per_energy(settings.efficiency_correction_error, edges)
    if not (np.all(factor > 0) and np.all(error >= 0)):
        msg = "the efficiency correction must be positive and its error not negative"
        raise AnalysisError(msg)
    return replace(
        signal,
        value=signal.value * factor,
        error=np.hypot(signal.error * factor, signal.value * error),
        lower=signal.lower * factor,
        upper=signal.upper * factor,
    )


def _exposure(table: FluxTable) -> FloatArray:
    """A T ΔE, m² sr s GeV."""
    return np.asarray(table.acceptance * table.livetime * (table.e_max - table.e_min))


def _description(
    settings: FluxSettings,
    meta: Mapping[str, Any],
    cut: FloatArray,
    control: tuple[FloatArray, FloatArray],
    background: Background,
    found: FitResult | None,
) -> dict[str, Any]:
    """What the table says about how it was made."""
    notes: dict[str, Any] = {
        "region": settings.region,
        "half_width_mm": square_half_width(meta),
        "edge_cut": settings.edge,
        "bgo_reconstruction": meta["bgo_reconstruction"],
        "score": (meta.get("score") or {}).get("name"),
        "method": settings.method,
        "cut": _short(cut),
        "control": [_short(border) for border in control],
        "electrons_in_control": settings.electrons_in_control,
        "background_mc_limited_bins": np.flatnonzero(background.mc_limited),
    }
    if found is not None:
        notes["fit"] = {
            **found.settings,
            "window": [_short(border) for border in found.window],
            "coefficients": {k: list(v) for k, v in found.coefficients.items()},
            "deviance": float(np.nansum(found.deviance)),
            "ndf": found.ndf,
            "p_value": found.p_value,
        }
    return notes


def _short(values: FloatArray) -> float | list[float]:
    """One number if all are the same."""
    return float(values[0]) if np.all(values == values[0]) else values.tolist()
