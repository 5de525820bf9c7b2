"""Proton background above the score cut, from a template normalised in a control region."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.templates import Sums, Template

__all__ = ["Background", "proton_background"]

_ZERO_EVENTS = 1.1478744644  # one-sided 68.27 % upper limit of zero events, -ln(1 - 0.6827)


@dataclass(frozen=True, eq=False)
class Background:
    """Protons above the cut per energy bin; every array has shape (n_energy,).

    Attributes:
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        cut: score cut; protons with omega >= cut are background.
        control: the control region, lower and upper score border.
        scale: factor that normalises the proton template to the data in the control region.
        scale_error: its standard deviation.
        value: protons above the cut, in data counts.
        error: its standard deviation.
        fraction: value / data counts above the cut; NaN where there are none.
        fraction_error: error / data counts above the cut. The fluctuation of those counts is not
            in it: it enters the flux once, with the counts themselves.
        n_data: data counts above the cut.
        n_control: data counts in the control region.
        mc_limited: True where no simulated proton is above the cut: value is 0 and error is the
            one-sided 68.27 % upper limit of zero events, 1.148 events of the mean weight
            Σw²/Σw of the control region.
        success: False where data or template are empty in the control region, or where the
            normalisation is not positive; scale, value, error and fraction are NaN there.
    """

    e_min: NDArray[np.float64]
    e_max: NDArray[np.float64]
    cut: float
    control: tuple[float, float]
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


def proton_background(
    data: Template,
    protons: Template,
    cut: float,
    control: tuple[float, float],
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
        cut: score cut, on a bin edge.
        control: score range of the proton control region, on bin edges; must end at or below the
            cut. Either border may be infinite on the low side.
        electrons: electron template, to subtract electrons from the control region.

    Returns:
        Background per energy bin.

    Raises:
        AnalysisError: the control region overlaps the signal region.
        CutNotOnEdgeError: the cut or a border is inside a bin.
        HistogramMismatchError: the templates have different energy bins.
    """
    low, high = control
    if high > cut:
        msg = (
            f"control region [{low!r}, {high!r}) reaches above the cut {cut!r}; end it at or below "
            "the cut, or the same events would be normalisation and background"
        )
        raise AnalysisError(msg)
    _same_bins(data, protons, electrons)
    d_c, d_p = data.between(low, high), data.above(cut)
    m_c, m_p = protons.between(low, high), protons.above(cut)
    ratio = _control_ratio(electrons, cut, control, d_p)
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
    variance = m_p.value**2 * (common / safe**2 + by_ratio**2 * r_var)
    variance += by_passed**2 * m_p.variance

    limited = good & (m_p.value <= 0)
    weight = m_c.variance / np.where(good, m_c.value, 1.0)
    error = np.where(limited, scale * _ZERO_EVENTS * weight, np.sqrt(variance))
    n_data = np.where(d_p.value > 0, d_p.value, np.nan)
    return Background(
        e_min=data.energy_edges[:-1].copy(),
        e_max=data.energy_edges[1:].copy(),
        cut=float(cut),
        control=(float(low), float(high)),
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
    )


def _control_ratio(
    electrons: Template | None, cut: float, control: tuple[float, float], like: Sums
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
