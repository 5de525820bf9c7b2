r"""Energy response of a toy model: from the simulated energies, or a Gaussian in ln E.

The simulated matrix itself has the noise of few migrating events, which would be wiggles of the toy's truth.
Better is the distribution of :math:`x = \ln(E_\mathrm{reco}/E_\mathrm{true})`, the histogram ``energy_ratio``: it
changes slowly with energy, so that neighbouring bins can be pooled, with its core and all its tails; folded
with a spectrum inside each bin of true energy it gives the shares, also for a spectrum that breaks off there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares
from scipy.special import ndtr

from analysis.exceptions import HistogramMismatchError
from analysis.shapes.file import rounded
from analysis.shapes.smooth import log_tev, spline_matrix
from analysis.templates import inner_bins, select

__all__ = [
    "CLEAR",
    "REACH",
    "Flux",
    "Kernel",
    "Migration",
    "filled_rows",
    "gaussian_response",
    "kernel_dict",
    "kernel_from",
    "kernel_of",
    "share_rows",
    "sharing_chi2",
    "smooth_response",
]

FloatArray = NDArray[np.float64]
#: True energies in GeV → flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
Flux = Callable[[FloatArray], FloatArray]

#: Energies this factor beyond the axis are in the toys: what migrates into the end bins.
REACH = 1.9
_PLACES = 100  # energies of a bin at which the response is taken
_SMALLEST = 1e-12  # share that is written
_DIGITS = 7
_KNOTS = 3  # of bias and width of the Gaussian
_POOL = 1.0  # bins of true energy over which the ratio is averaged (σ of the weights)
#: Bins of true energy that start here, times a cut on the energy, do not reach down to it.
CLEAR = 1.3
_TAIL_POOL = 3.0  # the same for the tails, where events are few
_MOST_INDEX = 60.0  # of a spectrum between two bins, so that a step stays finite


@dataclass(frozen=True, eq=False)
class Kernel:
    """Distribution of x = ln(E_reco / E_true) at some true energies, linear in ln E between them.

    Attributes:
        energies: (k,) GeV, ascending; constant beyond the first and the last.
        borders: (m + 1,) values of x, ascending.
        cumulative: (k, m + 1) probability below a border, ascending from 0 to 1.
    """

    energies: FloatArray
    borders: FloatArray
    cumulative: FloatArray

    def below(self, energies: ArrayLike, reco: ArrayLike) -> FloatArray:
        """Probability that an event is reconstructed below some energies.

        Args:
            energies: (n,) true energies, GeV.
            reco: (b,) reconstructed energies, GeV.

        Returns:
            (n, b).
        """
        true = np.log(np.asarray(energies, np.float64))
        x = np.log(np.asarray(reco, np.float64)) - true[:, None]
        held = np.clip(x, self.borders[0], self.borders[-1])
        place = np.interp(true, np.log(self.energies), np.arange(self.energies.size))
        first = np.minimum(place.astype(np.intp), max(self.energies.size - 2, 0))
        out = np.zeros(x.shape)
        for k, curve in enumerate(self._curves):
            near = np.flatnonzero((first == k) | (first == k - 1))
            share = np.maximum(1.0 - np.abs(place[near] - k), 0.0)
            out[near] += share[:, None] * curve(held[near])
        return np.clip(out, 0.0, 1.0)

    @cached_property
    def _curves(self) -> list[PchipInterpolator]:
        # monotonic: no negative probability between the borders
        return [PchipInterpolator(self.borders, row) for row in self.cumulative]


class Migration:
    """A kernel on fine true energies, for the bins of an analysis; n energy bins.

    Args:
        kernel: the distribution of the energy ratio.
        edges: (n + 1,) bins of true and of reconstructed energy, GeV.
        least_gev: events with less reconstructed energy are not selected.
    """

    def __init__(self, kernel: Kernel, edges: FloatArray, least_gev: float = 0.0) -> None:
        log_edges = np.log(edges)
        n = edges.size - 1
        beyond = np.log(REACH)
        steps = [int(np.ceil(beyond / w * _PLACES)) for w in np.diff(log_edges)[[0, -1]]]
        borders = np.concatenate([log_edges[:1] - beyond, log_edges, log_edges[-1:] + beyond])
        places = [steps[0], *[_PLACES] * n, steps[1]]
        self._step = np.concatenate([[0], np.cumsum(places)])
        width = np.diff(borders) / places
        inside = np.concatenate([np.arange(k) + 0.5 for k in places])
        self._row = np.repeat(np.arange(n + 2), places)
        self.energies = np.exp(borders[self._row] + inside * width[self._row])
        self._d_ln_e = width[self._row]
        below = kernel.below(self.energies, np.maximum(edges, least_gev))
        first = np.zeros((self.energies.size, 1))
        if least_gev > 0:
            first = kernel.below(self.energies, [least_gev])
        self._share = np.diff(np.concatenate([first, below, first * 0 + 1], axis=1), axis=1)
        self._share[:, 0] *= least_gev < edges[0]
        self._centre = (log_edges[1:] + log_edges[:-1]) / 2
        self._width = np.diff(edges)

    def rates(
        self, acceptance: FloatArray, flux_integral: FloatArray, flux: Flux | None = None
    ) -> FloatArray:
        """Selected events per second in bins of true and reconstructed energy.

        Args:
            acceptance: (n,) m² sr before the least energy, the same everywhere in a bin; beyond the axis that
                of the end.
            flux_integral: (n,) ∫f dE, m⁻² s⁻¹ sr⁻¹.
            flux: f, for its shape inside the bins and beyond them; default a curve through the integrals,
                a power law between neighbours.

        Returns:
            (n + 2, n + 2), flow bins first and last.
        """
        rows = np.pad(acceptance, 1, mode="edge")[self._row]
        density = self._curve(flux_integral) if flux is None else np.asarray(flux(self.energies))
        part = density * self.energies * self._d_ln_e
        inner = slice(self._step[1], self._step[-2])
        total = np.add.reduceat(part[inner], self._step[1:-2] - self._step[1])
        # a bin in which the curve is 0 but the integral is not: E⁻³
        empty = (total <= 0) & (flux_integral > 0)
        lost = np.isin(self._row, np.flatnonzero(empty) + 1)
        part[lost] = self.energies[lost] ** -2
        total = np.add.reduceat(part[inner], self._step[1:-2] - self._step[1])
        scale = flux_integral / np.where(total > 0, total, np.inf)
        part[inner] *= scale[self._row[inner] - 1]
        return np.asarray(
            np.add.reduceat((rows * part)[:, None] * self._share, self._step[:-1], axis=0)
        )

    def _curve(self, flux_integral: FloatArray) -> FloatArray:
        """Power laws through the mean flux of the bins, at the fine energies; 0 in bins without flux."""
        good = np.flatnonzero(flux_integral > 0)
        if good.size < 2:
            return np.zeros(self.energies.size)
        x, y = self._centre[good], np.log(flux_integral[good] / self._width[good])
        slope = np.clip(np.diff(y) / np.diff(x), -_MOST_INDEX, _MOST_INDEX)
        at = np.log(self.energies)
        line = np.interp(at, x, y)
        line += slope[0] * np.minimum(at - x[0], 0.0) + slope[-1] * np.maximum(at - x[-1], 0.0)
        lit = np.pad(flux_integral > 0, 1, mode="edge")[self._row]
        return np.where(lit, np.exp(line), 0.0)


def kernel_from(
    ratio: Hist[Any],
    edges: FloatArray,
    region: str,
    estimator: str,
    clear: NDArray[np.bool_],
) -> Kernel:
    """Kernel of simulated events, neighbouring bins pooled.

    The cumulative of each bin of true energy is a mean over its neighbours with Gaussian weights, times
    their events: of one bin in the core, where the response is known best and moves most, of three in the
    tails. The tails go over where 5 % of the events are further out on a side.

    Args:
        ratio: ``energy_ratio`` with the axes region, estimator, energy_true and ratio, Weight storage.
        edges: (n + 1,) GeV.
        region: of the events.
        estimator: ``e_corr`` or ``cnn``.
        clear: (n,) bins to use; where a cut on the energy has taken a tail away, the distribution is that of
            the nearest bin.

    Returns:
        The kernel at the geometric mean of each bin.

    Raises:
        HistogramMismatchError: an axis or a category is missing, or there are no events.
    """
    part = select(
        ratio, "energy_ratio", ("energy_true", "ratio"), region=region, estimator=estimator
    )
    values, variances = inner_bins(part, "energy_ratio")
    x = np.asarray(part.axes[1].edges, np.float64)
    # what lies outside the axis is spread over as much again
    borders = np.concatenate([[2 * x[0]], x, [2 * x[-1]]])
    total, total2 = values.sum(axis=1), variances.sum(axis=1)
    lit = (total > 0) & clear
    events = np.where(lit, total**2 / np.where(lit, total2, 1.0), 0.0)
    share = np.where(lit[:, None], values, 0.0) / np.where(lit, total, 1.0)[:, None]
    cumulative = np.pad(np.cumsum(share, axis=1), ((0, 0), (1, 0)))
    energies = np.sqrt(edges[1:] * edges[:-1])
    place = np.arange(energies.size)
    known = np.flatnonzero(lit)
    if not known.size:
        msg = f"histogram 'energy_ratio' has no {estimator} events of the region {region!r}"
        raise HistogramMismatchError(msg)
    held = np.clip(place, known[0], known[-1])  # bins without events: as the nearest

    def pooled(width: float) -> FloatArray:
        weight = np.exp(-0.5 * ((held[:, None] - place) / width) ** 2) * events
        return np.asarray(weight @ cumulative / weight.sum(axis=1, keepdims=True))

    core, tails = pooled(_POOL), pooled(_TAIL_POOL)
    outer = np.clip(np.minimum(core, 1 - core) / 0.05, 0.0, 1.0)
    mixed = outer * core + (1 - outer) * tails
    mixed = np.maximum.accumulate(np.clip(mixed, 0.0, 1.0), axis=1)
    mixed[:, 0], mixed[:, -1] = 0.0, 1.0
    return Kernel(energies, borders, mixed)


def share_rows(shares: FloatArray) -> list[list[float]]:
    """Shares as they are written: per row the first column with one, and those from there to the last.

    Args:
        shares: (n, m), with one above 1e-12 in each row.

    Returns:
        n lists.
    """
    rows = []
    for row in shares:
        at = np.flatnonzero(row > _SMALLEST)
        rows.append([int(at[0]), *rounded(row[at[0] : at[-1] + 1].tolist(), _DIGITS)])
    return rows


def filled_rows(rows: Any, shape: tuple[int, int]) -> FloatArray:
    """Inverse of :func:`share_rows`, rows of sum 1 to the last digit again.

    Args:
        rows: n lists.
        shape: (n, m).

    Returns:
        (n, m).

    Raises:
        ValueError: rows that do not fit.
    """
    shares = np.zeros(shape)
    for row, (first, *values) in zip(shares, rows, strict=True):
        row[first : first + len(values)] = values
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def kernel_dict(kernel: Kernel) -> dict[str, Any]:
    """A kernel in plain types: shares between the borders, as rows."""
    return {
        "energies_gev": rounded(kernel.energies.tolist(), _DIGITS),
        "borders": rounded(kernel.borders.tolist(), _DIGITS),
        "share_rows": share_rows(np.diff(kernel.cumulative, axis=1)),
    }


def kernel_of(content: Mapping[str, Any]) -> Kernel:
    """Inverse of :func:`kernel_dict`.

    Raises:
        KeyError: an entry is missing.
        ValueError: numbers that do not fit together.
    """
    energies, borders = (
        np.array(content[k], dtype=np.float64) for k in ("energies_gev", "borders")
    )
    share = filled_rows(content["share_rows"], (energies.size, borders.size - 1))
    if not (np.all(np.diff(energies) > 0) and np.all(np.diff(borders) > 0)):
        msg = "energies and borders of the energy ratio must ascend"
        raise ValueError(msg)
    cumulative = np.pad(np.cumsum(share, axis=1), ((0, 0), (1, 0)))
    cumulative[:, -1] = 1.0
    return Kernel(energies, borders, np.minimum(cumulative, 1.0))


def sharing_chi2(
    response: FloatArray, values: FloatArray, variances: FloatArray, *, least: float = 10.0
) -> tuple[float, int]:
    """How well shares describe the simulated migration between bins.

    Args:
        response: (n, n + 2) shares.
        values: (n, n + 2) Σw in bins of true and reconstructed energy, flow bins of the latter.
        variances: Σw².
        least: effective events that are expected in an element; others of a row are merged into one.

    Returns:
        Pearson's χ² of all rows, and its number of degrees of freedom.
    """
    chi2, ndf = 0.0, 0
    for share, n, n2 in zip(response, values, variances, strict=True):
        total, total2 = n.sum(), n2.sum()
        if not total > 0:
            continue
        weight = total2 / total
        expected, found = share * total / weight, n / weight
        many = expected >= least
        pairs = np.array([expected[many], found[many]])
        rest = np.array([[expected[~many].sum()], [found[~many].sum()]])
        if rest[0, 0] >= least or not many.any():
            pairs = np.concatenate([pairs, rest], axis=1)
        else:
            pairs[:, np.argmin(pairs[0])] += rest[:, 0]
        chi2 += float(np.sum((pairs[1] - pairs[0]) ** 2 / pairs[0]))
        ndf += pairs.shape[1] - 1
    return chi2, ndf


def smooth_response(edges: FloatArray, values: FloatArray, variances: FloatArray) -> FloatArray:
    """Response of a Gaussian in ln E whose bias and width are fitted to the simulated migration.

    Args:
        edges: (n + 1,) GeV.
        values: (n, n + 2) Σw in bins of true and reconstructed energy.
        variances: Σw².

    Returns:
        (n, n + 2) shares of events E⁻³ in true energy.
    """
    total = values.sum(axis=1)
    good = total > 0
    x = log_tev(np.sqrt(edges[1:] * edges[:-1]))
    matrix = spline_matrix(np.linspace(x[good].min(), x[good].max(), _KNOTS), x)
    row = np.arange(x.size)[good]
    share = values[good] / total[good, None]
    # of a share: without the correlation with the total, which is small for the few that migrate
    error = np.sqrt(variances[good]) / total[good, None]
    single = np.sqrt(variances[good].sum(axis=1)) / total[good] / np.sqrt(total[good].size)

    def moved(p: FloatArray) -> tuple[FloatArray, FloatArray]:
        return matrix @ p[:_KNOTS], np.exp(matrix @ p[_KNOTS:])

    def pulls(p: FloatArray) -> FloatArray:
        expected = gaussian_response(edges, *moved(p))[good]
        out = []
        for side in (row, row + 2):  # the neighbours below and above; bin j is in column j + 1
            at = (np.arange(row.size), side)
            out.append((share[at] - expected[at]) / np.hypot(error[at], 0.1 * single))
        return np.concatenate(out)

    start = np.repeat([0.0, np.log(0.01)], _KNOTS)
    return gaussian_response(edges, *moved(least_squares(pulls, start).x))


def gaussian_response(edges: FloatArray, bias: FloatArray, sigma: FloatArray) -> FloatArray:
    """Shares of events E⁻³ in true energy, ln E smeared in each bin of true energy.

    Args:
        edges: (n + 1,) GeV.
        bias: (n,) mean of ln(E_reco / E_true).
        sigma: (n,) its standard deviation.

    Returns:
        (n, n + 2) shares, flow bins first and last.
    """
    borders = np.concatenate([[-np.inf], np.log(edges), [np.inf]])
    step = (np.arange(_PLACES) + 0.5) / _PLACES
    log_e = np.log(edges[:-1, None]) + step * np.diff(np.log(edges))[:, None]
    weight = np.exp(-2.0 * log_e)  # E^-3 dE = E^-2 dlnE
    weight /= weight.sum(axis=1, keepdims=True)
    z = (borders - log_e[:, :, None] - bias[:, None, None]) / sigma[:, None, None]
    return np.asarray(np.einsum("ik,ikj->ij", weight, np.diff(ndtr(z), axis=2)))
