"""Response of the detectors above the BGO, and the trigger: PSD, STK, high-energy trigger, bits.

Tracks, clusters and charges follow simple distributions whose parameters are named here; they are
chosen so that the usual cuts keep the published shares of electrons (track 0.89 - 0.91, charge 0.991 -
0.997; see ``docs/physics.md``). Extra particles come with early showers and with backsplash.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import (
    BGO_BOTTOM_MM,
    BGO_TOP_MM,
    FIDUCIAL_HALF_WIDTH_MM,
    in_square,
)
from processors.showers import edge_bars_clear
from simulation.electronics import MIP_MEV
from simulation.reconstruction import Axis
from simulation.stkplanes import CLUSTER_ADC, STK_PLANE_Z_MM, landau, plane_signals

__all__ = ["MISSING", "Psd", "Tracks", "high_energy_trigger", "psd", "selection_words", "tracks"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]

#: Written where there is no track or no hit.
MISSING = -999.0

STK_HALF_WIDTH_MM = 400.0
#: Middle of the two PSD views.
PSD_Z_MM = {"y": -317.7, "x": -291.5}
PSD_HALF_WIDTH_MM = 410.0

#: Chance to find the track of a particle that crosses enough planes; falls with the zenith angle.
_FIND_EFFICIENCY = 0.977
_FIND_LOSS_PER_RAD = 0.05
#: Chance of a cluster in one layer of a plane (gaps, dead strips).
_CLUSTER_EFFICIENCY = 0.988
#: Share of found tracks that belong to another particle (backsplash, delta rays).
_WRONG_TRACK = 0.02
#: Angular error of a true track, degrees at 100 GeV in each view, and its floor.
_TRACK_ANGLE_DEG, _TRACK_ANGLE_FLOOR_DEG = 0.2, 0.05
#: Share of first planes with a signal of several particles (nuclear interactions, delta rays).
_EARLY_EXTRA = 0.004
_TRIGGER_EFFICIENCY = 0.998
#: Thresholds of the high-energy trigger in MIPs on the leading bar of layers 0 to 3.
_TRIGGER_MIP = np.array([10.0, 10.0, 10.0, 2.0])
_PSD_HIT_EFFICIENCY = 0.997
#: Events with extra charge in both PSD views (conversions, delta rays).
_PSD_EXTRA = 0.006


@dataclass(frozen=True)
class Tracks:
    """STK track of each event; without a track 0 clusters and ``MISSING``.

    Attributes:
        clusters_x: Clusters on the track in x, shape (n,).
        clusters_y: In y.
        holes_x: Planes without a cluster between the first and the last one in x.
        holes_y: In y.
        distance_mm: Distance from the BGO axis at the top of the BGO.
        angle_deg: Angle to the BGO axis.
        plane_adc: Energy of the clusters within one Moliere radius in the layers x0, y0 ... x5, y5, shape
            (n, 12); 0 without a track.
        plane_clusters: Their number, shape (n, 12); 0 without a track.
        charge_x: sqrt(ADC cos) in the first plane in x, about 7.7 for a single charge.
        charge_y: In y.
    """

    clusters_x: IntArray
    clusters_y: IntArray
    holes_x: IntArray
    holes_y: IntArray
    distance_mm: FloatArray
    angle_deg: FloatArray
    plane_adc: FloatArray
    plane_clusters: IntArray
    charge_x: FloatArray
    charge_y: FloatArray

    @property
    def _near_axis(self) -> BoolArray:
        return (self.distance_mm >= 0) & (self.distance_mm < 40.0) & (self.angle_deg < 10.0)

    @property
    def matched(self) -> BoolArray:
        """At least four clusters and at most one hole per view, near the BGO axis."""
        fewest = np.minimum(self.clusters_x, self.clusters_y)
        holes = np.maximum(self.holes_x, self.holes_y)
        return np.asarray((fewest >= 4) & (holes <= 1) & self._near_axis)

    @property
    def recovered(self) -> BoolArray:
        """Three clusters in the poorer view and no holes, near the BGO axis."""
        fewest = np.minimum(self.clusters_x, self.clusters_y)
        holes = np.maximum(self.holes_x, self.holes_y)
        return np.asarray((fewest == 3) & (holes == 0) & self._near_axis)


@dataclass(frozen=True)
class Psd:
    """PSD signals along the particle, ``MISSING`` outside the PSD or without a hit, shapes (n,).

    Attributes:
        charge_x: Square root of the path-corrected energy in MIPs, X view.
        charge_y: Y view.
        match_x_mm: Distance of the track to the hit, X view.
        match_y_mm: Y view.
    """

    charge_x: FloatArray
    charge_y: FloatArray
    match_x_mm: FloatArray
    match_y_mm: FloatArray


def high_energy_trigger(bar_mev: npt.NDArray[np.floating], rng: np.random.Generator) -> BoolArray:
    """High-energy trigger: leading bar of layers 0 - 2 above 10 MIPs, of layer 3 above 2 MIPs.

    Args:
        bar_mev: Bar energies after electronics, shape (n, 14, 22), MeV.
        rng: Random generator, for the 0.2 % of events lost at random.

    Returns:
        Shape (n,).
    """
    leading = np.asarray(bar_mev)[:, :4].max(axis=2)
    fired = (leading > _TRIGGER_MIP * MIP_MEV).all(axis=1)
    return np.asarray(fired & (rng.random(len(fired)) < _TRIGGER_EFFICIENCY))


def tracks(
    species: Literal["electron", "proton"],
    position_mm: FloatArray,
    direction: FloatArray,
    energy_gev: FloatArray,
    axis: Axis,
    splash_mip: npt.NDArray[np.floating],
    first_z_mm: npt.NDArray[np.floating],
    rng: np.random.Generator,
) -> Tracks:
    """STK tracks.

    Args:
        species: ``electron`` or ``proton``.
        position_mm: A point on each true axis, shape (n, 3).
        direction: True directions, shape (n, 3).
        energy_gev: True energies, shape (n,).
        axis: Reconstructed BGO axes.
        splash_mip: Backsplash in the PSD bars on the axis, mean of both views, shape (n,), MIPs.
        first_z_mm: Depth of the first interaction, shape (n,).
        rng: Random generator.

    Returns:
        The tracks.
    """
    n = len(energy_gev)
    path = (STK_PLANE_Z_MM - position_mm[:, 2:]) / direction[:, 2:]
    inside = np.ones((n, 6), bool)
    for k in range(2):
        inside &= np.abs(position_mm[:, k, None] + path * direction[:, k, None]) < STK_HALF_WIDTH_MM
    clusters, holes, hits = {}, {}, np.zeros((n, 6, 2), bool)
    for k, view in enumerate("xy"):
        hit = inside & (rng.random((n, 6)) < _CLUSTER_EFFICIENCY)
        clusters[view] = hit.sum(axis=1).astype(np.int32)
        span = 6 - hit[:, ::-1].argmax(axis=1) - hit.argmax(axis=1)
        holes[view] = np.where(hit.any(axis=1), span - clusters[view], 0).astype(np.int32)
        hits[:, :, k] = hit
    cosine = np.clip(direction[:, 2], 1e-3, 1.0)
    found = rng.random(n) < _FIND_EFFICIENCY - _FIND_LOSS_PER_RAD * np.arccos(cosine)
    found &= np.minimum(clusters["x"], clusters["y"]) >= 3
    wrong = rng.random(n) < _WRONG_TRACK
    distance, angle = _against_axis(position_mm, direction, energy_gev, axis, wrong, rng)
    splash = np.asarray(splash_mip, np.float64)
    planes = plane_signals(
        species, energy_gev, cosine, hits.reshape(n, 12), splash, np.asarray(first_z_mm), rng
    )
    # the track of another particle has nothing of the shower around it
    alone = CLUSTER_ADC * planes.loss * hits.reshape(n, 12)
    plane_adc = np.where(wrong[:, None], alone, planes.energy_adc)
    plane_clusters = np.where(wrong[:, None], hits.reshape(n, 12), planes.clusters)
    # sqrt of the path-corrected signal in ADC, as the collaboration defines the charge
    early_mip = np.where(rng.random(n) < _EARLY_EXTRA, rng.exponential(8.0, n), 0.0)
    charge = [np.sqrt(CLUSTER_ADC * (planes.loss[:, k] + early_mip)) for k in range(2)]
    return Tracks(
        clusters_x=np.where(found, clusters["x"], 0).astype(np.int32),
        clusters_y=np.where(found, clusters["y"], 0).astype(np.int32),
        holes_x=np.where(found, holes["x"], 0).astype(np.int32),
        holes_y=np.where(found, holes["y"], 0).astype(np.int32),
        distance_mm=np.where(found, distance, MISSING),
        angle_deg=np.where(found, angle, MISSING),
        plane_adc=np.where(found[:, None], plane_adc, 0.0),
        plane_clusters=np.where(found[:, None], plane_clusters, 0).astype(np.int32),
        charge_x=np.where(found, charge[0], MISSING),
        charge_y=np.where(found, charge[1], MISSING),
    )


def psd(
    position_mm: FloatArray,
    direction: FloatArray,
    backsplash_mip: npt.NDArray[np.floating],
    rng: np.random.Generator,
) -> Psd:
    """PSD signals of singly charged particles.

    Args:
        position_mm: A point on each true axis, shape (n, 3).
        direction: True directions, shape (n, 3).
        backsplash_mip: Backsplash energy in the bars on the axis, Y and X view, shape (n, 2), MIPs.
        rng: Random generator.

    Returns:
        The signals.
    """
    n = len(position_mm)
    extra = np.where(rng.random(n) < _PSD_EXTRA, rng.exponential(12.0, n), 0.0)
    charge, match = {}, {}
    for k, view in enumerate("yx"):
        path = (PSD_Z_MM[view] - position_mm[:, 2]) / direction[:, 2]
        inside = np.ones(n, bool)
        for j in range(2):
            inside &= np.abs(position_mm[:, j] + path * direction[:, j]) < PSD_HALF_WIDTH_MM
        hit = inside & (rng.random(n) < _PSD_HIT_EFFICIENCY)
        # the cosine is the correction for the path of the particle
        splash = np.asarray(backsplash_mip)[:, k] * direction[:, 2]
        energy = landau(n, 0.08, rng) + splash + extra
        charge[view] = np.where(hit, np.sqrt(energy), MISSING)
        far = rng.random(n) < 0.006 + 0.01 * np.minimum(splash, 2.0)
        wide = np.where(far, rng.exponential(60.0, n), 0.0)
        match[view] = np.where(hit, np.abs(8.0 * rng.standard_normal(n)) + wide, MISSING)
    return Psd(charge["x"], charge["y"], match["x"], match["y"])


def selection_words(
    axis: Axis,
    bar_mev: npt.NDArray[np.floating],
    track: Tracks,
    triggered: BoolArray,
    outside_saa: BoolArray,
) -> tuple[IntArray, IntArray]:
    """Pack the selection and the decision word.

    Args:
        axis: Reconstructed BGO axes.
        bar_mev: Bar energies after electronics, shape (n, 14, 22).
        track: STK tracks.
        triggered: High-energy trigger.
        outside_saa: Whether the event lies outside the South Atlantic Anomaly.

    Returns:
        Selection word (bit 0 outside the SAA, 1 trigger, 2 BGO fiducial, 3 edge cut passed, 4 matched
        track) and decision word (bit 11 matched three-cluster track), int32, shape (n,).
    """
    line = (axis.slope_x, axis.slope_y, axis.intercept_x_mm, axis.intercept_y_mm)
    fiducial = axis.fitted
    for z in (BGO_TOP_MM, BGO_BOTTOM_MM):
        fiducial = fiducial & in_square(*line, z, FIDUCIAL_HALF_WIDTH_MM)
    flags = (outside_saa, triggered, fiducial, edge_bars_clear(bar_mev), track.matched)
    selection = np.zeros(len(triggered), np.int32)
    for bit, flag in enumerate(flags):
        selection |= flag.astype(np.int32) << bit
    return selection, track.recovered.astype(np.int32) << 11


def _against_axis(
    position_mm: FloatArray,
    direction: FloatArray,
    energy_gev: FloatArray,
    axis: Axis,
    wrong: BoolArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Distance at the BGO top (mm) and angle (degrees) between the track and the BGO axis."""
    n = len(energy_gev)
    sigma = np.hypot(_TRACK_ANGLE_DEG * np.sqrt(100.0 / energy_gev), _TRACK_ANGLE_FLOOR_DEG)
    sigma_slope = np.radians(sigma) / direction[:, 2] ** 2
    turn = np.where(wrong, math.tan(math.radians(8.0)), 0.0)
    slope = [
        direction[:, k] / direction[:, 2] + (sigma_slope + turn) * rng.standard_normal(n)
        for k in range(2)
    ]
    at_top = (BGO_TOP_MM - position_mm[:, 2]) / direction[:, 2]
    shift = np.where(wrong, 40.0, 0.3)
    point = [
        position_mm[:, k] + at_top * direction[:, k] + shift * rng.standard_normal(n)
        for k in range(2)
    ]
    axis_slope = (axis.slope_x, axis.slope_y)
    axis_start = (axis.intercept_x_mm, axis.intercept_y_mm)
    gap = [axis_start[k] + axis_slope[k] * BGO_TOP_MM - point[k] for k in range(2)]
    dot = 1 + slope[0] * axis_slope[0] + slope[1] * axis_slope[1]
    norm = (1 + slope[0] ** 2 + slope[1] ** 2) * (1 + axis_slope[0] ** 2 + axis_slope[1] ** 2)
    angle = np.degrees(np.arccos(np.clip(dot / np.sqrt(norm), -1.0, 1.0)))
    return np.hypot(gap[0], gap[1]), angle
