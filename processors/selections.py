"""Named cuts: one small function each, from fields of the ntuple to a mask.

The positional parameters of a cut are canonical fields (``processors.ntuple.FIELDS``), its keyword-only
parameters the values that a card may set; both are read off the signature, so a cut is declared once.
Definitions and default values: the collaboration's cut flow as stated in ``docs/physics.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from processors import showers
from processors.geometry import (
    BGO_BOTTOM_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    PSD_BOTTOM_MM,
    PSD_TOP_MM,
    in_square,
    path_x0,
)

__all__ = ["CUTS", "REGIONS", "cut_fields"]

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]


def saa(outside_saa: Mask) -> Mask:
    """Outside the South Atlantic Anomaly (selection bit 0 set)."""
    return outside_saa


def trigger(he_trigger: Mask) -> Mask:
    """High-energy trigger (selection bit 1)."""
    return he_trigger


def energy_range(e_corr: Values, *, min_gev: float = 10.0, max_gev: float = 10_000.0) -> Mask:
    """Corrected energy within bounds; NaN fails."""
    return np.asarray((e_corr >= min_gev) & (e_corr < max_gev))


def axis(slope_x: Values, slope_y: Values, intercept_x: Values, intercept_y: Values) -> Mask:
    """Both views of the BGO axis fitted; a failed view has slope and intercept both exactly 0."""
    failed = ((slope_x == 0) & (intercept_x == 0)) | ((slope_y == 0) & (intercept_y == 0))
    return np.asarray(~failed & np.isfinite(slope_x + slope_y + intercept_x + intercept_y))


def max_layer_ratio(layer_fraction: Values, *, max_ratio: float = 0.35) -> Mask:
    """No layer with more than a share of the energy: removes showers that enter through a side."""
    return np.asarray(showers.max_layer_ratio(layer_fraction) <= max_ratio)


def edge(edge_clear: Mask) -> Mask:
    """The edge cut as the producer stored it (selection bit 3)."""
    return edge_clear


def edge_from_image(image: Values) -> Mask:
    """The edge cut recomputed: maximum of layers 1, 2, 3 exists and is in no edge bar."""
    return showers.edge_bars_clear(image)


def fiducial(
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    half_width_mm: float = FIDUCIAL_HALF_WIDTH_MM,
) -> Mask:
    """Axis within the square at the top and at the bottom of the BGO sensitive volume."""
    line = (slope_x, slope_y, intercept_x, intercept_y)
    return in_square(*line, BGO_TOP_MM, half_width_mm) & in_square(
        *line, BGO_BOTTOM_MM, half_width_mm
    )


def topfiducial(
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    half_width_mm: float = FIDUCIAL_HALF_WIDTH_MM,
) -> Mask:
    """Axis within the square at the top but not at the bottom: the shower leaks through a side."""
    line = (slope_x, slope_y, intercept_x, intercept_y)
    return in_square(*line, BGO_TOP_MM, half_width_mm) & ~in_square(
        *line, BGO_BOTTOM_MM, half_width_mm
    )


def bgo_path(
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    min_x0: float = 15.0,
) -> Mask:
    """Enough BGO along the axis, in radiation lengths (vertical: 31.25), that the shower is seen to its maximum."""
    return np.asarray(path_x0(slope_x, slope_y, intercept_x, intercept_y) >= min_x0)


def fiducial_bit(bgo_fiducial: Mask) -> Mask:
    """The fiducial flag of the producer (selection bit 2), for files without axis intercepts."""
    return bgo_fiducial


def n_bar_layer13(
    n_bars: Values, e_raw: Values, *, slope_per_decade: float = 8.0, offset: float = -5.0
) -> Mask:
    """Few bars above 10 MeV in the last layer: fewer than 8 log10(E/GeV) - 5, raw energy."""
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = slope_per_decade * np.log10(e_raw) + offset
    return np.asarray(n_bars[:, -1] < limit)


def max_rms(
    layer_rms: Values, layer_fraction: Values, *, max_mm: float = 100.0, min_fraction: float = 0.01
) -> Mask:
    """No wide layer among those with a share of the energy."""
    wide = (layer_fraction > min_fraction) & ~(layer_rms < max_mm)  # NaN is wide
    return ~showers.largest(wide)


def low_energy_cleaning(layer_rms: Values, e_raw: Values, slope_x: Values, slope_y: Values) -> Mask:
    """Minimum sum of layer RMS below 250 GeV, against single tracks and noise.

    Below 100 GeV at least 270 - 100 cos^6 mm, from 100 to 250 GeV at least 800 - 600 cos^1.2 mm, with
    cos of the axis zenith and the raw energy.
    """
    cosine = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    limit = 270.0 - 100.0 * cosine**6
    above = ~(e_raw < 100.0)
    limit[above] = 800.0 - 600.0 * cosine[above] ** 1.2
    return np.asarray((e_raw >= 250.0) | (showers.sum_rms(layer_rms) >= limit))


def track(
    track_clusters_x: Values,
    track_clusters_y: Values,
    track_holes_x: Values,
    track_holes_y: Values,
    track_distance: Values,
    track_angle: Values,
    *,
    min_clusters: int = 4,
    max_holes: int = 1,
    max_distance_mm: float = 40.0,
    max_angle_deg: float = 10.0,
    recover_three: bool = True,
) -> Mask:
    """STK track on the BGO axis, with enough clusters per view; three-cluster tracks without holes too."""
    fewest = np.minimum(track_clusters_x, track_clusters_y)
    holes = np.maximum(track_holes_x, track_holes_y)
    good = (fewest >= min_clusters) & (holes <= max_holes)
    if recover_three:
        good |= (fewest == min_clusters - 1) & (holes == 0)
    return good & (track_distance < max_distance_mm) & (track_angle < max_angle_deg)


def track_bit(track_matched: Mask, track_recovered: Mask) -> Mask:
    """The track flags of the producer (selection bit 4 or decision bit 11)."""
    return track_matched | track_recovered


def psd_match(
    psd_match_x: Values,
    psd_match_y: Values,
    track_clusters_x: Values,
    track_clusters_y: Values,
    slope_x: Values,
    slope_y: Values,
    intercept_x: Values,
    intercept_y: Values,
    *,
    max_mm: float = 40.0,
    max_mm_three_clusters: float = 60.0,
    half_width_mm: float = 400.0,
) -> Mask:
    """A PSD hit near the track in one view; axes that miss the PSD (half width 400 mm) pass without."""
    few = np.minimum(track_clusters_x, track_clusters_y) < 4
    limit = np.where(few, max_mm_three_clusters, max_mm)
    line = (slope_x, slope_y, intercept_x, intercept_y)
    inside = in_square(*line, PSD_TOP_MM, half_width_mm) & in_square(
        *line, PSD_BOTTOM_MM, half_width_mm
    )
    with np.errstate(invalid="ignore"):
        matched = (np.abs(psd_match_x) < limit) | (np.abs(psd_match_y) < limit)
    return np.asarray(matched | ~inside)


def psd_charge(
    psd_charge_x: Values,
    psd_charge_y: Values,
    *,
    max_sum: float = 10.0,
    max_one: float = 2.6,
    max_single_view: float = 8.0,
) -> Mask:
    """Charge one: both views sum < 10 and one of them < 2.6; a single view < 8; no hit passes."""
    x, y = np.isfinite(psd_charge_x), np.isfinite(psd_charge_y)
    with np.errstate(invalid="ignore"):
        both = (psd_charge_x + psd_charge_y < max_sum) & (
            np.minimum(psd_charge_x, psd_charge_y) < max_one
        )
        single = np.where(x, psd_charge_x, psd_charge_y) < max_single_view
    return np.where(x & y, both, np.where(x | y, single, True))


def stk_charge(
    stk_charge_x: Values,
    stk_charge_y: Values,
    *,
    max_mean: float = 40.0,
    single: float = 10.0,
    max_other: float = 25.0,
) -> Mask:
    """Charge in the first STK plane, sqrt(ADC cos): mean below 40, and no view above 25 beside one below 10.

    Events without a charge in both views pass; the track cut judges them.
    """
    low, high = np.fmin(stk_charge_x, stk_charge_y), np.fmax(stk_charge_x, stk_charge_y)
    with np.errstate(invalid="ignore"):
        bad = ((low + high) / 2 >= max_mean) | ((low <= single) & (high >= max_other))
    return np.asarray(~bad)


#: Lines a + b N of the STK core cut, and the raw energy (GeV) below which each applies.
STK_CORE_LINES = (
    (100.0, -1693.3133, 394.41844),
    (250.0, -2307.2126, 485.24149),
    (500.0, -2456.6841, 543.43938),
    (1000.0, -2859.7504, 587.49936),
    (3000.0, -502.92267, 449.74620),
)


def stk_core(stk_ecore: Values, stk_n_clusters: Values, e_raw: Values) -> Mask:
    """STK energy within one Molière radius below a line in the number of clusters; passes above 3 TeV."""
    number = np.asarray(stk_n_clusters, np.float64)
    mask = np.ones(len(number), bool)
    low = 0.0
    for high, a, b in STK_CORE_LINES:
        band = (e_raw >= low) & (e_raw < high)
        mask[band] = stk_ecore[band] < np.abs(a + b * number[band])
        low = high
    return mask


CUTS: Mapping[str, Callable[..., Mask]] = {
    f.__name__: f
    for f in (
        saa,
        trigger,
        energy_range,
        axis,
        max_layer_ratio,
        edge,
        edge_from_image,
        bgo_path,
        fiducial_bit,
        n_bar_layer13,
        max_rms,
        low_energy_cleaning,
        track,
        track_bit,
        psd_match,
        psd_charge,
        stk_charge,
        stk_core,
    )
}
#: Geometry of the two regions; a card places them with the entry ``region``.
REGIONS: Mapping[str, Callable[..., Mask]] = {"fiducial": fiducial, "topfiducial": topfiducial}


def cut_fields(function: Callable[..., Mask]) -> list[str]:
    """Canonical fields that a cut reads."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
