"""Forward folding: a flux is folded with the response and fitted to the counts above the score cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from iminuit import Minuit
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.interpolate import CubicSpline

from analysis.exceptions import AnalysisError
from analysis.intervals import ONE_SIGMA, garwood
from analysis.migration.points import Counts, Unfolded, checked_counts, migration_factor, placed
from analysis.migration.response import Response, ratio

__all__ = ["Model", "forward_fold", "log_spline", "profiled"]

FloatArray = NDArray[np.float64]
#: Parameters and (k + 1,) edges in GeV → (k,) ∫Φ dE, m⁻² s⁻¹ sr⁻¹.
Model = Callable[[FloatArray, FloatArray], FloatArray]

_TINY = 1e-300
_WALL = 1e30  # deviance of a flux that is not finite: Minuit steps back from there
_ENOUGH = 20.0  # excess counts between two nodes of the default model
_BINS_PER_NODE = 3
_POINTS, _SHARES = (x / d for x, d in zip(np.polynomial.legendre.leggauss(6), (1, 2), strict=True))


def forward_fold(
    counts: ArrayLike,
    background: ArrayLike,
    background_error: ArrayLike,
    efficiency: ArrayLike,
    response: Response,
    livetime_s: ArrayLike,
    *,
    efficiency_error: ArrayLike = 0.0,
    model: Model | None = None,
    start: ArrayLike | None = None,
    limits: Sequence[tuple[float | None, float | None]] | None = None,
    level: float = ONE_SIGMA,
) -> Unfolded:
    r"""Fit a flux model to the counts; flux points are the model times data over expectation.

    N_i is Poisson distributed with mean :math:`\beta_i \mu_i + b_i`, :math:`\mu_i = T \varepsilon_i
    \sum_j R_{ij} \Phi_j(\theta)`. The background b_i >= 0 and the factor β_i (statistics of the
    simulated response and efficiency) are Gaussian and profiled in closed form. The points are
    :math:`\phi_i = \bar\Phi_i(\hat\theta)\,(N_i - b_i)/\mu_i`: the model only says what migrates,
    and a feature that it lacks still shows, up to migration. All covariances propagate N, b and β
    both directly and through :math:`\hat\theta` (linear, expected information). ``dnde_errn/p`` are
    its diagonal, stretched to the Garwood interval of N on either side.

    Args:
        counts: (n,) data above the score cut.
        background: (n,) background among them, in counts.
        background_error: (n,) its error.
        efficiency: (n,) of the score cut.
        response: the response, before the score cut.
        livetime_s: s, one or (n,).
        efficiency_error: its error.
        model: parameters, edges → ∫Φ dE per bin; default :func:`log_spline` with a node per
            three bins, fewer where counts are few.
        start: start values of its parameters; not with the default model.
        limits: bounds of its parameters.
        level: probability content of the Garwood interval.

    Returns:
        Points in the reco bins. A bin with an unusable input (NaN, efficiency 0, no simulation) fails
        alone and is not fitted. ``valid`` is False, and all points NaN, if the fit did not converge.

    Raises:
        AnalysisError: negative counts, background or errors, livetime not positive, fewer usable bins
            than parameters, or a model without start values.
        HistogramMismatchError: lengths do not fit.
    """
    data = checked_counts(
        counts, background, background_error, efficiency, efficiency_error, response, livetime_s
    )
    edges, kernel, variance = response.extended()
    used = data.used
    if model is None:
        model, first = _default_model(data, response)
    elif start is None:
        msg = "a flux model needs start values for its parameters"
        raise AnalysisError(msg)
    else:
        first = np.asarray(start, np.float64)
    chosen = model
    _enough(data, first.size)
    exposure = data.exposure[used]

    def signal(parameters: FloatArray) -> FloatArray:
        rate: FloatArray = kernel[used] @ chosen(parameters, edges)
        return exposure * rate

    n, b, b_err = data.n[used], data.background[used], data.background_error[used]
    spectrum = chosen(first, edges)
    relative2 = _relative2(data, kernel, variance, spectrum)[used]

    def cost(parameters: FloatArray) -> float:
        with np.errstate(all="ignore"):
            value = float(profiled(signal(parameters), n, b, b_err, np.sqrt(relative2))[1].sum())
        return value if np.isfinite(value) else _WALL

    fit = _minimum(cost, first, limits)
    best = np.array(fit.values)
    mu = signal(best)
    total = profiled(mu, n, b, b_err, np.sqrt(relative2))[0]
    spectrum = chosen(best, edges)
    rate: FloatArray = kernel @ spectrum
    width = np.diff(response.reco_edges)

    def shape(parameters: FloatArray) -> FloatArray:
        rate: FloatArray = kernel @ chosen(parameters, edges)
        return ratio(chosen(parameters, response.reco_edges) / width, data.exposure * rate)[used]

    step = 0.05 * np.maximum(np.nan_to_num(np.array(fit.errors)), 1e-6)
    steps = _slopes(signal, best, step), _slopes(shape, best, step)
    valid = bool(fit.valid and fit.fval < _WALL and all(np.isfinite(x).all() for x in steps))
    slopes, bends = (np.nan_to_num(x) for x in steps)
    per_count = shape(best)
    spread = total + b_err**2
    weight = slopes.T / (spread + relative2 * mu**2)
    fitted = np.linalg.pinv(weight @ slopes, hermitian=True) @ weight
    excess = n - b
    matrix = np.diag(per_count) + excess[:, None] * (bends @ fitted)
    eff2 = ratio(data.efficiency_error, data.efficiency)[used] ** 2
    covariance = (matrix * (spread + eff2 * mu**2)) @ matrix.T
    simulation = (matrix * ((relative2 - eff2) * mu**2)) @ matrix.T

    good = used & valid
    ends = garwood(n, level)
    other = b_err**2 + eff2 * mu**2
    diagonal = np.sqrt(ratio(np.diag(covariance), spread + eff2 * mu**2))
    return Unfolded(
        method="forward folding",
        e_min=response.reco_edges[:-1].copy(),
        e_max=response.reco_edges[1:].copy(),
        dnde=placed(per_count * excess, used, good),
        dnde_errn=placed(diagonal * np.sqrt((n - ends.lower) ** 2 + other), used, good),
        dnde_errp=placed(diagonal * np.sqrt((ends.upper - n) ** 2 + other), used, good),
        covariance=placed(covariance, used, good),
        covariance_simulation=placed(simulation, used, good),
        factor=np.where(good, migration_factor(response, spectrum[1:-1], rate), np.nan),
        folded=placed(total, used, used),
        chi2=float(fit.fval),
        ndf=int(np.count_nonzero(used) - fit.nfit),
        valid=valid,
        success=good,
        reasons=tuple(
            "" if ok else why or "the fit of the folded model did not converge"
            for ok, why in zip(good, data.reasons, strict=True)
        ),
        parameters=best,
        parameter_covariance=np.array(fit.covariance) if fit.covariance is not None else None,
    )


def log_spline(nodes_gev: ArrayLike) -> Model:
    """Natural cubic spline of ln Φ in ln E, a power law beyond its ends; two nodes are one power law.

    Integrals over bins by Gauss-Legendre quadrature with 6 points in ln E.

    Args:
        nodes_gev: (p,) ascending energies, two at least.

    Returns:
        Model whose parameters are ln(Φ / (GeV⁻¹ m⁻² s⁻¹ sr⁻¹)) at the nodes.

    Raises:
        AnalysisError: nodes do not ascend.
    """
    nodes = np.asarray(nodes_gev, np.float64)
    if nodes.ndim != 1 or nodes.size < 2 or not np.all(np.diff(nodes) > 0) or nodes[0] <= 0:
        msg = f"a spline of the flux needs two or more ascending node energies, got {nodes_gev!r}"
        raise AnalysisError(msg)
    log_nodes = np.log(nodes)
    unit = CubicSpline(log_nodes, np.eye(nodes.size), bc_type="natural")
    slope = unit.derivative()
    known: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def basis(edges: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values of the spline per parameter, (k, 6, p), and weights, (k, 6), of the quadrature."""
        low, high = np.log(edges[:-1, None]), np.log(edges[1:, None])
        at = (low + high) / 2 + (high - low) / 2 * _POINTS
        held = np.clip(at, log_nodes[0], log_nodes[-1])
        return unit(held) + slope(held) * (at - held)[..., None], np.exp(at) * _SHARES * (
            high - low
        )

    def integral(parameters: FloatArray, edges: FloatArray) -> FloatArray:
        key = edges.tobytes()
        if key not in known:
            known[key] = basis(edges)
        values, weights = known[key]
        total: FloatArray = (np.exp(values @ parameters) * weights).sum(axis=1)
        return total

    return integral


def profiled(
    mu: FloatArray, n: FloatArray, b: FloatArray, b_err: FloatArray, relative: FloatArray
) -> tuple[FloatArray, FloatArray]:
    r"""Expectation and deviance per bin with Gaussian background and signal factor profiled out.

    Only their sum s, a shift of the expectation with variance :math:`\sigma^2 = \sigma_b^2 +
    (r\mu)^2`, meets the counts: minimum of :math:`2(t - n \ln t) + (t-m)^2/\sigma^2`, the root of
    :math:`t^2 + t(\sigma^2 - m) - n\sigma^2 = 0`. Where the background would turn negative it is 0.

    Args:
        mu: (n,) expected signal.
        n: (n,) counts.
        b: (n,) background.
        b_err: (n,) its error.
        relative: (n,) relative error r of the signal.

    Returns:
        Expected counts t and deviance, shape (n,).
    """

    def solve(m: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
        half = (m - variance) / 2
        root = np.sqrt(half**2 + n * variance)
        # For half < 0 the sum cancels: the other form of the root.
        t = np.where(half >= 0, half + root, n * variance / np.maximum(root - half, _TINY))
        t = np.maximum(t, _TINY)
        pull2 = (t - m) ** 2 / np.where(variance > 0, variance, np.inf)
        return t, 2 * (t - n + special.xlogy(n, np.maximum(n, _TINY) / t)) + pull2

    variance = b_err**2 + (relative * mu) ** 2
    t, deviance = solve(mu + b, variance)
    share = b_err**2 / np.where(variance > 0, variance, np.inf)
    negative = b + (t - mu - b) * share < 0
    if negative.any():
        without, other = solve(mu, (relative * mu) ** 2)
        other = other + (b / np.where(b_err > 0, b_err, np.inf)) ** 2
        t, deviance = np.where(negative, without, t), np.where(negative, other, deviance)
    return t, deviance


def _enough(data: Counts, parameters: int) -> None:
    """Refuse a fit of more parameters than usable bins."""
    usable = int(np.count_nonzero(data.used))
    if usable < parameters:
        why = next((reason for reason in data.reasons if reason), "too few bins")
        msg = f"{usable} usable energy bins cannot fix {parameters} parameters; first reason: {why}"
        raise AnalysisError(msg)


def _minimum(
    cost: Callable[[FloatArray], float],
    start: FloatArray,
    limits: Sequence[tuple[float | None, float | None]] | None,
) -> Minuit:
    """Minimum of a deviance and its curvature."""
    fit = Minuit(cost, start)
    fit.errordef = Minuit.LEAST_SQUARES  # a deviance rises by 1 for one standard deviation
    if limits is not None:
        fit.limits = limits
    fit.migrad()
    fit.hesse()
    return fit


def _relative2(
    data: Counts, kernel: FloatArray, variance: FloatArray, spectrum: FloatArray
) -> FloatArray:
    """(n,) squared relative error of the expected signal: response and efficiency."""
    simulation = ratio(variance @ spectrum**2, (kernel @ spectrum) ** 2)
    return simulation + ratio(data.efficiency_error, data.efficiency) ** 2


def _default_model(data: Counts, response: Response) -> tuple[Model, FloatArray]:
    """Spline with nodes where counts can fix it, and start values at the naive flux."""
    edges, used = response.reco_edges, data.used
    _enough(data, 2)
    excess = np.where(used, data.n - data.background, 0.0)
    if not excess.sum() > 0:
        msg = "no counts above the background in any usable energy bin: nothing to fit"
        raise AnalysisError(msg)
    expected = data.exposure * (response.kernel()[0] @ response.target)
    log_energy = np.log(edges[:-1] * edges[1:]) / 2
    at, scale, group = [], [], []
    for i in np.flatnonzero(used):
        group.append(i)
        if len(group) >= _BINS_PER_NODE and excess[group].sum() >= _ENOUGH:
            at.append(log_energy[group].mean())
            scale.append(excess[group].sum() / expected[group].sum())
            group = []
    if len(at) < 2:  # few counts: one power law
        at = [float(log_energy[used][k]) for k in (0, -1)]
        scale = [excess.sum() / expected[used].sum()] * 2
    true, lit = response.true_edges, response.target > 0
    middle = (np.log(true[:-1] * true[1:]) / 2)[lit]
    density = np.interp(at, middle, np.log((response.target / np.diff(true))[lit]))
    return log_spline(np.exp(at)), density + np.log(scale)


def _slopes(
    function: Callable[[FloatArray], FloatArray], at: FloatArray, step: FloatArray
) -> FloatArray:
    """(n, p) central differences of a function of p parameters."""
    shifts = np.diag(step)
    columns = [
        (function(at + shift) - function(at - shift)) / (2 * shift.sum()) for shift in shifts
    ]
    return np.stack(columns, axis=1)
