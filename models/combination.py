"""Fits of the parameters of omega (:mod:`processors.omega`) on simulated events scored by the networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation import auc, effective_number, weighted_quantile
from models.likelihood import fit_likelihood_ratio
from models.scored import MIN_EVENTS, Scored, shares, useful_nodes
from processors.exceptions import ModelError
from processors.modelset import Models
from processors.omega import STRATEGIES, Logistic, Omega, Standardised, combine

__all__ = ["NODES_GEV", "areas", "fit_logistic", "fit_omega", "fit_standardised"]

FloatArray = npt.NDArray[np.float64]

#: Energies at which the parameters are fitted, as far as the sample reaches.
NODES_GEV = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
#: Energies at which peak and width of electrons are measured: five per decade.
PEAK_NODES_GEV = tuple(10 ** (1.4 + 0.2 * k) for k in range(15))
#: Pull of the logistic weights towards the plain mean of the logits, relative to the mean loss.
RIDGE = 1e-6


def fit_logistic(sample: Scored, nodes_gev: Sequence[float], *, ridge: float = RIDGE) -> Logistic:
    """Logistic regression with coefficients that are linear in log10 E between nodes.

    All nodes are fitted together by Newton steps on the balanced weights. The ridge pulls the weights
    to 1/K, the mean of the K logits, in units of the spread of each; it decides only where the sample
    does not, for instance where it is separated without error.

    Args:
        sample: The events.
        nodes_gev: Energy nodes.
        ridge: Strength of the pull.

    Returns:
        Bias and weights at the nodes.

    Raises:
        ModelError: If the fit does not converge.
    """
    names = list(sample.logits)
    weights = sample.balanced()
    used = weights > 0
    w, sign = weights[used], np.where(sample.electron[used], 1.0, -1.0)
    x = np.stack([sample.logits[n][used] for n in names], axis=1)
    mean = w @ x
    spread = np.sqrt(w @ (x - mean) ** 2)
    spread[spread == 0] = 1.0
    share = shares(sample.e_corr[used], nodes_gev)
    inner = np.column_stack([np.ones(len(w)), (x - mean) / spread])
    prior = np.tile(np.concatenate([[0.0], spread / len(names)]), len(nodes_gev))
    strength = np.tile(np.concatenate([[ridge * 1e-3], np.full(len(names), ridge)]), len(nodes_gev))
    theta = _newton(inner, share, w, sign, prior, strength)
    table = theta.reshape(len(nodes_gev), len(names) + 1)
    slopes = table[:, 1:] / spread
    bias = table[:, 0] - slopes @ mean
    return Logistic(
        energies_gev=tuple(nodes_gev),
        bias=tuple(bias.tolist()),
        weights={n: tuple(slopes[:, i].tolist()) for i, n in enumerate(names)},
    )


def _newton(
    inner: FloatArray,
    share: FloatArray,
    w: FloatArray,
    sign: FloatArray,
    prior: FloatArray,
    strength: FloatArray,
) -> FloatArray:
    """Minimum of sum w ln(1 + exp(-sign z)) + strength/2 (theta - prior)^2, z = sum share inner theta."""
    shape = (share.shape[1], inner.shape[1])

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        z = np.einsum("nk,nk->n", share @ theta.reshape(shape), inner)
        value = w @ np.logaddexp(0.0, -sign * z) + 0.5 * strength @ (theta - prior) ** 2
        return float(value), z

    theta = prior.copy()
    value, z = loss(theta)
    for _ in range(200):
        p = np.exp(-np.logaddexp(0.0, sign * z))  # probability of the wrong kind
        gradient = strength * (theta - prior)
        gradient -= (share.T @ (inner * (w * sign * p)[:, None])).ravel()
        curvature = w * p * (1 - p)
        hessian = np.diag(strength)
        for a in range(shape[0]):
            for b in (a, a + 1) if a + 1 < shape[0] else (a,):  # only neighbours share events
                both = curvature * share[:, a] * share[:, b]
                rows = np.flatnonzero(both)
                block = (inner[rows] * both[rows, None]).T @ inner[rows]
                at = (
                    slice(a * shape[1], (a + 1) * shape[1]),
                    slice(b * shape[1], (b + 1) * shape[1]),
                )
                hessian[at] += block
                if a != b:
                    hessian[at[::-1]] += block.T
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement < 1e-12 * max(value, 1e-9):
            return theta
        length = 1.0
        while length > 1e-10:
            new_value, new_z = loss(theta - length * step)
            if new_value <= value - 1e-4 * length * decrement:
                break
            length /= 2
        else:  # no further descent in floating point: at the minimum
            return theta
        theta, value, z = theta - length * step, new_value, new_z
    msg = "the logistic fit of omega does not converge; look at the logits of the sample"
    raise ModelError(msg)


def fit_standardised(
    sample: Scored,
    nodes_gev: Sequence[float] = PEAK_NODES_GEV,
    *,
    min_events: float = MIN_EVENTS,
) -> Standardised:
    """Median and half the central 68.27 % interval of the logits of electrons, per energy.

    Args:
        sample: The events.
        nodes_gev: Candidates for the nodes; each takes the electrons half way to its neighbours.
        min_events: Effective number of electrons that a node needs.

    Returns:
        Peak and width at the nodes with enough electrons.

    Raises:
        ModelError: If there is none.
    """
    log_nodes = np.log10(nodes_gev)
    half = np.diff(log_nodes) / 2 if len(log_nodes) > 1 else np.array([0.1])
    low = log_nodes - np.concatenate([half[:1], half])
    high = log_nodes + np.concatenate([half, half[-1:]])
    log_e = np.log10(sample.e_corr)
    kept: list[float] = []
    peak: dict[str, list[float]] = {n: [] for n in sample.logits}
    width: dict[str, list[float]] = {n: [] for n in sample.logits}
    for k, node in enumerate(nodes_gev):
        rows = np.flatnonzero(sample.electron & (log_e >= low[k]) & (log_e < high[k]))
        w = sample.weight[rows]
        if effective_number(w) < min_events:
            continue
        kept.append(float(node))
        for name, values in sample.logits.items():
            below, middle, above = weighted_quantile(values[rows], w, [0.158655, 0.5, 0.841345])
            peak[name].append(float(middle))
            width[name].append(max(float(above - below) / 2, 1e-3))
    if not kept:
        msg = f"the sample is too small: no energy has {min_events:g} effective electrons; give more files"
        raise ModelError(msg)
    return Standardised(
        energies_gev=tuple(kept),
        peak={n: tuple(v) for n, v in peak.items()},
        width={n: tuple(v) for n, v in width.items()},
    )


def fit_omega(
    sample: Scored,
    region: str,
    models: Models,
    *,
    pair: tuple[str, str] | None = None,
    nodes_gev: Sequence[float] = NODES_GEV,
    synthetic: bool,
    fit: Mapping[str, Any] | None = None,
) -> Omega:
    """Fit the three strategies.

    Args:
        sample: The events, with the logits of all networks.
        region: Their region.
        models: The networks, for their hashes.
        pair: The two networks of the likelihood ratio; by default ``hamf`` and ``dnn``, or else the
            first two. With one network there is no likelihood ratio.
        nodes_gev: Candidates for the energy nodes.
        synthetic: Whether the events are synthetic.
        fit: What is to be remembered of the fit (files and hashes).

    Returns:
        The parameters.

    Raises:
        ModelError: If the sample is too small, or a network of the pair is unknown.
    """
    names = list(sample.logits)
    if pair is None and len(names) > 1:
        pair = ("hamf", "dnn") if {"hamf", "dnn"} <= set(names) else (names[0], names[1])
    if pair is not None and (not set(pair) <= set(names) or pair[0] == pair[1]):
        msg = f"the pair {', '.join(pair)} must be two of the networks {', '.join(names)}"
        raise ModelError(msg)
    nodes = useful_nodes(sample, nodes_gev)
    return Omega(
        region=region,  # type: ignore[arg-type]
        members={n: tuple(r.sha256 for r in models.members[region][n]) for n in names},
        synthetic=synthetic,
        fit={
            **(fit or {}),
            "electrons": int(sample.electron.sum()),
            "protons": int((~sample.electron).sum()),
            "nodes_gev": list(nodes),
        },
        logistic=fit_logistic(sample, nodes),
        standardised=fit_standardised(sample),
        likelihood_ratio=None if pair is None else fit_likelihood_ratio(sample, *pair, nodes),
    )


def areas(
    sample: Scored, omega: Omega, edges_gev: Sequence[float] = (20.0, 100.0, 1000.0, 10_000.0)
) -> dict[str, list[float]]:
    """AUC of every network and strategy per energy range, on the events of the fit.

    Args:
        sample: The events.
        omega: The parameters.
        edges_gev: Energy ranges.

    Returns:
        Score to one AUC per range; NaN where a kind is missing.
    """
    scores = dict(sample.logits)
    for strategy in STRATEGIES:
        if getattr(omega, strategy) is not None:
            scores[strategy] = combine(omega, strategy, sample.logits, sample.e_corr)
    weights = sample.balanced()
    out: dict[str, list[float]] = {name: [] for name in scores}
    for low, high in itertools.pairwise(edges_gev):
        rows = np.flatnonzero((sample.e_corr >= low) & (sample.e_corr < high) & (weights > 0))
        both = 0 < sample.electron[rows].sum() < len(rows)
        for name, values in scores.items():
            area = auc(values[rows], sample.electron[rows], weights[rows]) if both else math.nan
            out[name].append(float(area))
    return out
