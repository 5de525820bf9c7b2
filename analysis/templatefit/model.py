r"""Likelihood of electron and proton templates in all energy bins together, with its gradient.

Expectation in energy bin i and score bin j: :math:`\mu = \kappa_e T_e + \kappa_p T_p(s(E), w(E))` with
:math:`\kappa = N / \sum T`. The counts are Poisson; the templates are simulation with Σw² and enter by the
approximate likelihood of H. Dembinski and A. Abdelmotteleb, EPJC 82 (2022) 1043: with the variance of the
expectation :math:`v = \kappa_e^2 V_e + \kappa_p^2 V_p` there are :math:`k = \mu^2/v` equivalent simulated
events, the expectation is scaled by :math:`\beta = (n + k)/(\mu + k)`, and
:math:`Q = 2 [n \ln(n/\mu) - (n + k) \ln\beta]`. The variance moves with the shifted template.

The content of a shifted bin changes by the few simulated events that cross its borders, so that the derivatives
of a template as it is are noisy and would promise too much: the errors are made with those of a smooth copy.
Below 0.01 expected events Q is continued by a parabola, so that it stays finite where the templates are
empty or a yield is negative, and the sum of the templates cannot be negative in any bin. Where a negative
yield cancels part of the other, :math:`\mu^2/v` would vanish with :math:`\mu` and any count be allowed: k is
then :math:`(|\kappa_e| T_e + |\kappa_p| T_p)^2 / v`, the same for yields that are positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.templatefit.morphing import Movable, Moved

__all__ = ["FitModel", "deviance"]

FloatArray = NDArray[np.float64]

_SMALL = 0.01  # expected events below which the deviance is continued
_STIFF = 1.0 / _SMALL
_NARROWEST = 0.05  # stretching factor that the search never goes below


def deviance(
    counts: FloatArray, mean: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Deviance of each bin and its derivatives; twice the negative log-likelihood ratio.

    Args:
        counts: observed counts, any shape.
        mean: expectation, same shape.
        variance: variance of the expectation from the finite simulation, same shape; 0 gives the
            Poisson deviance.

    Returns:
        Q, dQ/dmean and dQ/dvariance, same shape.
    """
    mu = np.maximum(mean, _SMALL)
    k = mu**2 / np.maximum(variance, 1e-12 * mu**2)
    relative = (counts - mu) / (mu + k)
    log_beta = np.log1p(relative)
    beta = 1.0 + relative
    ratio = np.where(counts > 0, counts, 1.0) / mu
    # n ln(n/mu) - (n + k) ln(beta), without the loss of digits at large k
    q = 2.0 * (counts * np.log(ratio) - (counts + k) * log_beta)
    by_k = relative - log_beta  # half of dQ/dk at fixed mu
    k_v = np.where(variance > 1e-12 * mu**2, -(k**2) / mu**2, 0.0)
    by_mean = 2.0 * (beta - counts / mu) + 4.0 * by_k * k / mu
    by_variance = 2.0 * by_k * k_v
    low = mean < _SMALL
    if low.any():
        below = np.where(low, mean - _SMALL, 0.0)
        beta_k = (mu - counts) / (mu + k) ** 2
        cross = 2.0 * beta_k * k_v + 4.0 / mu * k_v * (by_k + beta_k * (1.0 - 1.0 / beta) * k)
        q = q + below * by_mean + _STIFF * below**2
        by_variance = by_variance + below * cross
        by_mean = by_mean + 2.0 * _STIFF * below
    return q, by_mean, by_variance


def _of_sum(
    counts: FloatArray, electrons: FloatArray, protons: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Deviance of electrons + protons; its derivatives by electrons, protons and variance."""
    mean, size = electrons + protons, np.abs(electrons) + np.abs(protons)
    above = np.maximum(mean, _SMALL)
    cancel = size > above * (1.0 + 1e-9)
    if not cancel.any():
        q, by_mean, by_variance = deviance(counts, mean, variance)
        return q, by_mean, by_mean, by_variance
    ratio = np.where(cancel, above / np.where(cancel, size, 1.0), 1.0)
    q, by_mean, by_variance = deviance(counts, mean, variance * ratio**2)
    change = np.where(cancel, 2.0 * by_variance * variance * ratio / np.where(cancel, size, 1.0), 0)
    by_mean = by_mean + np.where(mean > _SMALL, change, 0.0)
    by_electrons, by_protons = (
        by_mean - change * ratio * np.sign(part) for part in (electrons, protons)
    )
    return q, by_electrons, by_protons, by_variance * ratio**2


@dataclass(frozen=True, eq=False)
class FitModel:
    """Counts, templates and the functions of energy that move them, for n energy bins.

    The parameters are the electron yields (n), the proton yields (n), then the coefficients of the proton
    shift, of the proton width and of the electron shift.

    Attributes:
        counts: (n, m) data per score bin.
        edges: (n, m + 1) score edges; rows with fewer bins repeat the last edge.
        electrons: electron templates, as they are and smooth.
        protons: proton templates, as they are and smooth.
        shift: (n, k_s) design matrix, s = shift @ coefficients; k_s = 0: no shift.
        width: (n, k_w) design matrix of the proton width; k_w = 0: width 1.
        electron_shift: (n, k_e) design matrix; k_e = 0: electrons stay.
    """

    counts: FloatArray
    edges: FloatArray
    electrons: tuple[Movable, Movable]
    protons: tuple[Movable, Movable]
    shift: FloatArray
    width: FloatArray
    electron_shift: FloatArray

    @property
    def size(self) -> int:
        """Number of energy bins."""
        return int(self.counts.shape[0])

    @property
    def n_shared(self) -> int:
        """Number of coefficients that all energy bins share."""
        return int(self.shift.shape[1] + self.width.shape[1] + self.electron_shift.shape[1])

    def unpack(self, parameters: FloatArray) -> tuple[FloatArray, ...]:
        """Electron and proton yields, shift, width and electron shift of each energy bin, (n,) each."""
        n, k_s, k_w = self.size, self.shift.shape[1], self.width.shape[1]
        shared = parameters[2 * n :]
        width = self.width @ shared[k_s : k_s + k_w] if k_w else np.ones(n)
        return (
            parameters[:n],
            parameters[n : 2 * n],
            self.shift @ shared[:k_s],
            np.maximum(width, _NARROWEST),
            self.electron_shift @ shared[k_s + k_w :],
        )

    def expected(
        self, parameters: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Expected electrons, their variance from the simulation, protons and theirs, (n, m) each.

        Args:
            parameters: as in the class.
        """
        e, p = self._moved(parameters, smooth=False)
        k_e, k_p = self._scales(parameters)
        return k_e * e.values, k_e**2 * e.variances, k_p * p.values, k_p**2 * p.variances

    def deviances(self, parameters: FloatArray) -> FloatArray:
        """Deviance of each energy bin, (n,).

        Args:
            parameters: as in the class.
        """
        electrons, var_e, protons, var_p = self.expected(parameters)
        inside = self.edges[:, 1:] > self.edges[:, :-1]
        each = _of_sum(self.counts, electrons, protons, var_e + var_p)[0]
        return np.asarray(np.where(inside, each, 0.0).sum(axis=1))

    def evaluate(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Deviance of all bins and its gradient.

        Args:
            parameters: as in the class.

        Returns:
            Q, and dQ/dparameter (p,).
        """
        e, p = self._moved(parameters, smooth=False)
        k_e, k_p = self._scales(parameters)
        total_e, total_p = (part[0].total[:, None] for part in (self.electrons, self.protons))
        variance = k_e**2 * e.variances + k_p**2 * p.variances
        q, by_e, by_p, by_variance = _of_sum(self.counts, k_e * e.values, k_p * p.values, variance)
        own = [
            (by_mean * m + by_variance * v).sum(axis=1)
            for by_mean, m, v in (
                (by_e, e.values / total_e, 2.0 * k_e * e.variances / total_e),
                (by_p, p.values / total_p, 2.0 * k_p * p.variances / total_p),
                (by_p, k_p * p.by_shift[0], k_p**2 * p.by_shift[1]),
                (by_p, k_p * p.by_width[0], k_p**2 * p.by_width[1]),
                (by_e, k_e * e.by_shift[0], k_e**2 * e.by_shift[1]),
            )
        ]
        designs = (self.shift, self.width, self.electron_shift)
        shared = [d.T @ g for d, g in zip(designs, own[2:], strict=True)]
        inside = self.edges[:, 1:] > self.edges[:, :-1]
        return float(q[inside].sum()), np.concatenate([own[0], own[1], *shared])

    def curvature(self, parameters: FloatArray) -> FloatArray:
        """Second derivatives of the deviance as they are expected on average, (p, p).

        Args:
            parameters: as in the class.

        Returns:
            Twice the information, with the variance mean + v of the counts.
        """
        means, _, _, weight = self._local(parameters)
        return self._curvature(means, weight)

    def covariances(
        self, parameters: FloatArray, free: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray]:
        r"""Covariance of the parameters, of scales and of yields.

        To first order a parameter answers to a change of counts and templates by
        :math:`d\theta = C J^T (dn - \kappa_e dT_e - \kappa_p dT_p)/(\mu + v)` with C the inverse of
        the expected information. A yield is a scale times the sum of its template, :math:`N = \kappa \sum T`,
        and part of the template's fluctuation cancels in the product: a template that is a tenth too high
        everywhere gives the right yield. Both are wanted: scales for what is read off the template above a
        cut, yields for the numbers of events.

        Args:
            parameters: as in the class.
            free: (p,) parameters that were fitted; the others have covariance 0.

        Returns:
            (p, p) at fixed template sums: divide by ΣT for the scales; and (p, p) of the yields. NaN if the
            information is singular.
        """
        means, mean, variances, weight = self._local(parameters)
        information = 0.5 * self._curvature(means, weight)
        raw = _inverse(information, free)
        n, m = mean.shape
        spread = self._spread()
        # change of every parameter per count in bin (i, j): C J^T / (mu + v)
        jacobian = np.einsum("anj,nak->knj", np.stack(means), spread)
        half = 0.5 * weight
        answer = np.einsum("pk,knj->pnj", raw[:, 2 * n :], jacobian)
        for a in range(2):
            answer += raw[:, a * n : (a + 1) * n, None] * means[a]
        answer *= half
        flat = answer.reshape(len(parameters), n * m)
        full = (flat * np.maximum(mean, 0.0).ravel()) @ flat.T
        i = np.arange(n)
        for a, part in enumerate(variances):
            moved = -answer
            moved[a * n + i, i] += np.where(free[a * n + i], 1.0, 0.0)[:, None]
            flat = moved.reshape(len(parameters), n * m)
            full += (flat * part.ravel()) @ flat.T
        outside = self._outside(parameters, variances)
        for a in range(2):
            at = a * n + i[free[a * n + i]]
            full[at, at] += outside[a][free[a * n + i]]
        return raw, full

    def _moved(self, parameters: FloatArray, *, smooth: bool) -> tuple[Moved, Moved]:
        """Electron and proton templates in the score bins of the fit."""
        _, _, shift, width, electron_shift = self.unpack(parameters)
        return (
            self.electrons[smooth].between(self.edges, electron_shift, np.ones(self.size)),
            self.protons[smooth].between(self.edges, shift, width),
        )

    def _scales(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Yields over template sums, (n, 1) each."""
        n_e, n_p, *_ = self.unpack(parameters)
        return (
            (n_e / self.electrons[0].total)[:, None],
            (n_p / self.protons[0].total)[:, None],
        )

    def _local(
        self, parameters: FloatArray
    ) -> tuple[list[FloatArray], FloatArray, list[FloatArray], FloatArray]:
        """One energy bin at a time: derivatives of the mean, the mean, both variances, the weight.

        The weight is twice the inverse variance of the counts; in a score bin that the templates leave
        empty it is that of the smooth ones.
        """
        e, p = self._moved(parameters, smooth=False)
        smooth_e, smooth_p = self._moved(parameters, smooth=True)
        k_e, k_p = self._scales(parameters)
        means = [
            e.values / self.electrons[0].total[:, None],
            p.values / self.protons[0].total[:, None],
            k_p * smooth_p.by_shift[0],
            k_p * smooth_p.by_width[0],
            k_e * smooth_e.by_shift[0],
        ]
        mean = k_e * e.values + k_p * p.values
        variances = [k_e**2 * e.variances, k_p**2 * p.variances]
        smooth = k_e * smooth_e.values + k_p * smooth_p.values
        smooth += k_e**2 * smooth_e.variances + k_p**2 * smooth_p.variances
        total = np.maximum(np.maximum(mean + variances[0] + variances[1], smooth), _SMALL)
        inside = self.edges[:, 1:] > self.edges[:, :-1]
        return means, mean, variances, np.where(inside, 2.0 / total, 0.0)

    def _outside(self, parameters: FloatArray, variances: list[FloatArray]) -> list[FloatArray]:
        """Variance of the yields from the simulation outside the window."""
        parts = (self.electrons[0], self.protons[0])
        return [
            np.maximum(scale[:, 0] ** 2 * part.total_variance - inside.sum(axis=1), 0.0)
            for part, scale, inside in zip(parts, self._scales(parameters), variances, strict=True)
        ]

    def _spread(self) -> FloatArray:
        """From the parameters of one bin (yields, shift, width, electron shift) to the shared ones."""
        spread = np.zeros((self.size, 5, self.n_shared))
        start = 0
        for row, design in enumerate((self.shift, self.width, self.electron_shift), start=2):
            spread[:, row, start : start + design.shape[1]] = design
            start += design.shape[1]
        return spread

    def _curvature(self, means: list[FloatArray], weight: FloatArray) -> FloatArray:
        """Twice the expected information, assembled from the energy bins."""
        n = self.size
        stack = np.stack(means, axis=1)
        blocks = (stack * weight[:, None]) @ stack.transpose(0, 2, 1)
        spread = self._spread()
        out = np.zeros((2 * n + self.n_shared,) * 2)
        i = np.arange(n)
        for a in range(2):
            for b in range(2):
                out[a * n + i, b * n + i] = blocks[:, a, b]
            mixed = np.einsum("nb,nbk->nk", blocks[:, a], spread)
            out[a * n : (a + 1) * n, 2 * n :] = mixed
            out[2 * n :, a * n : (a + 1) * n] = mixed.T
        out[2 * n :, 2 * n :] = np.einsum("nak,nal->kl", spread, blocks @ spread)
        return out


def _inverse(information: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """Covariance of the free parameters, 0 for the others; NaN if the matrix is not positive."""
    out = np.zeros_like(information)
    part = information[np.ix_(free, free)]
    scale = np.sqrt(np.maximum(np.diag(part), 0.0))
    scale[scale == 0] = 1.0
    try:
        root = np.linalg.inv(np.linalg.cholesky(part / np.outer(scale, scale)))
    except np.linalg.LinAlgError:
        out[np.ix_(free, free)] = np.nan
        return out
    out[np.ix_(free, free)] = (root.T @ root) / np.outer(scale, scale)
    return out
