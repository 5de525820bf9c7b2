"""Shower variables that are defined by the 14 x 22 image of bar energies.

Definitions: the collaboration's layer RMS with its three-bar centre, F_last and zeta (also xtrl), as in
the published analysis code; see ``docs/physics.md`` for the formulas and their sources.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from processors.geometry import BAR_U_MM, N_BARS

__all__ = [
    "edge_bars_clear",
    "f_last",
    "largest",
    "last_layer",
    "layer_rms_mm",
    "max_layer_ratio",
    "sum_rms",
    "zeta",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def layer_rms_mm(image: npt.NDArray[np.floating]) -> FloatArray:
    """Energy-weighted lateral RMS of each layer about the centre of its three leading bars.

    The centre is the barycentre of the bar with the most energy and its two neighbours, or that bar
    itself when it is the first or the last; the RMS is sqrt(sum e (u - c)^2 / sum e) over all bars.

    Args:
        image: Bar energies, shape (n, 14, 22), any energy unit; bars that did not fire hold 0.

    Returns:
        Shape (n, 14), mm; 0 for layers with one bar or none.
    """
    e = np.asarray(image, np.float64)
    peak = e.argmax(axis=2)
    left = np.take_along_axis(e, np.maximum(peak - 1, 0)[..., None], 2)[..., 0]
    right = np.take_along_axis(e, np.minimum(peak + 1, N_BARS - 1)[..., None], 2)[..., 0]
    top = np.take_along_axis(e, peak[..., None], 2)[..., 0]
    u = BAR_U_MM[peak]
    pitch = BAR_U_MM[1] - BAR_U_MM[0]
    inner = (peak > 0) & (peak < N_BARS - 1)
    three = left + top + right
    shift = np.divide(right - left, three, out=np.zeros_like(three), where=inner & (three > 0))
    centre = u + shift * pitch
    total = e.sum(axis=2)
    first = e @ BAR_U_MM
    second = e @ BAR_U_MM**2
    moment = second - 2 * centre * first + centre**2 * total
    variance = np.divide(moment, total, out=np.zeros_like(total), where=total > 0)
    several = (e > 0).sum(axis=2) > 1
    return np.where(several, np.sqrt(np.maximum(variance, 0.0)), 0.0)


def last_layer(layer_fraction: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
    """Number of the last layer with signal.

    Args:
        layer_fraction: Layer energies over the total, shape (n, 14).

    Returns:
        Shape (n,); 13 where no layer has signal.
    """
    f = np.asarray(layer_fraction)
    return np.asarray(f.shape[1] - 1 - (f[:, ::-1] > 0).argmax(axis=1))


def f_last(layer_fraction: npt.NDArray[np.floating]) -> FloatArray:
    """Energy fraction of the last layer with signal.

    Args:
        layer_fraction: Layer energies over the total, shape (n, 14).

    Returns:
        Shape (n,); 0 where no layer has signal.
    """
    f = np.asarray(layer_fraction, np.float64)
    return np.asarray(np.take_along_axis(f, last_layer(f)[:, None], 1)[:, 0])


def sum_rms(layer_rms: npt.NDArray[np.floating]) -> FloatArray:
    """Sum of the layer RMS of each event, mm; of float32 values exact, whatever the order in memory.

    Args:
        layer_rms: Layer RMS in mm, shape (n, 14).

    Returns:
        Shape (n,).
    """
    return np.asarray(layer_rms.sum(axis=1, dtype=np.float64))


def zeta(
    layer_rms: npt.NDArray[np.floating], last_fraction: npt.NDArray[np.floating]
) -> FloatArray:
    """Classical electron-proton variable zeta = F_last (sum of layer RMS / mm)^4 / 8e6.

    Args:
        layer_rms: Layer RMS in mm, shape (n, 14).
        last_fraction: F_last, shape (n,).

    Returns:
        Shape (n,), small for electrons (the collaboration's tight cut is 8.5).
    """
    return np.asarray(last_fraction * sum_rms(layer_rms) ** 4 / 8.0e6, np.float64)


def largest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Largest value of each event, NaN if one is: ``values.max(axis=1)``, three times as fast for few columns.

    Args:
        values: Shape (n, columns).

    Returns:
        Shape (n,).
    """
    out = values[:, 0].copy()
    for column in values.T[1:]:
        np.maximum(out, column, out=out)
    return out


def max_layer_ratio(layer_fraction: npt.NDArray[np.floating]) -> FloatArray:
    """Largest layer energy over the total energy, shape (n,); side-entering showers have large values."""
    return np.asarray(largest(np.asarray(layer_fraction)), np.float64)


def edge_bars_clear(image: npt.NDArray[np.floating]) -> BoolArray:
    """The edge cut from the image: layers 1, 2 and 3 fired, and not with the most energy in an edge bar.

    Args:
        image: Bar energies, shape (n, 14, 22).

    Returns:
        True where in each of layers 1, 2 and 3 a bar fired and the bar with the most energy is
        neither bar 0 nor bar 21; shape (n,).
    """
    layers = np.asarray(image)[:, 1:4]
    peak = layers.argmax(axis=2)
    fired = layers.max(axis=2) > 0
    return np.asarray((fired & (peak > 0) & (peak < N_BARS - 1)).all(axis=1))
