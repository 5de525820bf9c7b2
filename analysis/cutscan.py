r"""Flux against the score cut: which cut to take, and how much the flux depends on it.

The cut is chosen from what is expected, never from the data above it: electrons from the simulation under the
target flux, :math:`E = T \sum w`, protons B from the simulation normalised by the template fit or in the control
region. With :math:`\sigma_B` the error of B and :math:`\varepsilon` the efficiency, the expected relative
error of the flux is :math:`\sqrt{E + B + \sigma_B^2}/E \oplus \sigma_\varepsilon/\varepsilon`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from analysis.acceptance import Acceptance
from analysis.background import fitted_background, proton_background
from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.flux import flux
from analysis.intervals import WeightedEfficiency, weighted_efficiency
from analysis.templatefit.morphing import movable
from analysis.templatefit.result import FitResult, check_axes
from analysis.templates import Sums, Template

__all__ = ["CutScan", "choose_cuts", "cut_grid", "cut_index", "scan_cuts"]

FloatArray = NDArray[np.float64]

_PENALTY = 10.0  # times the largest expected error of an energy bin, for cuts without one


@dataclass(frozen=True, eq=False)
class CutScan:
    """Everything above each cut; shape (n, c) for n energy bins and c cuts unless said otherwise.

    Attributes:
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        cuts: (c,) score cuts, ascending, on edges of the axis.
        n_data: data above the cut.
        efficiency: electron efficiency of the cut.
        efficiency_error: its error.
        electrons: Σw and Σw² of the electron template above the cut.
        electron_total: Σw and Σw² of the whole electron template, (n,) each.
        background: protons above the cut, data counts.
        background_error: its error, data counts.
        background_fraction: protons above the cut / data above the cut; NaN without data.
        background_fraction_error: its error at fixed data.
        background_parts: parts of ``background_error``, data counts, added in quadrature: ``yield`` and
            ``shift`` of the normalisation, ``template`` of the simulated protons above the cut.
        mc_limited: no simulated proton above the cut.
        dnde: flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        dnde_errn: its statistical error downwards.
        dnde_errp: the same upwards.
        expected: electrons expected above the cut under the target flux of the simulation.
        expected_error: expected relative error of the flux; inf without expected electrons.
        success: whether there is a flux.
        fitted: whether the background is that of a template fit, else of a control region.
    """

    e_min: FloatArray
    e_max: FloatArray
    cuts: FloatArray
    n_data: FloatArray
    efficiency: FloatArray
    efficiency_error: FloatArray
    electrons: Sums
    electron_total: Sums
    background: FloatArray
    background_error: FloatArray
    background_fraction: FloatArray
    background_fraction_error: FloatArray
    background_parts: Mapping[str, FloatArray]
    mc_limited: NDArray[np.bool_]
    dnde: FloatArray
    dnde_errn: FloatArray
    dnde_errp: FloatArray
    expected: FloatArray
    expected_error: FloatArray
    success: NDArray[np.bool_]
    fitted: bool


def cut_grid(
    electrons: Template, efficiencies: tuple[float, float] = (0.5, 0.999), most: int = 40
) -> FloatArray:
    """Evenly spaced cuts that span a range of efficiencies in all energy bins.

    Args:
        electrons: electron template.
        efficiencies: lowest and highest efficiency, which each energy bin reaches inside the grid as far as
            the score axis allows.
        most: number of cuts that is not exceeded; the step is a whole number of score bins.

    Returns:
        Ascending cuts on edges of the score axis.

    Raises:
        AnalysisError: no simulation, efficiencies not ascending within (0, 1), or ``most`` below 2.
    """
    low, high = efficiencies
    if not (0.0 < low < high < 1.0 and most >= 2):
        msg = f"a grid needs 0 < lowest < highest efficiency < 1 and 2 cuts, got {efficiencies}, {most}"
        raise AnalysisError(msg)
    total = electrons.values.sum(axis=1)
    if not np.any(total > 0):
        msg = "the electron template is empty: no efficiency, no grid of cuts"
        raise AnalysisError(msg)
    above = np.cumsum(electrons.values[total > 0, ::-1], axis=1)[:, ::-1]
    share = above[:, 1:] / total[total > 0, None]  # above each edge
    first = int(_highest(share, high).min())
    last = max(int(_highest(share, low).max()), first)
    step = max(1, -(-(last - first + 1) // most))
    return electrons.omega_edges[first : last + 1 : step].copy()


def scan_cuts(
    data: Template,
    electrons: Template,
    protons: Template,
    cuts: ArrayLike,
    acceptance: Acceptance,
    livetime_s: float,
    *,
    result: FitResult | None = None,
    control: tuple[ArrayLike, ArrayLike] | None = None,
    index: float = -3.0,
    background_scale_error: float = 0.0,
) -> CutScan:
    """Counts, efficiency, background, flux and expected error for a series of cuts.

    Args:
        data: data template.
        electrons: electron template in s⁻¹ under the target flux.
        protons: proton template, any normalisation.
        cuts: score cuts on edges of the axis.
        acceptance: before the score cut, in the energy bins of the templates.
        livetime_s: s.
        result: template fit whose yields and shift give the background; or
        control: control region of :func:`analysis.background.proton_background`. One of both.
        index: spectral index of the reference energy.
        background_scale_error: relative error of the background that is added in ``expected_error``, for what
            the simulation may not know about the protons; without it the cut is as loose as the
            statistics want it.

    Returns:
        The scan.

    Raises:
        AnalysisError: no cuts, neither or both of ``result`` and ``control``, a negative
            ``background_scale_error``, or a control region that reaches above the lowest cut.
        HistogramMismatchError: energy bins differ.
        CutNotOnEdgeError: a cut or control border is inside a score bin.
    """
    where = np.unique(np.asarray(cuts, np.float64))
    if not where.size:
        msg = "a scan needs at least one cut; give score values on edges of the axis"
        raise AnalysisError(msg)
    if (result is None) == (control is None):
        msg = "a scan needs a template fit or a control region for the background, and only one of both"
        raise AnalysisError(msg)
    if not 0.0 <= background_scale_error < np.inf:
        msg = f"background_scale_error must be finite and >= 0, got {background_scale_error!r}"
        raise AnalysisError(msg)
    check_axes(data, electrons, protons)
    edges = data.energy_edges
    if acceptance.value.size != edges.size - 1 or not np.allclose(acceptance.e_min, edges[:-1]):
        msg = "the acceptance has other energy bins than the templates; take both from one file"
        raise HistogramMismatchError(msg)
    total = electrons.total()
    rows: dict[str, list[NDArray[Any]]] = {}
    parts: dict[str, list[FloatArray]] = {}
    prepared = None
    if result is not None:  # the work that does not depend on the cut
        prepared = movable(protons), movable(protons, smooth=True)
    for cut in where:
        passed = electrons.above(cut)
        signal = weighted_efficiency(*passed, *total)
        if result is not None:
            bkg = fitted_background(result, data, protons, cut, prepared=prepared)
        elif control is not None:
            bkg = proton_background(data, protons, cut, control)
        table = flux(
            bkg.n_data,
            bkg.fraction,
            bkg.fraction_error,
            np.where(signal.value > 0, signal.value, np.nan),
            signal.error,
            acceptance.value,
            acceptance.error,
            livetime_s,
            edges[:-1],
            edges[1:],
            index=index,
        )
        expected = livetime_s * passed.value
        protons_error = np.hypot(bkg.error, background_scale_error * bkg.value)
        for name, column in {
            "n_data": bkg.n_data,
            "efficiency": signal.value,
            "efficiency_error": signal.error,
            "above": passed.value,
            "above_variance": passed.variance,
            "background": bkg.value,
            "background_error": bkg.error,
            "background_fraction": bkg.fraction,
            "background_fraction_error": bkg.fraction_error,
            "mc_limited": bkg.mc_limited,
            "dnde": table.dnde,
            "dnde_errn": table.dnde_errn,
            "dnde_errp": table.dnde_errp,
            "expected": expected,
            "expected_error": _expected_error(expected, bkg.value, protons_error, signal),
            "success": table.success,
        }.items():
            rows.setdefault(name, []).append(column)
        for name, share in bkg.parts.items():
            parts.setdefault(name, []).append(share * bkg.n_data)
    stacked = {name: np.stack(columns, axis=1) for name, columns in rows.items()}
    return CutScan(
        e_min=edges[:-1].copy(),
        e_max=edges[1:].copy(),
        cuts=where,
        electrons=Sums(stacked.pop("above"), stacked.pop("above_variance")),
        electron_total=total,
        background_parts={name: np.stack(columns, axis=1) for name, columns in parts.items()},
        fitted=result is not None,
        **stacked,
    )


def choose_cuts(
    scan: CutScan,
    rule: Literal["efficiency", "error"],
    *,
    efficiency: float = 0.9,
    nodes: int | None = None,
) -> FloatArray:
    """One cut per energy bin, from simulation and expectation alone.

    With rule ``error`` and no ``nodes`` each energy bin prefers cuts above which too few protons happen to be
    simulated, and the background comes out too low; a curve through all bins hardly does.

    Args:
        scan: the scan; only its efficiencies or expected errors are used.
        rule: ``efficiency``: the highest cut of the scan whose efficiency is at least ``efficiency``;
            ``error``: the cut with the smallest expected relative error of the flux.
        efficiency: of the first rule.
        nodes: None: each energy bin alone. Else the cuts follow straight lines in log10 E between so many evenly
            spaced nodes (1: one cut for all), rounded to the cuts of the scan, so that they do not jump with the
            noise of the simulation: for ``efficiency`` the least-squares curve through the cuts of the bins,
            whose efficiency is then only about the wanted one; for ``error`` the curve with the smallest mean
            logarithm of the expected error.

    Returns:
        (n,) cuts of the scan. An energy bin without a choice of its own (no simulation, or the scan starts
        above the wanted efficiency) takes that of its nearest neighbour in energy, or of the curve.

    Raises:
        AnalysisError: unknown rule, efficiency or nodes out of range, or no energy bin has a choice.
    """
    if rule not in ("efficiency", "error"):
        msg = f"cuts are chosen by 'efficiency' or 'error', not {rule!r}"
        raise AnalysisError(msg)
    if not 0.0 < efficiency < 1.0 or (nodes is not None and nodes < 1):
        msg = f"efficiency must be inside (0, 1) and nodes 1 or more, got {efficiency} and {nodes}"
        raise AnalysisError(msg)
    if rule == "efficiency":
        share = np.nan_to_num(scan.efficiency, nan=-1.0)
        own, good = _highest(share, efficiency), share[:, 0] >= efficiency
    else:
        own, good = np.argmin(_finite(scan.expected_error), axis=1), _any_finite(scan)
    if not good.any():
        msg = (
            "no energy bin has a cut by this rule; scan lower cuts, or give simulation that passes"
        )
        raise AnalysisError(msg)
    x = np.log10(scan.e_min * scan.e_max) / 2.0
    if nodes is None:
        known = np.flatnonzero(good)
        nearest = known[np.argmin(np.abs(x[:, None] - x[known]), axis=1)]
        return scan.cuts[np.where(good, own, own[nearest])]
    hats = _hats(x, good, min(nodes, int(good.sum())))
    heights = np.asarray(
        np.linalg.lstsq(hats[good], scan.cuts[own[good]], rcond=None)[0], np.float64
    )
    if rule == "error":
        heights = _least_error(scan, hats[good], good, heights)
    nearest = np.argmin(np.abs((hats @ heights)[:, None] - scan.cuts), axis=1)
    return np.asarray(scan.cuts[nearest])


def cut_index(scan: CutScan, chosen: ArrayLike) -> NDArray[np.intp]:
    """Numbers of cuts in the scan.

    Args:
        scan: the scan.
        chosen: one cut or one per energy bin.

    Returns:
        (n,) positions in ``scan.cuts``.

    Raises:
        AnalysisError: a cut was not scanned.
    """
    cuts = np.broadcast_to(np.asarray(chosen, np.float64), scan.e_min.shape)
    at = np.argmin(np.abs(cuts[:, None] - scan.cuts), axis=1)
    off = np.abs(scan.cuts[at] - cuts) > 1e-6 * np.maximum(np.abs(cuts), 1.0)
    if off.any() or not np.isfinite(cuts).all():
        msg = f"cut {cuts[np.argmax(off)]:g} was not scanned; choose one of the cuts of the scan"
        raise AnalysisError(msg)
    return np.asarray(at)


def _expected_error(
    expected: FloatArray,
    protons: FloatArray,
    protons_error: FloatArray,
    signal: WeightedEfficiency,
) -> FloatArray:
    """Relative error of the flux if the counts are as expected."""
    some = (expected > 0) & (signal.value > 0)
    e, eff = np.where(some, expected, 1.0), np.where(some, signal.value, 1.0)
    counts = np.sqrt(np.maximum(e + protons, 0.0) + protons_error**2) / e
    out = np.hypot(counts, signal.error / eff)
    return np.where(some & np.isfinite(out), out, np.inf)


def _hats(x: FloatArray, good: NDArray[np.bool_], nodes: int) -> FloatArray:
    """Matrix that makes straight lines between nodes of their heights, constant beyond, (n, nodes)."""
    if nodes == 1:
        return np.ones((x.size, 1))
    at = np.linspace(x[good].min(), x[good].max(), nodes)
    return np.stack([np.interp(x, at, unit) for unit in np.eye(nodes)], axis=1)


def _least_error(
    scan: CutScan, hats: FloatArray, good: NDArray[np.bool_], start: FloatArray
) -> FloatArray:
    """Heights of the nodes with the smallest mean logarithm of the expected error."""
    logs = np.log(_finite(scan.expected_error))[good]
    rows = np.arange(logs.shape[0])
    cuts = scan.cuts
    numbers = np.arange(cuts.size, dtype=np.float64)

    def mean(heights: FloatArray) -> float:
        at = np.interp(hats @ heights, cuts, numbers)
        low = np.minimum(at.astype(np.intp), max(cuts.size - 2, 0))
        high = np.minimum(low + 1, cuts.size - 1)
        part = at - low
        return float(np.mean((1.0 - part) * logs[rows, low] + part * logs[rows, high]))

    span = max(float(cuts[-1] - cuts[0]), 1e-9)
    found = minimize(
        mean,
        start,
        method="Powell",
        bounds=[(cuts[0], cuts[0] + span)] * start.size,
        options={"xtol": 1e-4, "ftol": 1e-10, "maxiter": 4000},
    )
    return np.asarray(found.x)


def _highest(share: FloatArray, wanted: float) -> NDArray[np.intp]:
    """Last column of each row that has at least the wanted share; 0 if none has."""
    enough = share >= wanted * (1.0 - 1e-12)
    last = share.shape[1] - 1 - np.argmax(enough[:, ::-1], axis=1)
    return np.where(enough.any(axis=1), last, 0)


def _any_finite(scan: CutScan) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(scan.expected_error).any(axis=1))


def _finite(errors: FloatArray) -> FloatArray:
    """Expected errors, those of cuts without one far above the others of the energy bin."""
    finite = np.isfinite(errors)
    largest = np.where(finite, errors, 0.0).max(axis=1, keepdims=True)
    return np.where(finite, errors, _PENALTY * np.where(largest > 0, largest, 1.0))
