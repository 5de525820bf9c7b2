r"""How much the flux depends on the score cut, and how much of that is chance.

The events above a tighter cut are part of those above a looser one, so that two fluxes fluctuate mostly together
and only their difference counts (R. Barlow, hep-ex/0207026). With l the looser and t the tighter cut, :math:`F =
(N - B)/(\varepsilon X)` and the counts between the cuts independent of those above both,

.. math:: \mathrm{Var}(F_t - F_l)\,X^2 = n_t (1/\varepsilon_t - 1/\varepsilon_l)^2 + (n_l - n_t)/\varepsilon_l^2

from the counts n that are expected if the flux at the chosen cut holds at all cuts, :math:`n_k = F X \varepsilon_k + B_k`:
those observed would promise a difference of no error where by chance no event lies between the cuts. In the same way from
Σw² of the simulated protons and, through both efficiencies, electrons above, between and below the cuts. Normalisation
and shift of the proton template are common to both cuts: :math:`(\sigma_t/\varepsilon_t -
\sigma_l/\varepsilon_l)^2` each (with a fitted width this is an approximation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.cutscan import CutScan, cut_index
from analysis.exceptions import AnalysisError

__all__ = ["CutSystematic", "cut_systematic", "flux_change"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CutSystematic:
    """Change of the flux with the cut; NaN where ``success`` is False.

    Attributes:
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        cut: (n, 3) looser, chosen and tighter cut.
        efficiency: (n, 3) their efficiencies.
        change: (n, 3) flux over that at the chosen cut, less 1.
        change_error: (n, 3) standard deviation of ``change`` from the events that are not common.
        half_spread: (n,) half the distance of the largest from the smallest flux of the three, relative.
        fluctuation: (n,) standard deviation of the same from statistics.
        excess: (n,) what is left of ``half_spread`` after ``fluctuation`` is subtracted in quadrature, 0 if
            nothing is: the error to quote beside the statistical one.
        success: (n,) whether both varied cuts are in the scan and have a flux.
    """

    e_min: FloatArray
    e_max: FloatArray
    cut: FloatArray
    efficiency: FloatArray
    change: FloatArray
    change_error: FloatArray
    half_spread: FloatArray
    fluctuation: FloatArray
    excess: FloatArray
    success: NDArray[np.bool_]


def flux_change(scan: CutScan, chosen: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Flux at every cut relative to that at the chosen one, less 1.

    Args:
        scan: the scan.
        chosen: one cut of the scan or one per energy bin.

    Returns:
        Change and its standard deviation from the events that the two do not share, (n, c); NaN where a
        cut has no data or the chosen one no positive flux.

    Raises:
        AnalysisError: a cut was not scanned.
    """
    n, c = scan.n_data.shape
    reference = np.broadcast_to(cut_index(scan, chosen)[:, None], (n, c))
    every = np.broadcast_to(np.arange(c), (n, c))
    return _change(scan, reference, every, reference)


def cut_systematic(scan: CutScan, chosen: ArrayLike, relative: float = 0.1) -> CutSystematic:
    """Half spread of the flux when the cut is moved so far that the efficiency changes by a given part.

    The tighter cut has the efficiency ε(1 − r), the looser one ε(1 + r) or, where that is more than halfway to
    1, (1 + ε)/2; of the scan the nearest cuts are taken.

    Args:
        scan: the scan.
        chosen: one cut of the scan or one per energy bin.
        relative: r, 0 to 1.

    Returns:
        Spread and its fluctuation; ``success`` False where the scan has no cut on a side within half of
        the wanted change, or one of the three no positive flux.

    Raises:
        AnalysisError: a cut was not scanned, or ``relative`` out of range.
    """
    if not 0.0 < relative < 1.0:
        msg = f"relative change of the efficiency must be between 0 and 1, got {relative!r}"
        raise AnalysisError(msg)
    at = cut_index(scan, chosen)
    n = np.arange(at.size)
    now = scan.efficiency[n, at]
    share = np.nan_to_num(scan.efficiency, nan=-1.0)
    reached = np.isfinite(now)
    places = []
    for target in (np.minimum(now * (1.0 + relative), 0.5 * (1.0 + now)), now * (1.0 - relative)):
        distance = np.abs(share - target[:, None])
        place = np.argmin(np.nan_to_num(distance, nan=np.inf), axis=1)
        reached &= np.abs(share[n, place] - target) <= 0.5 * np.abs(target - now)
        places.append(place)
    three = np.stack([places[0], at, places[1]], axis=1)
    reached &= (three[:, 0] < at) & (at < three[:, 2])
    middle = np.repeat(at[:, None], 3, axis=1)
    change, error = _change(scan, middle, three, middle)
    success = reached & np.isfinite(change).all(axis=1)
    safe = np.where(success[:, None], change, 0.0)
    largest, smallest = (three[n, f(safe, axis=1)][:, None] for f in (np.argmax, np.argmin))
    ends, spread = _change(scan, smallest, largest, at[:, None])
    half, fluctuation = 0.5 * np.abs(ends[:, 0]), 0.5 * spread[:, 0]

    def kept(values: FloatArray) -> FloatArray:
        return np.where(success if values.ndim == 1 else success[:, None], values, np.nan)

    return CutSystematic(
        e_min=scan.e_min.copy(),
        e_max=scan.e_max.copy(),
        cut=kept(scan.cuts[three]),
        efficiency=kept(np.take_along_axis(scan.efficiency, three, axis=1)),
        change=kept(change),
        change_error=kept(error),
        half_spread=kept(half),
        fluctuation=kept(fluctuation),
        excess=kept(np.sqrt(np.maximum(half**2 - fluctuation**2, 0.0))),
        success=success,
    )


def _change(
    scan: CutScan, first: NDArray[np.intp], second: NDArray[np.intp], unit: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Flux at the second cut less that at the first, in units of that at a third, and its deviation."""
    loose, tight = np.minimum(first, second), np.maximum(first, second)

    def at(values: FloatArray, place: NDArray[np.intp]) -> FloatArray:
        return np.take_along_axis(values, place, axis=1)

    e_l, e_t, e_u = (1.0 / _positive(at(scan.efficiency, k)) for k in (loose, tight, unit))
    electrons = _positive(at(scan.n_data - scan.background, unit) * e_u)
    b_l, b_t = (np.maximum(at(scan.background, k), 0.0) for k in (loose, tight))
    n_t = electrons / e_t + b_t
    between = np.maximum(electrons * (1.0 / e_l - 1.0 / e_t) + b_l - b_t, 0.0)
    variance = n_t * (e_t - e_l) ** 2 + between * e_l**2
    for name, part in scan.background_parts.items():
        p_l, p_t = at(part, loose), at(part, tight)
        if name == "template":
            # The part of the tighter cut is inside that of the looser one, but for the rule of few events.
            rest = np.maximum(p_l**2 - p_t**2, 0.0)
            variance = variance + p_t**2 * (e_t - e_l) ** 2 + rest * e_l**2
        else:
            variance = variance + (p_t * e_t - p_l * e_l) ** 2
    by_l, by_t = electrons * e_l, electrons * e_t
    variance = variance + _efficiency_variance(scan, loose, tight, by_l, by_t)
    change = (at(scan.dnde, second) - at(scan.dnde, first)) / _positive(at(scan.dnde, unit))
    deviation = np.sqrt(np.maximum(variance, 0.0)) / electrons
    deviation = np.where((first == second) & np.isfinite(electrons), 0.0, deviation)
    good = np.isfinite(change) & np.isfinite(deviation)
    return np.where(good, change, np.nan), np.where(good, deviation, np.nan)


def _efficiency_variance(
    scan: CutScan,
    loose: NDArray[np.intp],
    tight: NDArray[np.intp],
    by_l: FloatArray,
    by_t: FloatArray,
) -> FloatArray:
    """Variance of by_l ε_l − by_t ε_t from the electrons above, between and below the cuts."""
    total, total_variance = (part[:, None] for part in scan.electron_total)
    w = _positive(total)
    s_l, s_t = (np.take_along_axis(scan.electrons.value, k, axis=1) / w for k in (loose, tight))
    v_l, v_t = (np.take_along_axis(scan.electrons.variance, k, axis=1) for k in (loose, tight))
    above = (by_l * (1.0 - s_l) - by_t * (1.0 - s_t)) / w
    between = (by_l * (1.0 - s_l) + by_t * s_t) / w
    below = (-by_l * s_l + by_t * s_t) / w
    out = above**2 * v_t + between**2 * np.maximum(v_l - v_t, 0.0)
    return np.asarray(out + below**2 * np.maximum(total_variance - v_l, 0.0))


def _positive(values: FloatArray) -> FloatArray:
    """NaN instead of what cannot be divided by."""
    return np.where(values > 0, values, np.nan)
