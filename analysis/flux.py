"""Cut and count: from counts, background, efficiency, acceptance and livetime to the flux."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.acceptance import acceptance_from_histogram
from analysis.background import proton_background
from analysis.efficiency import signal_efficiency
from analysis.energy import lafferty_wyatt
from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.fluxtable import FluxTable
from analysis.intervals import ONE_SIGMA, garwood, upper_limit
from analysis.selection import Edge, project
from analysis.templates import template

__all__ = ["FluxTable", "flux", "flux_from_histograms"]

_CARRIED = (  # metadata of the histogram file that travels with the flux
    "program",
    "inputs",
    "ledger",
    "target_spectrum",
    "injected",
    "score",
    "synthetic",
    "toy",
    "complete",
    "bgo_reconstruction",
    "edge_cut",
    "histograms_sha256",
)


def flux(
    n_data: ArrayLike,
    background_fraction: ArrayLike,
    background_fraction_err: ArrayLike,
    efficiency: ArrayLike,
    efficiency_err: ArrayLike,
    acceptance: ArrayLike,
    acceptance_err: ArrayLike,
    livetime_s: ArrayLike,
    e_min: ArrayLike,
    e_max: ArrayLike,
    *,
    index: float = -3.0,
    level: float = ONE_SIGMA,
    ul_level: float = 0.95,
    meta: Mapping[str, Any] | None = None,
) -> FluxTable:
    r"""Flux per energy bin: ``counts = (1 − bkg) N / eff``, ``flux = counts / (A T ΔE)``.

    A is the acceptance **before** the score cut; an acceptance that already contains the cut goes
    with ``efficiency = 1``.

    Errors. ``dnde_errn`` and ``dnde_errp`` add in quadrature, each as a change of the flux: the
    distance of N to its Garwood end on that side; the background, :math:`N\,\sigma_{bkg}`; the
    efficiency, :math:`(1-bkg)\,N\,\sigma_{eff}/eff`. The statistical error of the simulated acceptance,
    the same for all data, is kept apart as ``sys_acceptance_n/p`` = flux σ_A / A.

    Zero counts: the background fraction is undefined there and not used; the flux is 0 with the
    Garwood error upwards. ``dnde_ul`` is given in every good bin: the Helene-Zech limit for N
    counts over bkg·N, with background, efficiency and acceptance taken as exact. A background
    fraction above 1 gives a negative flux; quote ``dnde_ul`` there.

    A bin with a non-finite input, or an efficiency or acceptance that is not positive, fails alone:
    ``success`` False, NaN, and a sentence in ``meta["failed_bins"]``.

    Args:
        n_data: (n,) data events above the score cut; scalars broadcast for all inputs.
        background_fraction: share of N that is background.
        background_fraction_err: its error at fixed N.
        efficiency: efficiency of the score cut, > 0.
        efficiency_err: its error.
        acceptance: m² sr, > 0.
        acceptance_err: its error, m² sr.
        livetime_s: s, > 0.
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        index: spectral index of the Lafferty-Wyatt reference energy.
        level: probability content of the Garwood interval.
        ul_level: confidence level of ``dnde_ul``.
        meta: carried into the table.

    Returns:
        The flux table, flux in GeV⁻¹ m⁻² s⁻¹ sr⁻¹.

    Raises:
        AnalysisError: livetime not positive, or negative counts.
        ValueError: shapes that do not broadcast, edges not ascending, levels outside (0, 1).
    """
    low = np.atleast_1d(np.asarray(e_min, dtype=np.float64))
    e_ref = lafferty_wyatt(low, e_max, index)
    inputs = (n_data, background_fraction, background_fraction_err, efficiency, efficiency_err)
    n, bkg, bkg_err, eff, eff_err, acc, acc_err, time, high = (
        np.broadcast_to(np.asarray(x, dtype=np.float64), low.shape)
        for x in (*inputs, acceptance, acceptance_err, livetime_s, e_max)
    )
    if not np.all((time > 0) & np.isfinite(time)):
        msg = f"livetime must be positive and finite, got {livetime_s!r} s"
        raise AnalysisError(msg)
    if np.any(n < 0):
        msg = f"counts above the cut must not be negative, got {n[n < 0][0]!r}"
        raise AnalysisError(msg)

    failed = _failures(n, bkg, bkg_err, eff, eff_err, acc, acc_err)
    good = np.array([reason is None for reason in failed])
    n_safe = np.where(good, n, 0.0)
    used, used_err = (np.where(good & (n > 0), x, 0.0) for x in (bkg, bkg_err))
    eff_safe = np.where(good, eff, 1.0)
    exposure = eff_safe * np.where(good, acc, 1.0) * time * (high - low)

    excess = (1.0 - used) * n_safe
    interval = garwood(n_safe, level)
    other = (n_safe * used_err) ** 2 + (excess * np.where(good, eff_err, 0.0) / eff_safe) ** 2
    limit = upper_limit(n_safe, np.maximum(used * n_safe, 0.0), ul_level)
    dnde = excess / exposure
    sys_acceptance = np.abs(dnde) * np.where(good, acc_err, 0.0) / np.where(good, acc, 1.0)

    def kept(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(good, values, np.nan)

    return FluxTable(
        e_min=low,
        e_max=high,
        e_ref=e_ref,
        dnde=kept(dnde),
        dnde_errn=kept(np.sqrt((n_safe - interval.lower) ** 2 + other) / exposure),
        dnde_errp=kept(np.sqrt((interval.upper - n_safe) ** 2 + other) / exposure),
        dnde_ul=kept(limit / exposure),
        n_data=n,
        counts=kept(excess / eff_safe),
        background_fraction=bkg,
        background_fraction_err=bkg_err,
        efficiency=eff,
        efficiency_err=eff_err,
        acceptance=acc,
        acceptance_err=acc_err,
        livetime=time,
        success=good,
        systematics={"acceptance": (kept(sys_acceptance), kept(sys_acceptance))},
        meta={
            **(meta or {}),
            "e_ref": {"rule": "Lafferty-Wyatt", "index": index},
            "errors": {
                "level": level,
                "method": "Garwood on n_data, background and efficiency in quadrature",
            },
            "upper_limit": {"level": ul_level, "method": "Helene-Zech (CLs), inputs exact"},
            "failed_bins": [
                {"bin": i, "e_min_gev": low[i], "e_max_gev": high[i], "reason": reason}
                for i, reason in enumerate(failed)
                if reason is not None
            ],
        },
    )


def flux_from_histograms(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    *,
    region: str = "fiducial",
    edge: Edge = "on",
    bgo: str | None = None,
    score_name: str | None = None,
    cut: float | None = None,
    control: tuple[float, float] | None = None,
    electrons_in_control: bool = False,
    index: float = -3.0,
    ul_level: float = 0.95,
    e_min_gev: float | None = None,
    e_max_gev: float | None = None,
    allow_incomplete: bool = False,
) -> FluxTable:
    """Flux from a histogram file, cut and count to the letter.

    Acceptance is in true energy, everything else in reconstructed energy: right while the bins are
    much wider than the resolution (1 % against 15 % for the fiducial region); no unfolding.

    Args:
        hists: ``score`` (axes kind, region, bgo, edge, energy, omega) and ``passed`` (kind, region,
            bgo, edge, energy_true), Weight storage; or what :func:`analysis.selection.project`
            made of them.
        meta: metadata of the file: ``livetime_s``, ``target_flux_integral``, ``score``,
            ``complete``, ``by_bgo``.
        region: ``fiducial`` or ``topfiducial``.
        edge: edge cut on or off.
        bgo: BGO reconstruction; default the only one, ``new`` if there are several.
        score_name: one of the further scores of the file; default the card's. Needs ``cut`` and
            ``control``.
        cut: score cut on a bin edge; default ``meta["score"]["cut"]``.
        control: proton control region in omega; default ``meta["score"]["control"]``.
        electrons_in_control: subtract electrons from the control region.
        index: spectral index of the reference energy.
        ul_level: confidence level of the upper limit.
        e_min_gev: bins that start below fail, as do those below ``meta["complete_above_gev"]``, the
            energy from which skimmed data are complete.
        e_max_gev: bins that end above fail. Bins beyond the generated electrons fail in any case.
        allow_incomplete: accept histograms marked incomplete (their livetime must be that of the
            files that were read); the table's metadata keeps ``complete: false``.

    Returns:
        The flux table, with the inputs' metadata.

    Raises:
        IncompleteDataError: incomplete histograms, no usable livetime, or files that were skimmed for
            the other region.
        HistogramMismatchError: a histogram, axis, category or metadata entry is missing, or energy
            bins differ.
        CutNotOnEdgeError: cut or control border inside a score bin.
        AnalysisError: control region above the cut.
    """
    if not allow_incomplete and not _entry(meta, "complete"):
        missing = meta.get("ledger", {}).get("missing", [])
        msg = (
            f"the histograms are incomplete ({len(missing)} chunks missing, or too many NaN values); "
            "'cre status' names what is missing; finish the run"
        )
        raise IncompleteDataError(msg)
    if meta.get("fiducial_only") and region != "fiducial":
        msg = f"files of this run hold fiducial events only; a {region} flux needs unskimmed files"
        raise IncompleteDataError(msg)
    hists, meta = project(hists, meta, edge=edge, bgo=bgo, score=score_name)
    livetime = _entry(meta, "livetime_s")
    if not (isinstance(livetime, int | float) and 0 < livetime < np.inf):
        msg = f"livetime_s is {livetime!r}; a flux needs the livetime of the data that were read"
        raise IncompleteDataError(msg)
    if score_name is not None and "cut" not in meta["score"] and (cut is None or control is None):
        msg = f"the card has no cut and control region for the score {score_name!r}: give both"
        raise AnalysisError(msg)
    cut = _entry(meta, "score", "cut") if cut is None else cut
    low, high = _entry(meta, "score", "control") if control is None else control

    score = _entry(hists, "score")
    data, electrons, protons = (
        template(score, kind, region) for kind in ("data", "electron", "proton")
    )
    outside = _outside(meta, data.energy_edges, e_min_gev, e_max_gev)
    signal = signal_efficiency(electrons, cut)
    background = proton_background(
        data,
        protons,
        cut,
        (low, high),
        electrons=electrons if electrons_in_control else None,
    )
    area = acceptance_from_histogram(
        _entry(hists, "passed"), _entry(meta, "target_flux_integral", "electron"), region=region
    )
    true_edges = np.append(area.e_min, area.e_max[-1:])
    if not np.array_equal(true_edges, data.energy_edges):
        msg = "bins of true energy ('passed') differ from those of energy ('score'); use one card"
        raise HistogramMismatchError(msg)
    return flux(
        background.n_data,
        background.fraction,
        background.fraction_error,
        np.where(signal.success, signal.value, np.nan),
        signal.error,
        np.where(outside, np.nan, area.value),
        area.error,
        livetime,
        area.e_min,
        area.e_max,
        index=index,
        ul_level=ul_level,
        meta={
            **{key: meta[key] for key in _CARRIED if key in meta},
            "flux": {
                "region": region,
                "edge_cut": edge,
                "bgo_reconstruction": meta["bgo_reconstruction"],
                "score": (meta.get("score") or {}).get("name"),
                "cut": cut,
                "control": [low, high],
                "electrons_in_control": electrons_in_control,
                "background_mc_limited_bins": np.flatnonzero(background.mc_limited),
            },
        },
    )


def _failures(
    n: NDArray[np.float64],
    bkg: NDArray[np.float64],
    bkg_err: NDArray[np.float64],
    eff: NDArray[np.float64],
    eff_err: NDArray[np.float64],
    acc: NDArray[np.float64],
    acc_err: NDArray[np.float64],
) -> list[str | None]:
    """Return the reason why each bin has no flux, None where it has one."""
    checks = (
        (np.isfinite(n), "counts are not finite"),
        (
            (acc > 0) & np.isfinite(acc),
            "no acceptance: outside the energy range, or no selected electron simulation",
        ),
        ((eff > 0) & np.isfinite(eff), "no efficiency: no electron simulation above the cut"),
        (
            (n == 0) | np.isfinite(bkg),
            "no background: data or proton simulation empty in the control region",
        ),
        (np.isfinite(acc_err) & (acc_err >= 0), "acceptance error is not a number >= 0"),
        (np.isfinite(eff_err) & (eff_err >= 0), "efficiency error is not a number >= 0"),
        (
            (n == 0) | (np.isfinite(bkg_err) & (bkg_err >= 0)),
            "background error is not a number >= 0",
        ),
    )
    return [next((why for ok, why in checks if not ok[i]), None) for i in range(n.size)]


def _outside(
    meta: Mapping[str, Any],
    edges: NDArray[np.float64],
    e_min_gev: float | None,
    e_max_gev: float | None,
) -> NDArray[np.bool_]:
    """Bins outside the wanted range, the complete data or the generated electrons."""
    low = max(float(meta.get("complete_above_gev", 0.0)), e_min_gev or 0.0)
    high = np.inf if e_max_gev is None else e_max_gev
    slack = 1e-9  # edges are compared with themselves, written and read
    outside = (edges[:-1] < low * (1 - slack)) | (edges[1:] > high * (1 + slack))
    samples = [g for g in meta.get("generated", {}).get("electron", []) if g["events"]]
    if samples:
        covered = np.zeros(len(edges) - 1, dtype=bool)
        for start, stop in _union([(g["e_min_gev"], g["e_max_gev"]) for g in samples]):
            covered |= (edges[:-1] >= start * (1 - slack)) & (edges[1:] <= stop * (1 + slack))
        outside |= ~covered
    return np.asarray(outside)


def _union(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge intervals that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _entry(mapping: Mapping[str, Any], *keys: str) -> Any:
    """Return a nested entry, or say which one is missing."""
    value: Any = mapping
    for depth, key in enumerate(keys):
        if not isinstance(value, Mapping) or key not in value:
            msg = f"the histogram file has no {'.'.join(keys[: depth + 1])!r}; write it anew"
            raise HistogramMismatchError(msg)
        value = value[key]
    return value
