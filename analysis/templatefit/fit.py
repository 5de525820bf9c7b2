r"""Fit of electron and proton templates to the data, with a proton shift that depends on energy.

Per energy bin :math:`N_e T_e(\Omega) + N_p T_p(\Omega - s)` with :math:`s(E) = s_0 + s_1 \log_{10}(E/E_0)
+ \dots`; a width and a shift of the electrons can be freed in the same way. Three ways to the same result:

* ``simultaneous``: all energy bins at once, s(E) shared by them (the default);
* ``per_bin``: each energy bin alone with its own shift;
* ``smooth``: a polynomial through the shifts of ``per_bin``, weighted by their errors; then all yields at the
  shift of the polynomial, whose covariance is carried into theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag

from analysis.exceptions import AnalysisError
from analysis.templatefit.bins import FitBins
from analysis.templatefit.model import FitModel
from analysis.templatefit.problem import (
    MOST_ORDER,
    FitSettings,
    Problem,
    prepare,
    reasons,
    window,
    with_orders,
)
from analysis.templatefit.result import FitResult, check_axes
from analysis.templatefit.search import Minimum, minimise
from analysis.templates import Template

__all__ = ["FitSettings", "fit_templates"]

FloatArray = NDArray[np.float64]

_CHI2_95 = 3.841  # one parameter more has to improve the deviance by this, 95 % of chi2 with 1 dof


def fit_templates(
    data: Template,
    electrons: Template,
    protons: Template,
    settings: FitSettings | None = None,
    *,
    cut: ArrayLike | None = None,
) -> FitResult:
    """Fit yields and proton shift.

    An energy bin without data or without one of the templates is left out and says so; its neighbours are
    fitted. Nothing is raised if the fit does not converge: ``success`` is False then. If the simulation is so
    thin that the information on the shift is singular, its order is lowered, down to no shift, and the
    settings of the result say from which (``shift_order_lowered_from``).

    Args:
        data: the data.
        electrons: electron template; any normalisation, Σw² counts.
        protons: proton template.
        settings: how; default :class:`FitSettings`.
        cut: score cut, scalar or (n,): the template is exact there as long as nothing is shifted, and the
            search starts from the data below it.

    Returns:
        Yields, shifts, their covariance, goodness.

    Raises:
        HistogramMismatchError: the templates have different axes.
        CutNotOnEdgeError: the window is not on edges of the score axis.
        AnalysisError: no energy bin can be fitted, or there are fewer of them than shift parameters.
    """
    settings = settings or FitSettings()
    check_axes(data, electrons, protons)
    why = reasons(data, electrons, protons, settings)
    used = np.flatnonzero([r is None for r in why])
    if not used.size:
        raise AnalysisError(_none_left(why))
    problem, bins = prepare(data, electrons, protons, settings, used, cut)
    thin = bins.number < 2  # one score bin has no answer, and the others would fail with it
    if thin.any():
        for i in used[thin]:
            why[i] = "too few simulated events for two score bins"
        used = used[~thin]
        if not used.size:
            raise AnalysisError(_none_left(why))
        problem, bins = prepare(data, electrons, protons, settings, used, cut)
    chain: tuple[float, ...] = ()
    if settings.shift_order == "auto":
        settings, chain = _choose_order(problem, data, used, settings)
    bare, wanted = problem, settings.shift_order
    problem = with_orders(bare, data, used, settings)
    if settings.method == "simultaneous":
        minimum = minimise(problem, settings)
        while (
            not minimum.determined and settings.fixed is None and settings.shift_order is not None
        ):
            settings = replace(settings, shift_order=_lower(settings.shift_order))
            problem = with_orders(bare, data, used, settings)
            minimum = minimise(problem, settings)
    else:
        single, minimum = _bin_by_bin(problem, settings)
        if settings.method == "smooth":
            minimum = _smooth(problem, minimum, settings)
        else:
            problem = single
    notes = {} if wanted == settings.shift_order else {"shift_order_lowered_from": wanted}
    return _result(problem.model, minimum, bins, data, used, why, settings, chain, notes)


def _lower(order: int | str) -> int | None:
    """The next simpler shift."""
    return order - 1 if isinstance(order, int) and order > 0 else None


def _none_left(why: list[str | None]) -> str:
    """Why nothing can be fitted."""
    counted = "; ".join(f"{why.count(r)} bins: {r}" for r in dict.fromkeys(why))
    return f"no energy bin can be fitted ({counted})"


def _choose_order(
    problem: Problem, data: Template, used: NDArray[np.intp], settings: FitSettings
) -> tuple[FitSettings, tuple[float, ...]]:
    """Settings with the lowest order that the likelihood ratio does not reject, and the deviances."""
    chain: list[float] = []
    for order in range(min(MOST_ORDER, used.size - 1) + 1):
        tried = replace(settings, shift_order=order)
        chain.append(minimise(with_orders(problem, data, used, tried), tried).deviance)
        if order and not chain[-2] - chain[-1] >= _CHI2_95:  # nor if it is not a number
            return replace(settings, shift_order=order - 1), tuple(chain)
    return replace(settings, shift_order=len(chain) - 1), tuple(chain)


def _bin_by_bin(problem: Problem, settings: FitSettings) -> tuple[Problem, Minimum]:
    """Fit each energy bin alone; the coefficients are then its own shifts and width."""
    model = problem.model
    n = model.size
    designs = (model.shift, model.width, model.electron_shift)
    size = 2 * n + n * sum(d.shape[1] > 0 for d in designs)
    parameters = np.full(size, np.nan)
    covariance, raw = np.zeros((size, size)), np.zeros((size, size))
    bounded = np.zeros(size, dtype=np.bool_)
    total, edm = 0.0, 0.0
    fixed = None if settings.fixed is None else model.shift @ settings.fixed
    for i in range(n):
        own = settings
        if fixed is not None:
            own = replace(settings, shift_order=0, fixed=(float(fixed[i]),))
        minimum = minimise(problem.row(i), own)
        where = np.arange(size // n) * n + i
        block = np.ix_(where, where)
        if minimum.valid:
            parameters[where] = minimum.parameters
            covariance[block], raw[block] = minimum.covariance, minimum.raw
            bounded[where] = minimum.bounded
            total += minimum.deviance
            edm = max(edm, minimum.edm)
        else:
            covariance[block] = raw[block] = np.nan
    shift, width, electron = (np.eye(n) if d.shape[1] else d for d in designs)
    assembled = replace(model, shift=shift, width=width, electron_shift=electron)
    found = Minimum(parameters, covariance, raw, total, edm, True, bounded)
    return replace(problem, model=assembled), found


def _smooth(problem: Problem, single: Minimum, settings: FitSettings) -> Minimum:
    """Polynomials through the shifts and widths of the single bins, and the yields at these."""
    n = problem.model.size
    # with a few counts where the simulation is empty, the propagated error of a shift is 0
    errors = np.sqrt(np.fmax(np.diag(single.covariance), np.diag(single.raw)))
    values, blocks, at = [], [], 2 * n
    designs = (problem.model.shift, problem.model.width, problem.model.electron_shift)
    for which, design in enumerate(designs):
        if not design.shape[1]:
            continue
        if which == 0 and settings.fixed is not None:
            values.append(np.array(settings.fixed))
            blocks.append(np.zeros((design.shape[1],) * 2))
            at += n
            continue
        own, error = single.parameters[at : at + n], errors[at : at + n]
        good = np.isfinite(own) & (error > 0)
        if good.sum() < design.shape[1]:  # too few bins converged alone for a curve through them
            return _nowhere(2 * n + problem.model.n_shared)
        weighted = design[good] / error[good, None]
        block = np.linalg.inv(weighted.T @ weighted)
        values.append(block @ weighted.T @ (own[good] / error[good]))
        blocks.append(block)
        at += n
    coefficients = np.concatenate([*values, np.zeros(0)])
    curve = block_diag(*blocks) if blocks else np.zeros((0, 0))
    yields = single.parameters[: 2 * n].reshape(2, n)
    start = np.vstack([np.where(np.isfinite(yields), yields, problem.start[:2]), np.zeros(n)])
    minimum = minimise(replace(problem, start=start), settings, coefficients)
    # yields follow the curve: dN/dc = -H_NN^-1 H_Nc
    k = 2 * n
    mixed = 0.5 * problem.model.curvature(minimum.parameters)[:k, k:]
    follow = -minimum.raw[:k, :k] @ mixed
    both = []
    for matrix in (minimum.covariance, minimum.raw):
        out = matrix.copy()
        out[:k, :k] += follow @ curve @ follow.T
        out[:k, k:] = follow @ curve
        out[k:, :k] = out[:k, k:].T
        out[k:, k:] = curve
        both.append(out)
    return replace(minimum, covariance=both[0], raw=both[1])


def _nowhere(size: int) -> Minimum:
    """No minimum."""
    unknown, matrix = np.full(size, np.nan), np.full((size, size), np.nan)
    none = np.zeros(size, dtype=np.bool_)
    return Minimum(unknown, matrix, matrix, np.nan, np.nan, False, none)


def _result(
    model: FitModel,
    minimum: Minimum,
    bins: FitBins,
    data: Template,
    used: NDArray[np.intp],
    left_out: list[str | None],
    settings: FitSettings,
    chain: tuple[float, ...],
    notes: dict[str, Any],
) -> FitResult:
    """Put the minimum on the energy bins of the data."""
    n, size = used.size, data.energy_edges.size - 1
    good = np.isfinite(minimum.parameters[:n])
    if settings.method != "per_bin":
        good &= minimum.valid
    each = model.deviances(np.nan_to_num(minimum.parameters, nan=1.0))

    def spread(values: ArrayLike, empty: float = np.nan) -> FloatArray:
        out = np.full(size, empty)
        out[used] = np.where(good, values, np.nan)
        return out

    why = list(left_out)
    for i in used[~good]:
        why[i] = "the fit did not converge"
    plain: dict[str, Any] = {
        "method": settings.method,
        "shift_order": settings.shift_order,
        "width_order": settings.width_order,
        "electron_order": settings.electron_order,
        "e0_gev": settings.e0_gev,
        "clamped": settings.clamped,
        "min_effective": settings.min_effective,
        "fixed": settings.fixed,
        "empty_score_bins": "merged with their neighbours before the fit",
        **notes,
    }
    if chain:
        plain["deviance_by_order"] = list(chain)
    return FitResult(
        e_min=data.energy_edges[:-1].copy(),
        e_max=data.energy_edges[1:].copy(),
        used=used,
        parameters=minimum.parameters,
        covariance=minimum.covariance,
        raw_covariance=minimum.raw,
        shift_design=model.shift,
        width_design=model.width,
        electron_design=model.electron_shift,
        window=window(settings, size),
        n_data=spread(model.counts.sum(axis=1), 0.0),
        n_bins=spread(bins.number, 0.0),
        deviance=spread(each),
        unsupported=spread(bins.unsupported, 0.0),
        at_limit=np.isin(np.arange(size), used[minimum.bounded[:n]]),
        success=np.array([r is None for r in why]),
        reasons=tuple(why),
        edm=minimum.edm,
        settings=plain,
    )
