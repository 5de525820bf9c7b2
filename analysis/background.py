"""Proton background above the score cut: from a template fit, or from a control region alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.templatefit.morphing import Movable, movable
from analysis.templatefit.result import FitResult, check_axes
from analysis.templates import Sums, Template

__all__ = ["Background", "fitted_background", "proton_background"]

FloatArray = NDArray[np.float64]

_ZERO_EVENTS = 1.1478744644  # one-sided 68.27 % upper limit of zero events, -ln(1 - 0.6827)
_HIGHEST = (
    10.0  # effective events at the upper end of the template whose weight stands for the next one
)


@dataclass(frozen=True, eq=False)
class Background:
    """Protons above the cut per energy bin; every array has shape (n_energy,).

    Attributes:
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        cut: (n_energy,) score cut; protons with omega >= cut are background.
        control: control region, lower and upper score border, (n_energy,) each; of a fit, its window.
        scale: factor that normalises the proton template to the data.
        scale_error: its standard deviation.
        value: protons above the cut, in data counts.
        error: its standard deviation.
        fraction: value / data counts above the cut; NaN where there are none.
        fraction_error: error / data counts above the cut. The fluctuation of those counts is not
            in it: it enters the flux once, with the counts themselves.
        n_data: data counts above the cut.
        n_control: data counts in the control region, of a fit in its window.
        mc_limited: True where no simulated proton is above the cut: value is 0 and error is the
            one-sided 68.27 % upper limit of zero events, 1.148 events of the mean weight
            Σw²/Σw of the ten highest-scoring protons.
        success: False where data or template are empty in the control region, where the
            normalisation is not positive, or where the fit has no result; scale, value, error and
            fraction are NaN there.
        parts: what ``fraction_error`` is made of, added in quadrature: ``yield`` (data and simulation
            that fix the normalisation), ``shift`` (shift and width of the template), ``template``
            (simulated protons above the cut: of n effective events √(n + 1), the standard deviation of the
            posterior with a flat prior, because √n is smallest where the events are too few by chance).
    """

    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    cut: NDArray[np.float64]
    control: tuple[NDArray[np.float64], NDArray[np.float64]]
    scale: NDArray[np.float64]
    scale_error: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    fraction: NDArray[np.float64]
    fraction_error: NDArray[np.float64]
    n_data: NDArray[np.float64]
    n_control: NDArray[np.float64]
    mc_limited: NDArray[np.bool_]
    success: NDArray[np.bool_]
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def proton_background(
    data: Template,
    protons: Template,
    cut: ArrayLike,
    control: tuple[ArrayLike, ArrayLike],
    *,
    electrons: Template | None = None,
) -> Background:
    r"""``bkg = N_p^MC,normalised(omega >= cut) / N_data(omega >= cut)`` per energy bin.

    With data D, proton template M and the regions c (control) and p (passed), the normalisation is
    :math:`s = D_c / M_c` and :math:`N_p = s M_p`. If an electron template is given, the electrons
    in the control region are subtracted with the normalisation that the data above the cut fix:
    :math:`D = s M + k e` in both regions, solved exactly,
    :math:`s = (D_c - r D_p) / (M_c - r M_p)` with :math:`r = e_c / e_p`. Without it r = 0.

    Errors by linear propagation of Poisson errors of D and of Σw² of the templates; the regions do
    not overlap, so their sums are independent. With r > 0 the (small, negative) correlation of
    N_p with D_p is not passed on to the flux.

    Args:
        data: data template.
        protons: proton template, any normalisation.
        cut: score cut on a bin edge, one or one per energy bin.
        control: score range of the proton control region, on bin edges, each border one or one per
            energy bin; must end at or below the cut. The lower border may be infinite.
        electrons: electron template, to subtract electrons from the control region.

    Returns:
        Background per energy bin.

    Raises:
        AnalysisError: the control region overlaps the signal region.
        CutNotOnEdgeError: the cut or a border is inside a bin.
        HistogramMismatchError: the templates have different energy bins.
    """
    n = data.values.shape[0]
    cut, low, high = (np.broadcast_to(np.asarray(x, np.float64), (n,)) for x in (cut, *control))
    if np.any(high > cut):
        i = int(np.argmax(high > cut))
        msg = (
            f"control region [{low[i]:g}, {high[i]:g}) reaches above the cut {cut[i]:g}; end it at or "
            "below the cut, or the same events would be normalisation and background"
        )
        raise AnalysisError(msg)
    _same_bins(data, protons, electrons)
    d_c, d_p = data.between(low, high), data.above(cut)
    m_c, m_p = protons.between(low, high), protons.above(cut)
    ratio = _control_ratio(electrons, cut, (low, high), d_p)
    r, r_var = ratio.value, ratio.variance

    denominator = m_c.value - r * m_p.value
    good = (d_c.value > 0) & (m_c.value > 0) & (denominator > 0)
    good &= d_c.value > r * d_p.value
    safe = np.where(good, denominator, 1.0)
    scale = np.where(good, (d_c.value - r * d_p.value) / safe, 0.0)

    # ds/dM_p is r s / denominator; N_p = s M_p adds s to it.
    by_ratio = (d_p.value - scale * m_p.value) / safe
    common = d_c.value + r**2 * d_p.value + scale**2 * m_c.variance
    scale_var = (common + (r * scale) ** 2 * m_p.variance) / safe**2 + by_ratio**2 * r_var
    by_passed = scale * (1.0 + r * m_p.value / safe)
    value = scale * m_p.value
    by_yield = m_p.value * np.sqrt(common / safe**2 + by_ratio**2 * r_var)
    by_template = by_passed * _template_error(m_p, protons)
    limited = good & (m_p.value <= 0)
    error = np.hypot(by_yield, by_template)
    n_data = np.where(d_p.value > 0, d_p.value, np.nan)
    return Background(
        e_min=data.energy_edges[:-1].copy(),
        e_max=data.energy_edges[1:].copy(),
        cut=cut.copy(),
        control=(low.copy(), high.copy()),
        scale=np.where(good, scale, np.nan),
        scale_error=np.where(good, np.sqrt(scale_var), np.nan),
        value=np.where(good, value, np.nan),
        error=np.where(good, error, np.nan),
        fraction=np.where(good, value, np.nan) / n_data,
        fraction_error=np.where(good, error, np.nan) / n_data,
        n_data=d_p.value,
        n_control=d_c.value,
        mc_limited=limited,
        success=good,
        parts={
            "yield": np.where(good, by_yield, np.nan) / n_data,
            "template": np.where(good, by_template, np.nan) / n_data,
        },
    )


def fitted_background(
    result: FitResult,
    data: Template,
    protons: Template,
    cut: ArrayLike,
    *,
    prepared: tuple[Movable, Movable] | None = None,
) -> Background:
    r"""Protons above the cut from a template fit.

    :math:`N_p^> = \kappa\, T_p^>(s, w)`, the fitted scale times the content of the shifted template above the
    cut. The error has three parts: scale, shift and width with their covariance in the fit (of which the
    scale's own is ``yield`` and the rest ``shift``), and Σw² of the template above the cut. The control
    region of the result is the window in which the fit was made; it may reach over the cut.

    Args:
        result: the fit.
        data: data template, for the counts above the cut.
        protons: the proton template of the fit.
        cut: score cut on a bin edge, one or one per energy bin.
        prepared: the proton template as it is and smooth, ready to be shifted, for many cuts in a row.

    Returns:
        Background per energy bin; ``success`` False where the fit has no result.

    Raises:
        HistogramMismatchError: the template is not that of the fit.
        CutNotOnEdgeError: the cut is inside a bin.
    """
    check_axes(data, protons)
    n, k = data.values.shape[0], result.used.size
    if n != result.e_min.size or not np.allclose(result.e_min, data.energy_edges[:-1], rtol=1e-9):
        msg = "the fit was made in other energy bins; fit these histograms"
        raise HistogramMismatchError(msg)
    cuts = np.broadcast_to(np.asarray(cut, np.float64), (n,))
    d_p = data.above(cuts)
    used = result.used
    if prepared is None:
        prepared = movable(protons), movable(protons, smooth=True)
    part, smooth = (one.rows(used) for one in prepared)
    edges = np.stack([cuts[used], np.full(k, np.inf)], axis=1)
    shift, width = (
        np.nan_to_num(x[0][used], nan=f) for x, f in ((result.shift, 0.0), (result.width, 1.0))
    )
    moved, moves = part.between(edges, shift, width), smooth.between(edges, shift, width)
    scale = result.parameters[k : 2 * k] / part.total
    above, above_variance = moved.values[:, 0], np.maximum(moved.variances[:, 0], 0.0)

    jacobian = np.zeros((k, result.parameters.size))
    jacobian[np.arange(k), k + np.arange(k)] = above / part.total
    first = 2 * k
    for change, design in (
        (moves.by_shift[0], result.shift_design),
        (moves.by_width[0], result.width_design),
    ):
        jacobian[:, first : first + design.shape[1]] = (
            np.nan_to_num(scale * change[:, 0])[:, None] * design
        )
        first += design.shape[1]
    raw = result.raw_covariance
    whole = _quadratic(jacobian, raw)
    conditional = _conditional(raw, 2 * k)
    by_yield = _quadratic(jacobian[:, : 2 * k], conditional)

    def spread(values: FloatArray) -> FloatArray:
        out = np.full(n, np.nan)
        out[used] = values
        return np.where(result.success, out, np.nan)

    limited = above <= 1e-9 * part.total
    weight = _template_error(Sums(spread(above), spread(above_variance)), protons)[used]
    squares = {
        "yield": by_yield,
        "shift": np.maximum(whole - by_yield, 0.0),
        "template": (scale * weight) ** 2,
    }
    n_data = np.where(d_p.value > 0, d_p.value, np.nan)

    value = spread(np.where(limited, 0.0, scale * above))
    error = spread(np.sqrt(sum(squares.values())))
    return Background(
        e_min=result.e_min.copy(),
        e_max=result.e_max.copy(),
        cut=cuts.copy(),
        control=result.window,
        scale=spread(scale),
        scale_error=spread(np.sqrt(np.diag(raw)[k : 2 * k]) / part.total),
        value=value,
        error=error,
        fraction=value / n_data,
        fraction_error=error / n_data,
        n_data=d_p.value,
        n_control=result.n_data,
        mc_limited=np.isin(np.arange(n), used[limited]) & result.success,
        success=result.success & np.isfinite(value),
        parts={name: spread(np.sqrt(s)) / n_data for name, s in squares.items()},
    )


def _quadratic(jacobian: FloatArray, covariance: FloatArray) -> FloatArray:
    """Variance of each row of a linear function; a failed bin does not touch the others."""
    bad = ~np.isfinite(np.diag(covariance))
    clean = np.where(bad[:, None] | bad, 0.0, covariance)
    return np.asarray(((jacobian @ clean) * jacobian).sum(axis=1))


def _conditional(covariance: FloatArray, first: int) -> FloatArray:
    """Covariance of the first parameters with all others kept."""
    bad = ~np.isfinite(np.diag(covariance))
    clean = np.where(bad[:, None] | bad, 0.0, covariance)
    mixed, shared = clean[:first, first:], clean[first:, first:]
    return clean[:first, :first] - mixed @ np.linalg.pinv(shared, hermitian=True) @ mixed.T


def _template_error(above: Sums, protons: Template) -> FloatArray:
    """Error of the template above the cut from its finite simulation."""
    some = (above.value > 0) & (above.variance > 0)
    weight = np.where(some, above.variance, 0.0) / np.where(some, above.value, 1.0)
    none = _ZERO_EVENTS * _highest_weight(protons)
    return np.where(some, np.sqrt(np.where(some, above.variance, 0.0) + weight**2), none)


def _highest_weight(protons: Template) -> FloatArray:
    """Mean weight Σw²/Σw of about ten effective events with the highest scores, per energy bin."""
    value = np.cumsum(protons.values[:, ::-1], axis=1)
    variance = np.cumsum(protons.variances[:, ::-1], axis=1)
    effective = value**2 / np.where(variance > 0, variance, np.inf)
    enough = effective >= np.minimum(_HIGHEST, effective[:, -1:])
    at = np.argmax(enough, axis=1)[:, None]
    w, w2 = (np.take_along_axis(x, at, axis=1)[:, 0] for x in (value, variance))
    return np.where(w > 0, w2 / np.where(w > 0, w, 1.0), 0.0)


def _control_ratio(
    electrons: Template | None,
    cut: FloatArray,
    control: tuple[FloatArray, FloatArray],
    like: Sums,
) -> Sums:
    """Electrons in the control region per electron above the cut, with variance; 0 without any."""
    zero = np.zeros_like(like.value)
    if electrons is None:
        return Sums(zero, zero)
    inside, above = electrons.between(*control), electrons.above(cut)
    good = above.value > 0
    safe = np.where(good, above.value, 1.0)
    ratio = np.where(good, inside.value / safe, 0.0)
    variance = (inside.variance + ratio**2 * above.variance) / safe**2
    return Sums(ratio, np.where(good, variance, 0.0))


def _same_bins(data: Template, *others: Template | None) -> None:
    """Refuse templates whose energy bins differ from those of the data."""
    for other in others:
        if other is not None and not np.array_equal(data.energy_edges, other.energy_edges):
            msg = (
                f"energy bins of the {other.kind} template differ from those of the "
                f"{data.kind} template; fill both from one card"
            )
            raise HistogramMismatchError(msg)
