"""What is fitted: which energy bins, their likelihood, and where the search starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError
from analysis.templatefit.bins import FitBins, fit_bins
from analysis.templatefit.model import FitModel
from analysis.templatefit.morphing import movable
from analysis.templates import Template

__all__ = ["FitSettings", "Problem", "prepare", "reasons", "window", "with_orders"]

FloatArray = NDArray[np.float64]

MOST_ORDER = 3


@dataclass(frozen=True)
class FitSettings:
    """How the templates are fitted.

    Attributes:
        method: one of the three ways.
        shift_order: order of the polynomial s(log10 E); None: no shift; ``auto``: raised, up to 3, as long
            as the deviance falls by more than 3.84 (95 % for one parameter).
        width_order: the same for the proton width; None: 1.
        electron_order: the same for a shift of the electrons; None: 0.
        e0_gev: energy at which the polynomials have their constant term.
        window: lower and upper border of the score range that is fitted, scalars or (n,).
        e_min_gev: energy bins that start below are not fitted.
        e_max_gev: energy bins that end above are not fitted.
        clamped: yields cannot be negative. Otherwise they may be, as long as the sum of the templates
            is not.
        min_effective: effective simulated events per score bin, see :mod:`analysis.templatefit.bins`.
        fixed: coefficients of the proton shift that are not fitted but taken as they are.
    """

    method: Literal["simultaneous", "smooth", "per_bin"] = "simultaneous"
    shift_order: int | Literal["auto"] | None = 1
    width_order: int | None = None
    electron_order: int | None = None
    e0_gev: float = 1000.0
    window: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf)
    e_min_gev: float = 0.0
    e_max_gev: float = np.inf
    clamped: bool = True
    min_effective: float = 200.0
    fixed: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        orders = (self.shift_order, self.width_order, self.electron_order)
        if any(isinstance(o, int) and not 0 <= o <= MOST_ORDER for o in orders):
            msg = f"orders of the shift and width are 0 to {MOST_ORDER}, or None; got {orders}"
            raise AnalysisError(msg)
        if self.fixed is not None and (self.shift_order != len(self.fixed) - 1):
            msg = f"{len(self.fixed)} fixed coefficients do not fit to shift order {self.shift_order!r}"
            raise AnalysisError(msg)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is fitted: the likelihood, and where to start.

    ``start`` has the electron yield, proton yield and shift of each energy bin, (3, n).
    """

    model: FitModel
    start: FloatArray

    def row(self, i: int) -> Problem:
        """One energy bin alone, with a shift and width of its own where they are fitted."""
        at = np.array([i])
        m = self.model
        designs = (m.shift, m.width, m.electron_shift)
        one = [np.ones((1, min(d.shape[1], 1))) for d in designs]
        electrons, protons = (
            (part[0].rows(at), part[1].rows(at)) for part in (m.electrons, m.protons)
        )
        model = FitModel(m.counts[at], m.edges[at], electrons, protons, *one)
        return Problem(model, self.start[:, at])


def reasons(
    data: Template, electrons: Template, protons: Template, settings: FitSettings
) -> list[str | None]:
    """Why each energy bin is not fitted, None for those that are."""
    edges, slack = data.energy_edges, 1e-9
    inside = (edges[:-1] >= settings.e_min_gev * (1 - slack)) & (
        edges[1:] <= settings.e_max_gev * (1 + slack)
    )
    low, high = settings.window
    sums = [t.between(low, high) for t in (data, electrons, protons)]
    checks = (
        (inside, "outside the energies of the fit"),
        ((sums[1].value > 0) & (sums[1].variance > 0), "no electron simulation in the window"),
        ((sums[2].value > 0) & (sums[2].variance > 0), "no proton simulation in the window"),
        (sums[0].value > 0, "no data in the window"),
    )
    return [next((why for ok, why in checks if not ok[i]), None) for i in range(edges.size - 1)]


def prepare(
    data: Template,
    electrons: Template,
    protons: Template,
    settings: FitSettings,
    used: NDArray[np.intp],
    cut: ArrayLike | None,
) -> tuple[Problem, FitBins]:
    """The likelihood of some energy bins, without shifts, and its score bins."""
    n = data.values.shape[0]
    low, high = (border[used] for border in window(settings, n))
    data, electrons, protons = (_rows(t, used) for t in (data, electrons, protons))
    cuts = None if cut is None else np.broadcast_to(np.asarray(cut, np.float64), (n,))[used]
    start = _start(data, electrons, protons, cuts)
    moved = protons if settings.shift_order is None else _rolled(protons, start[2])
    bins = fit_bins(data, electrons, moved, (low, high), settings.min_effective)
    none = np.zeros((used.size, 0))
    model = FitModel(
        counts=bins.counts,
        edges=bins.edges,
        electrons=(movable(electrons), movable(electrons, smooth=True)),
        protons=(movable(protons), movable(protons, smooth=True)),
        shift=none,
        width=none,
        electron_shift=none,
    )
    return Problem(model, start), bins


def _rolled(template: Template, shift: FloatArray) -> Template:
    """The template about where it will be fitted, in whole score bins: where bins are well filled."""
    step = float(template.omega_edges[1] - template.omega_edges[0])
    parts = []
    for content in (template.values, template.variances):
        moved = content.copy()
        for row, n in zip(moved, np.rint(shift / step).astype(np.intp), strict=True):
            inner = row[1:-1].copy()
            row[1:-1] = 0.0
            size = inner.size
            row[1 + max(n, 0) : 1 + size + min(n, 0)] = inner[max(-n, 0) : size - max(n, 0)]
        parts.append(moved)
    return replace(template, values=parts[0], variances=parts[1])


def window(settings: FitSettings, n: int) -> tuple[FloatArray, FloatArray]:
    """Borders of the fit, one per energy bin."""
    low, high = (np.array(np.broadcast_to(w, (n,)), np.float64) for w in settings.window)
    return low, high


def _rows(template: Template, used: NDArray[np.intp]) -> Template:
    """Some energy bins of a template; its energy edges are not used here."""
    return replace(template, values=template.values[used], variances=template.variances[used])


def _start(
    data: Template, electrons: Template, protons: Template, cuts: FloatArray | None
) -> FloatArray:
    """Electron yield, proton yield and shift of each energy bin, roughly."""
    x = np.concatenate([
        data.omega_edges[:1], 0.5 * (data.omega_edges[1:] + data.omega_edges[:-1]), data.omega_edges[-1:]
    ])  # fmt: skip
    out = np.zeros((3, data.values.shape[0]))
    for i in range(out.shape[1]):
        d, e, p = (t.values[i] for t in (data, electrons, protons))
        halfway = 0.5 * (_median(x, e) + _median(x, p))
        border = halfway if cuts is None else float(cuts[i])
        above = x >= border
        passed = e[above].sum() / e.sum()
        out[0, i] = d[above].sum() / max(passed, 0.05)
        out[1, i] = max(d.sum() - out[0, i], 0.05 * d.sum())
        below_d, below_p = np.where(above, 0.0, d), np.where(above, 0.0, p)
        if below_d.sum() > 0 and below_p.sum() > 0:
            out[2, i] = _median(x, below_d) - _median(x, below_p)
    return out


def _median(x: FloatArray, weight: FloatArray) -> float:
    total = np.cumsum(weight)
    return float(np.interp(0.5 * total[-1], total, x))


def _powers(
    data: Template, used: NDArray[np.intp], order: int | str | None, e0_gev: float
) -> FloatArray:
    """Design matrix of a polynomial in log10(E/E0) at the bin centres, (used.size, order + 1)."""
    edges = np.log10(data.energy_edges / e0_gev)
    centre = 0.5 * (edges[1:] + edges[:-1])[used]
    return np.vander(centre, order + 1 if isinstance(order, int) else 0, increasing=True)


def with_orders(
    problem: Problem, data: Template, used: NDArray[np.intp], settings: FitSettings
) -> Problem:
    """The problem with the polynomials of the settings, shared by all energy bins."""
    shift, width, electron = (
        _powers(data, used, order, settings.e0_gev)
        for order in (settings.shift_order, settings.width_order, settings.electron_order)
    )
    if max(shift.shape[1], width.shape[1], electron.shape[1]) > used.size:
        msg = f"{used.size} energy bins with data cannot fix polynomials of so many terms; lower the order"
        raise AnalysisError(msg)
    model = replace(problem.model, shift=shift, width=width, electron_shift=electron)
    return replace(problem, model=model)
