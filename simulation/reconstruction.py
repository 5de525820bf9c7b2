"""From bar energies to the reconstructed quantities of the ntuple: energies, layer variables, axis.

Two reconstructions of the same bar energies exist. ``new`` finds the position in a layer from the ratio
of the neighbours of the leading bar and follows the longitudinal profile; ``old`` takes the plain
barycentre of three bars and a simpler energy correction, whose scale is 0.7 % low. The corrections were
fitted to simulated electrons (:func:`fit_correction`); for fiducial electrons the median angular error
of ``new`` is 0.6 degrees, that of ``old`` 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import (
    BAR_PITCH_MM,
    BAR_U_MM,
    LAYER_MEASURES_Y,
    LAYER_PITCH_MM,
    LAYER_Z_MM,
    N_BARS,
)
from processors.showers import f_last, last_layer, layer_rms_mm, zeta

__all__ = [
    "CORRECTION_LIMIT",
    "Axis",
    "Reconstruction",
    "correction_terms",
    "fit_axis",
    "fit_correction",
    "reconstruct",
]

FloatArray = npt.NDArray[np.float64]
Version = Literal["new", "old"]

#: Bars above this energy count in ``n_bars``.
_COUNTED_MEV = 10.0
#: A layer takes part in the axis fit with at least this energy and this share of the total.
_USABLE_MEV, _USABLE_SHARE = 5.0, 0.003
_MIN_LAYERS = 3
#: A layer this far from the line has half the weight in the next pass.
_OUTLIER_MM = 8.0
#: How fast the log-ratio of the neighbours saturates towards a bar's border, per layer: early layers
#: have the narrow tails of a young shower.
_RATIO_SCALE = np.array([2.0, 2.2, 2.6, 2.7, 2.6, 2.4, 2.1, 1.9, 1.7, 1.6, 1.5, 1.5, 1.5, 1.5])
#: The centre of an inclined shower in a layer moves along the slope by this area times d ln E/dz, since
#: its front is tilted: fitted so that the mean slope of electrons is right (mm^2; the showers of full
#: simulation need 195).
_FRONT_MM2: dict[Version, float] = {"new": 80.0, "old": 80.0}
#: The correction of the raw energy never exceeds this factor; it bounds what a skim in raw energy loses.
CORRECTION_LIMIT = 1.12
#: Coefficients of ln(E/E_raw) for the terms of :func:`correction_terms`, from :func:`fit_correction`.
_CORRECTION: dict[Version, FloatArray] = {
    "new": np.array(
        [
            0.06384,
            -0.00073,
            0.00089,
            -0.00032,
            -0.00361,
            0.00047,
            -0.00293,
            -0.01893,
            -0.00866,
            0.28058,
            -0.05254,
        ]
    ),
    "old": np.array([0.06017, -0.00234, -0.00061, 0.26528]),
}
#: The scale of the "old" corrected energy relative to the fitted one.
_SCALE: dict[Version, float] = {"new": 1.0, "old": 0.993}


@dataclass(frozen=True)
class Axis:
    """Straight shower axes; a view without a fit has slope and intercept exactly 0.

    Attributes:
        slope_x: dx/dz, shape (n,).
        slope_y: dy/dz, shape (n,).
        intercept_x_mm: x at z = 0, shape (n,).
        intercept_y_mm: y at z = 0, shape (n,).
    """

    slope_x: FloatArray
    slope_y: FloatArray
    intercept_x_mm: FloatArray
    intercept_y_mm: FloatArray

    @property
    def fitted(self) -> npt.NDArray[np.bool_]:
        """Whether both views were fitted, shape (n,)."""
        return np.asarray(
            ((self.slope_x != 0) | (self.intercept_x_mm != 0))
            & ((self.slope_y != 0) | (self.intercept_y_mm != 0))
        )


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructed quantities of n events, as they go into the ntuple.

    Attributes:
        raw_gev: Sum of the bars, shape (n,).
        corrected_gev: Energy under the electron hypothesis, shape (n,).
        layer_fraction: Layer energies over the sum, shape (n, 14).
        layer_rms_mm: Lateral RMS of the layers, shape (n, 14).
        bars_per_layer: Bars above 10 MeV, uint8, shape (n, 14).
        hits: Fired bars, shape (n,).
        rms_l_mm: Layer RMS of the last layer with signal, shape (n,).
        rms_r_mm: Energy-weighted RMS distance of the bars from the axis in their view, shape (n,).
        zeta: Classical electron-proton variable, shape (n,).
        axis: The shower axis.
    """

    raw_gev: FloatArray
    corrected_gev: FloatArray
    layer_fraction: FloatArray
    layer_rms_mm: FloatArray
    bars_per_layer: npt.NDArray[np.uint8]
    hits: npt.NDArray[np.int32]
    rms_l_mm: FloatArray
    rms_r_mm: FloatArray
    zeta: FloatArray
    axis: Axis


def reconstruct(bar_mev: npt.NDArray[np.floating], version: Version = "new") -> Reconstruction:
    """Reconstruct events from their bar energies.

    Args:
        bar_mev: Bar energies after electronics, shape (n, 14, 22), MeV; 0 where a bar did not fire.
        version: Which reconstruction.

    Returns:
        The reconstructed quantities; an event without any signal gets zeros.

    Raises:
        ValueError: Unknown version.
    """
    if version not in _CORRECTION:
        msg = f"unknown BGO reconstruction {version!r}; use 'new' or 'old'"
        raise ValueError(msg)
    mev = np.asarray(bar_mev, np.float64)
    layer_mev = mev.sum(axis=2)
    total_mev = layer_mev.sum(axis=1)
    fraction = np.divide(
        layer_mev,
        total_mev[:, None],
        out=np.zeros_like(layer_mev),
        where=total_mev[:, None] > 0,
    )
    rms = layer_rms_mm(mev)
    axis = fit_axis(mev, version)
    last = np.where(fraction.any(axis=1), last_layer(fraction), 0)
    terms = correction_terms(mev, total_mev, fraction, axis, version)
    log_factor = np.clip(terms @ _CORRECTION[version], 0.0, np.log(CORRECTION_LIMIT))
    raw_gev = total_mev / 1e3
    return Reconstruction(
        raw_gev=raw_gev,
        corrected_gev=_SCALE[version] * raw_gev * np.exp(log_factor),
        layer_fraction=fraction,
        layer_rms_mm=rms,
        bars_per_layer=(mev > _COUNTED_MEV).sum(axis=2).astype(np.uint8),
        hits=(mev > 0).sum(axis=(1, 2)).astype(np.int32),
        rms_l_mm=np.take_along_axis(rms, last[:, None], 1)[:, 0],
        rms_r_mm=_radial_rms_mm(mev, layer_mev, total_mev, axis),
        zeta=zeta(rms, f_last(fraction)),
        axis=axis,
    )


def fit_axis(bar_mev: npt.NDArray[np.floating], version: Version = "new") -> Axis:
    """Fit a straight line per view to the positions in its seven layers.

    The fit is weighted with the layer energies and repeated with layers far from the line weighted
    down. Near the edge of the calorimeter positions are pulled inwards, as in the experiment.

    Args:
        bar_mev: Bar energies, shape (n, 14, 22), MeV.
        version: Which reconstruction.

    Returns:
        The axes; views with fewer than three usable layers are all 0.
    """
    mev = np.asarray(bar_mev, np.float64)
    layer_mev = mev.sum(axis=2)
    position = _positions_mm(mev, version)
    share = layer_mev / np.maximum(layer_mev.sum(axis=1), 1e-9)[:, None]
    usable = (layer_mev > _USABLE_MEV) & (share > _USABLE_SHARE)
    log_e = np.log(np.maximum(layer_mev, 30.0))
    steepness = np.clip(np.gradient(log_e, LAYER_PITCH_MM, axis=1), -0.03, 0.06)
    tilt = _FRONT_MM2[version] * steepness
    views = {}
    for view, layers in (("x", ~LAYER_MEASURES_Y), ("y", LAYER_MEASURES_Y)):
        views[view] = _fit_view(
            position[:, layers],
            np.where(usable[:, layers], share[:, layers], 0.0),
            tilt[:, layers],
            LAYER_Z_MM[layers],
        )
    return Axis(views["x"][0], views["y"][0], views["x"][1], views["y"][1])


def correction_terms(
    bar_mev: FloatArray,
    total_mev: FloatArray,
    fraction: FloatArray,
    axis: Axis,
    version: Version = "new",
) -> FloatArray:
    """Terms whose weighted sum is ln(E/E_raw) of an electron.

    They are the energy, the energy-weighted depth, the inclination, the share of the last three layers
    (leakage) and, for ``new`` only, the mean share of the leading bar of a layer, which is small when
    the core of the shower runs in the gaps between bars.

    Args:
        bar_mev: Bar energies, shape (n, 14, 22), MeV.
        total_mev: Their sum, shape (n,).
        fraction: Layer fractions, shape (n, 14).
        axis: Reconstructed axes.
        version: Which reconstruction.

    Returns:
        Shape (n, 11) for ``new``, (n, 4) for ``old``.
    """
    one = np.ones(len(total_mev))
    decade = np.clip(np.log10(np.maximum(total_mev, 1.0) / 1e6), -2.0, 1.2)
    depth = np.clip(fraction @ LAYER_Z_MM, 100.0, 300.0) / 100.0 - 1.9
    slant = np.clip(np.sqrt(1 + axis.slope_x**2 + axis.slope_y**2), 1.0, 2.2) - 1.0
    tail = np.minimum(fraction[:, -3:].sum(axis=1), 0.1)
    if version == "old":
        return np.column_stack([one, decade, depth, tail])
    peak = bar_mev.max(axis=2).sum(axis=1) / np.maximum(total_mev, 1e-9) - 0.7
    return np.column_stack(
        [
            one,
            decade,
            decade**2,
            decade**3,
            depth,
            depth**2,
            decade * depth,
            slant,
            slant * depth,
            tail,
            peak,
        ]
    )


def fit_correction(
    bar_mev: npt.NDArray[np.floating], energy_gev: FloatArray, version: Version = "new"
) -> FloatArray:
    """Fit the coefficients of the energy correction to simulated electrons.

    Args:
        bar_mev: Bar energies of fiducial electrons after electronics, shape (n, 14, 22), MeV.
        energy_gev: Their true energies, shape (n,), spread over 50 GeV - 10 TeV.
        version: Which reconstruction.

    Returns:
        Coefficients of the terms of :func:`correction_terms`: least squares of ln(E/E_raw), refitted
        twice without events more than three standard deviations (of the half width) away.
    """
    mev = np.asarray(bar_mev, np.float64)
    layer_mev = mev.sum(axis=2)
    total = layer_mev.sum(axis=1)
    fraction = layer_mev / total[:, None]
    terms = correction_terms(mev, total, fraction, fit_axis(mev, version), version)
    target = np.log(np.asarray(energy_gev) * 1e3 / total)
    keep = np.ones(len(target), bool)
    coefficients = np.zeros(terms.shape[1])
    for _ in range(3):
        coefficients = np.linalg.lstsq(terms[keep], target[keep], rcond=None)[0]
        residual = target - terms @ coefficients
        low, middle, high = np.quantile(residual, [0.16, 0.5, 0.84])
        coefficients[0] += middle
        keep = np.abs(residual - middle) < 1.5 * (high - low)
    return np.asarray(coefficients, np.float64)


def _positions_mm(mev: FloatArray, version: Version) -> FloatArray:
    """Where the shower crosses each layer, shape (n, 14).

    In an edge bar there is no outer neighbour: the barycentre of the three outermost bars lies inwards.
    """
    peak = mev.argmax(axis=2)
    inner = (peak > 0) & (peak < N_BARS - 1)
    middle = np.clip(peak, 1, N_BARS - 2)
    left, top, right = (
        np.take_along_axis(mev, (middle + k)[..., None], 2)[..., 0] for k in (-1, 0, 1)
    )
    three = BAR_PITCH_MM * (right - left) / np.maximum(left + top + right, 1e-9)
    if version == "old":
        return np.asarray(BAR_U_MM[middle] + three)
    ratio = np.log(np.maximum(right, 1.0) / np.maximum(left, 1.0))
    shift = BAR_PITCH_MM / 2 * np.tanh(ratio / _RATIO_SCALE)
    return np.asarray(BAR_U_MM[middle] + np.where(inner, shift, three))


def _fit_view(
    position: FloatArray, weight: FloatArray, tilt: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Weighted straight lines, shape (n,) slopes and intercepts at z = 0; 0 and 0 without a fit."""
    fitted = (weight > 0).sum(axis=1) >= _MIN_LAYERS
    point, start, tilt = position[fitted], weight[fitted], tilt[fitted]
    w, u = start, point
    slope = intercept = np.zeros(len(point))
    for _ in range(4):
        norm = w.sum(axis=1)
        z_mean = w @ z / norm
        u_mean = (w * u).sum(axis=1) / norm
        lever = z - z_mean[:, None]
        slope = (w * lever * (u - u_mean[:, None])).sum(axis=1) / (w * lever**2).sum(axis=1)
        intercept = u_mean - slope * z_mean
        u = point - tilt * slope[:, None]
        residual = u - intercept[:, None] - slope[:, None] * z
        w = start / (1 + (residual / _OUTLIER_MM) ** 2)
    slopes, intercepts = np.zeros(len(position)), np.zeros(len(position))
    slopes[fitted], intercepts[fitted] = slope, intercept
    return slopes, intercepts


def _radial_rms_mm(
    mev: FloatArray, layer_mev: FloatArray, total_mev: FloatArray, axis: Axis
) -> FloatArray:
    centre = np.where(
        LAYER_MEASURES_Y,
        axis.intercept_y_mm[:, None] + axis.slope_y[:, None] * LAYER_Z_MM,
        axis.intercept_x_mm[:, None] + axis.slope_x[:, None] * LAYER_Z_MM,
    )
    first, second = mev @ BAR_U_MM, mev @ BAR_U_MM**2
    moment = (second - 2 * centre * first + centre**2 * layer_mev).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(moment, 0.0) / np.maximum(total_mev, 1e-9)))
