"""Bin-by-bin migration factors: enough where migration is small and the spectrum well known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import HistogramMismatchError
from analysis.migration.response import Response, outcome, ratio

__all__ = ["BinByBin", "bin_by_bin", "spectrum_weights"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BinByBin:
    """Bin-by-bin migration; every array has shape (n,), NaN where ``success`` is False.

    Attributes:
        factor: events in the reco bin / events in the true bin; flux = N / (A T ΔE eff) / factor.
        error: its error from the statistics of the simulation.
        acceptance: A · factor, m² sr: events in the reco bin per unit flux in the true bin.
        acceptance_error: its error, which knows that the errors of A and factor are correlated.
        variations: name of another spectrum → its factors.
        sys_n: largest distance of a variation downwards; lower factors are higher fluxes.
        sys_p: largest distance upwards.
        success: bins with a factor.
        reasons: why a bin has none; empty for the others.
    """

    factor: FloatArray
    error: FloatArray
    acceptance: FloatArray
    acceptance_error: FloatArray
    variations: Mapping[str, FloatArray]
    sys_n: FloatArray
    sys_p: FloatArray
    success: BoolArray
    reasons: tuple[str, ...]


def bin_by_bin(
    response: Response,
    weights: ArrayLike | None = None,
    variations: Mapping[str, ArrayLike] | None = None,
) -> BinByBin:
    r"""Bin-by-bin factors, f_i = events in reco bin i / events in true bin i.

    With a the weight of the events in both, b in the reco bin only and c in the true bin only (all
    three independent), :math:`f = (a+b)/(a+c)` and in closed form

    .. math:: \sigma_f^2 = [(1-f)^2 V_a + V_b + f^2 V_c] / (a+c)^2.

    Outside the axis the weights go on log-linearly, and are taken one bin beyond its end.

    Args:
        response: response with the same bins in true and reconstructed energy.
        weights: (m,) flux over target flux in each true bin; default 1.
        variations: name → (m,) further weights, on top of ``weights``; default
            :func:`spectrum_weights` of the edges.

    Returns:
        Factors, errors and variations.

    Raises:
        HistogramMismatchError: bins in true and reconstructed energy differ, or weights of another
            length, negative or not finite.
    """
    edges = response.true_edges
    if not np.array_equal(edges, response.reco_edges):
        msg = (
            f"a bin-by-bin factor needs the same bins in true and reconstructed energy, not "
            f"{edges.size - 1} and {response.reco_edges.size - 1}; use forward folding"
        )
        raise HistogramMismatchError(msg)
    unit = np.ones(edges.size - 1)
    flux = response.target * _weights(unit if weights is None else weights, unit.size)
    good, reasons = outcome(response)
    good &= flux > 0
    variance = response.kernel()[1]

    def factors(integral: FloatArray) -> FloatArray:
        low, high = _beyond(response, integral)
        events = response.matrix @ integral + low * response.below + high * response.above
        return np.where(good, ratio(events, response.acceptance * integral), np.nan)

    factor = factors(flux)
    every = variance @ flux**2
    both = np.diag(response.variance) * flux**2
    own = response.acceptance_variance * flux**2
    f = np.where(good, factor, 0.0)
    # Rounding of sums of the same numbers may leave a difference just below zero.
    apart = np.maximum(every - both, 0.0) + f**2 * np.maximum(own - both, 0.0)
    error = np.sqrt((1 - f) ** 2 * both + apart)
    others = {
        name: factors(flux * _weights(w, unit.size))
        for name, w in (spectrum_weights(edges) if variations is None else variations).items()
    }
    steps = np.array([unit * 0.0, *(np.nan_to_num(other - factor) for other in others.values())])
    return BinByBin(
        factor=factor,
        error=np.where(good, ratio(error, response.acceptance * flux), np.nan),
        acceptance=factor * response.acceptance,
        acceptance_error=np.where(good, ratio(np.sqrt(every), flux), np.nan),
        variations=others,
        sys_n=np.where(good, -steps.min(axis=0), np.nan),
        sys_p=np.where(good, steps.max(axis=0), np.nan),
        success=good,
        reasons=tuple(
            "" if ok else why or "no flux in this bin"
            for ok, why in zip(good, reasons, strict=True)
        ),
    )


def spectrum_weights(
    edges: ArrayLike,
    *,
    index: float = 0.2,
    break_gev: float = 900.0,
    break_index: float = 0.8,
    cutoff_gev: float = 3000.0,
) -> dict[str, FloatArray]:
    """Ratios of other spectra to the target, at the logarithmic bin centres.

    Args:
        edges: (m + 1,) edges of true energy, GeV.
        index: change of the spectral index, both ways.
        break_gev: energy of a further break.
        break_index: softening above it.
        cutoff_gev: energy of a further exponential cut-off.

    Returns:
        Name → (m,) weights: ``softer``, ``harder``, ``break``, ``cutoff``.
    """
    border = np.asarray(edges, np.float64)
    energy = np.sqrt(border[:-1] * border[1:])
    return {
        "softer": (energy / energy[0]) ** -index,
        "harder": (energy / energy[0]) ** index,
        "break": np.maximum(energy / break_gev, 1.0) ** -break_index,
        "cutoff": np.exp(-energy / cutoff_gev),
    }


def _beyond(response: Response, flux: FloatArray) -> tuple[float, float]:
    """Flux over target flux below and above the axis: log-linear from the last two bins, one bin further."""
    filled = np.flatnonzero((response.target > 0) & (response.acceptance > 0) & (flux > 0))
    if filled.size < 2:
        return 1.0, 1.0
    log_weight = np.log(flux[filled] / response.target[filled])
    centre = np.log(response.true_edges[:-1] * response.true_edges[1:])[filled] / 2

    def step(end: int, inner: int) -> float:
        slope = (log_weight[end] - log_weight[inner]) / (centre[end] - centre[inner])
        width = np.diff(np.log(response.true_edges))[filled[end]]
        return float(
            np.exp(log_weight[end] + slope * np.copysign(width, centre[end] - centre[inner]))
        )

    return step(0, 1), step(-1, -2)


def _weights(values: ArrayLike, size: int) -> FloatArray:
    """Weights after checking length and sign."""
    weights = np.asarray(values, np.float64)
    if weights.shape != (size,) or not np.all((weights >= 0) & np.isfinite(weights)):
        msg = f"weights of a spectrum must be {size} finite numbers >= 0, got {weights!r}"
        raise HistogramMismatchError(msg)
    return weights
