"""Iterative unfolding of the energy, the check of the forward-folded fit.

Source: G. D'Agostini, NIM A 362 (1995) 487, with the background in the expectation as in the
expectation-maximisation form of L. A. Shepp and Y. Vardi, IEEE Trans. Med. Imaging 1 (1982) 113.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.intervals import ONE_SIGMA, garwood
from analysis.migration.points import Counts, Unfolded, checked_counts, migration_factor, placed
from analysis.migration.response import Response, ratio

__all__ = ["IterationScan", "iterative", "scan_iterations"]

FloatArray = NDArray[np.float64]

_SEEN = 0.5  # share of the events of a true bin that must end in usable reco bins


@dataclass(frozen=True, eq=False)
class IterationScan:
    """Iterative unfolding against the number of iterations; NaN in true bins without success.

    Attributes:
        iterations: (k,) numbers of iterations.
        dnde: (k, m) flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        error: (k, m) error of counts, background and efficiency.
        bias: (k, m) estimated bias.
        chi2: (k,) deviance of the counts; falls with every iteration.
    """

    iterations: NDArray[np.int64]
    dnde: FloatArray
    error: FloatArray
    bias: FloatArray
    chi2: FloatArray


class _Steps(NamedTuple):
    """State of the iteration; derivatives are (m, parameters), see :func:`_derivatives`."""

    flux: FloatArray
    slopes: FloatArray


def iterative(
    counts: ArrayLike,
    background: ArrayLike,
    efficiency: ArrayLike,
    response: Response,
    livetime_s: ArrayLike,
    prior: ArrayLike | None = None,
    iterations: int = 4,
    *,
    background_error: ArrayLike = 0.0,
    efficiency_error: ArrayLike = 0.0,
    level: float = ONE_SIGMA,
) -> Unfolded:
    r"""Unfold the counts with a stated number of iterations.

    .. math:: \Phi_j \leftarrow \frac{\Phi_j}{\sum_i K_{ij}} \sum_i K_{ij}
        \frac{N_i}{\sum_l K_{il} \Phi_l + b_i}, \quad K_{ij} = T \varepsilon_i R_{ij}

    Fluxes stay positive, and without background every iteration conserves the total count. The first
    iterations bring the information, later ones noise: the prior's shape is what regularises. The
    derivatives of the result by N, b, ε and every R_ij are carried through the iterations, so that
    the covariances hold for the iterated result (linear; Poisson variance at the refolded result). The
    ``bias`` is what the method makes of its own refolded result, less that result.

    ``dnde_errn/p`` are the Garwood interval of as many counts as have the relative error of the
    covariance, or of the events of the true bin if those are fewer. Where the flux is driven to 0
    the covariance vanishes: use the interval there.

    Args:
        counts: (n,) data above the score cut.
        background: (n,) background among them, in counts.
        efficiency: (n,) of the score cut.
        response: the response, before the score cut.
        livetime_s: s, one or (n,).
        prior: (m,) flux integrals to start from, m⁻² s⁻¹ sr⁻¹; default the target flux.
        iterations: how many, 1 at least.
        background_error: its error.
        efficiency_error: its error.
        level: probability content of the Garwood interval.

    Returns:
        Points in the true bins. A true bin without simulation, or with less than half of its events in
        usable reco bins, has no success.

    Raises:
        AnalysisError: negative numbers, a prior or a number of iterations that is not positive, or no
            usable bin.
        HistogramMismatchError: lengths do not fit.
    """
    data = checked_counts(
        counts, background, background_error, efficiency, efficiency_error, response, livetime_s
    )
    kernel, start = _start(data, response, prior, iterations)
    flux, slopes = _iterate(data, kernel, start, iterations)[-1]
    used = data.used
    mean = kernel @ flux + data.background[used]
    size = int(np.count_nonzero(used))
    by_n, by_b, by_k = np.split(slopes, [size, 2 * size], axis=1)
    by_k = by_k.reshape(flux.size, size, flux.size)

    width = np.diff(response.true_edges)
    eff = data.efficiency[used]
    by_eff = np.einsum("jab,ab->ja", by_k, kernel) * (data.efficiency_error[used] / eff)
    errors = by_b * data.background_error[used]
    covariance = (by_n * mean) @ by_n.T + errors @ errors.T + by_eff @ by_eff.T
    squares = response.kernel()[1][used] * data.exposure[used, None] ** 2
    by_k = (by_k * np.sqrt(squares)).reshape(flux.size, -1)
    simulation = by_k @ by_k.T

    good, reasons = _seen(data, response)
    # Flux per effective count. Not below that of one event in any usable bin: at 0 the derivatives
    # vanish, and with them the covariance.
    per_count = np.fmax(
        ratio(np.diag(covariance), flux), ratio(np.ones_like(flux), kernel.sum(axis=0))
    )
    effective = np.where(good, ratio(flux, per_count), 0.0)
    ends = garwood(effective, level)
    refolded = _iterate(
        data._replace(n=placed(mean, used, used)), kernel, start, iterations, slopes=False
    )

    def kept(values: FloatArray) -> FloatArray:
        return np.where(good, values / width, np.nan)

    def kept2(values: FloatArray) -> FloatArray:
        return np.where(good[:, None] & good, values / np.outer(width, width), np.nan)

    rate = response.kernel()[0] @ flux
    same = np.array_equal(response.true_edges, response.reco_edges)
    return Unfolded(
        method="iterative",
        e_min=response.true_edges[:-1].copy(),
        e_max=response.true_edges[1:].copy(),
        dnde=kept(flux),
        dnde_errn=kept(per_count * (effective - ends.lower)),
        dnde_errp=kept(per_count * (ends.upper - effective)),
        covariance=kept2(covariance),
        covariance_simulation=kept2(simulation),
        factor=np.where(good, migration_factor(response, flux, rate) if same else np.nan, np.nan),
        folded=placed(mean, used, used),
        chi2=_deviance(data.n[used], mean),
        ndf=size,
        valid=True,
        success=good,
        reasons=tuple(reasons),
        bias=kept(refolded[-1].flux - flux),
    )


def scan_iterations(
    counts: ArrayLike,
    background: ArrayLike,
    efficiency: ArrayLike,
    response: Response,
    livetime_s: ArrayLike,
    prior: ArrayLike | None = None,
    iterations: int = 20,
    *,
    background_error: ArrayLike = 0.0,
    efficiency_error: ArrayLike = 0.0,
) -> IterationScan:
    """Flux, error, bias and deviance after 1, 2, … iterations, to choose their number.

    Args:
        counts: as in :func:`iterative`, also below.
        background: background in counts.
        efficiency: of the score cut.
        response: the response.
        livetime_s: s.
        prior: flux integrals to start from.
        iterations: the largest number.
        background_error: its error.
        efficiency_error: its error.

    Returns:
        One row per number of iterations.

    Raises:
        AnalysisError: as in :func:`iterative`.
        HistogramMismatchError: lengths do not fit.
    """
    rows = [
        iterative(
            counts,
            background,
            efficiency,
            response,
            livetime_s,
            prior,
            k,
            background_error=background_error,
            efficiency_error=efficiency_error,
        )
        for k in range(1, _whole(iterations) + 1)
    ]
    return IterationScan(
        iterations=np.arange(1, iterations + 1),
        dnde=np.array([row.dnde for row in rows]),
        error=np.sqrt(np.array([np.diag(row.covariance) for row in rows])),
        bias=np.array([row.bias for row in rows]),
        chi2=np.array([row.chi2 for row in rows]),
    )


def _start(
    data: Counts, response: Response, prior: ArrayLike | None, iterations: int
) -> tuple[FloatArray, FloatArray]:
    """Expected counts per unit flux in the used reco bins, (k, m), and the fluxes to start from."""
    _whole(iterations)
    start = np.asarray(response.target if prior is None else prior, np.float64)
    if start.shape != response.target.shape:
        msg = f"the prior has shape {start.shape}, the response {response.target.size} true bins"
        raise HistogramMismatchError(msg)
    bad = response.success & ~((start > 0) & np.isfinite(start))
    if bad.any():
        msg = f"the prior must be positive in every simulated true bin, got {start[bad][0]!r}"
        raise AnalysisError(msg)
    kernel = data.exposure[data.used, None] * response.kernel()[0][data.used]
    if not kernel.size or not kernel.any():
        why = next((reason for reason in data.reasons if reason), "no bins")
        msg = f"no usable energy bin to unfold; first reason: {why}"
        raise AnalysisError(msg)
    return kernel, start


def _iterate(
    data: Counts, kernel: FloatArray, start: FloatArray, iterations: int, *, slopes: bool = True
) -> list[_Steps]:
    """All steps after the start; the derivatives are by N, b and K (row by row), (m, 2k + k m)."""
    n, b = data.n[data.used], data.background[data.used]
    total = kernel.sum(axis=0)
    seen = total > 0
    per_total = np.where(seen, 1.0 / np.where(seen, total, 1.0), 0.0)
    size, m = kernel.shape
    flux, carried = start, np.zeros((m, 2 * size + size * m if slopes else 0))
    steps = []
    for _ in range(iterations):
        mean = kernel @ flux + b
        share = np.where(mean > 0, n / np.where(mean > 0, mean, 1.0), 0.0)
        new = np.where(seen, flux * per_total * (share @ kernel), flux)
        if slopes:
            carried = _derivatives(kernel, (flux, new), (mean, share), per_total, carried)
        flux = new
        steps.append(_Steps(flux, carried))
    return steps


def _derivatives(
    kernel: FloatArray,
    fluxes: tuple[FloatArray, FloatArray],
    expectation: tuple[FloatArray, FloatArray],
    per_total: FloatArray,
    carried: FloatArray,
) -> FloatArray:
    """One step of the derivatives: what the fluxes carry, and what N, b and K do directly."""
    flux, new = fluxes
    mean, share = expectation
    inverse = np.where(mean > 0, 1.0 / np.where(mean > 0, mean, 1.0), 0.0)
    gain = (flux * per_total)[:, None] * kernel.T  # (m, k)
    seen = per_total > 0
    growth = np.where(seen & (flux > 0), new / np.where(flux > 0, flux, 1.0), 0.0)
    result = growth[:, None] * carried - gain @ ((share * inverse)[:, None] * (kernel @ carried))
    size, m = kernel.shape
    result[:, :size] += gain * inverse
    result[:, size : 2 * size] -= gain * share * inverse
    by_k = -np.einsum("ja,b->jab", gain * share * inverse, flux)
    own = np.arange(m)
    by_k[own, :, own] += (flux * per_total)[:, None] * share - (new * per_total)[:, None]
    result[:, 2 * size :] += by_k.reshape(m, size * m)
    return result


def _seen(data: Counts, response: Response) -> tuple[NDArray[np.bool_], list[str]]:
    """(m,) true bins that the usable reco bins see, and why the others are not."""
    visible = ratio(response.matrix[data.used].sum(axis=0), response.acceptance)
    reasons = []
    for ok, share in zip(response.success, np.nan_to_num(visible), strict=True):
        if not ok:
            reasons.append("the simulation does not cover this true bin")
        elif share < _SEEN:
            reasons.append(f"only {100 * share:.0f} % of its events are in usable energy bins")
        else:
            reasons.append("")
    return np.array([not why for why in reasons], bool), reasons


def _deviance(n: FloatArray, mean: FloatArray) -> float:
    """Poisson deviance; inf for counts where none are expected."""
    possible = np.where(mean > 0, mean, 1.0)
    terms = mean - n + special.xlogy(n, np.where(n > 0, n, 1.0) / possible)
    return float(2 * np.where((mean <= 0) & (n > 0), np.inf, terms).sum())


def _whole(iterations: int) -> int:
    """The number of iterations after checking that it is one."""
    if iterations != int(iterations) or iterations < 1:
        msg = f"the number of iterations must be 1 or more, got {iterations!r}"
        raise AnalysisError(msg)
    return int(iterations)
