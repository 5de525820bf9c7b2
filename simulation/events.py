"""One block of primaries of one species, from the rays to the columns of the ntuple."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from processors.geometry import N_BARS, N_LAYERS, N_STK_LAYERS, global_bar_id
from processors.showers import f_last, last_layer, zeta
from simulation.cascade import Deposits, electron_showers, proton_showers
from simulation.difference import apply_difference
from simulation.electronics import digitise
from simulation.primaries import Rays
from simulation.reconstruction import Reconstruction, reconstruct
from simulation.tracker import high_energy_trigger, psd, selection_words, tracks

__all__ = ["Detector", "Primaries", "detect", "read_out"]

Columns = dict[str, npt.NDArray[Any]]

#: Showers are dropped below this share of the skim already, before gains and noise.
_EARLY_SHARE = 0.95
_BAR_IDS = global_bar_id(
    np.repeat(np.arange(N_LAYERS), N_BARS), np.tile(np.arange(N_BARS), N_LAYERS)
)


@dataclass(frozen=True)
class Primaries:
    """Particles of one species on their way in.

    Attributes:
        species: ``electron`` or ``proton``.
        rays: Their axes.
        energy_gev: True kinetic energies, shape (n,).
        run: Run number; 0 for Monte Carlo.
        second: Mission elapsed seconds, shape (n,); 0 for Monte Carlo.
        outside_saa: Whether the satellite is outside the South Atlantic Anomaly, shape (n,).
        weight: Weights of the rays, shape (n,); 1 for data.
        gain: Factor on the energies that the calorimeter reads, shape (n,); None for 1.
    """

    species: Literal["electron", "proton"]
    rays: Rays
    energy_gev: npt.NDArray[np.float64]
    run: int
    second: npt.NDArray[np.int32]
    outside_saa: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Detector:
    """How primaries are simulated and written.

    Attributes:
        min_deposit_gev: Skim: events with less raw energy are not written.
        triggered_only: Write only events with the high-energy trigger.
        reconstruction: Version of the BGO reconstruction.
        hadronic_model: Set of hadronic constants.
        tail_sampling: Keep electron-like protons and a weighted part of the others.
        difference: Apply the data/MC difference to the shower variables.
        truth: Write true energies; data have 0.
    """

    min_deposit_gev: float
    triggered_only: bool
    reconstruction: Literal["new", "old"]
    hadronic_model: Literal["a", "b"]
    tail_sampling: bool
    difference: bool
    truth: bool


def detect(primaries: Primaries, detector: Detector, rng: np.random.Generator) -> Columns:
    """Shower, digitise and reconstruct a block of primaries.

    Args:
        primaries: The particles.
        detector: How.
        rng: Random generator of the block; the showers take one seed per particle from it.

    Returns:
        Columns of the events above the skim, in the order of the primaries: the branches of
        ``simulation.writer.SCALAR_TYPES`` and the fired bars (``hit_count``, ``hit_id``, ``hit_mev``).
    """
    rays, energy = primaries.rays, primaries.energy_gev
    highest = 1.0 if primaries.gain is None else float(primaries.gain.max(initial=1.0))
    seeds = rng.integers(0, 2**64, len(energy), dtype=np.uint64)
    if primaries.species == "electron":
        deposits = electron_showers(energy, rays.position_mm, rays.direction, seeds)
    else:
        deposits = proton_showers(
            energy,
            rays.position_mm,
            rays.direction,
            seeds,
            model=detector.hadronic_model,
            min_deposit_gev=_EARLY_SHARE * detector.min_deposit_gev / highest,
            tail_sampling=detector.tail_sampling,
            triggered_only=detector.triggered_only,
        )
    return read_out(primaries, deposits, detector, rng)


def read_out(
    primaries: Primaries, deposits: Deposits, detector: Detector, rng: np.random.Generator
) -> Columns:
    """Digitise and reconstruct the deposits of a block of primaries.

    Args:
        primaries: The particles.
        deposits: What their showers left.
        detector: How.
        rng: Random generator of the block.

    Returns:
        Columns as of :func:`detect`.
    """
    rays, energy = primaries.rays, primaries.energy_gev
    seen_gev = deposits.bgo_gev
    if primaries.gain is not None:
        seen_gev = seen_gev * primaries.gain.astype(seen_gev.dtype)[:, None, None]
    alive = np.flatnonzero(
        (deposits.weight > 0)
        & (seen_gev.sum(axis=(1, 2)) >= _EARLY_SHARE * detector.min_deposit_gev)
    )
    bar_mev = digitise(seen_gev[alive], rng)
    above = bar_mev.sum(axis=(1, 2), dtype=np.float64) >= max(1e3 * detector.min_deposit_gev, 1e-3)
    triggered = high_energy_trigger(bar_mev, rng)
    if detector.triggered_only:
        above &= triggered
    kept, bar_mev, triggered = alive[above], bar_mev[above], triggered[above]
    result = reconstruct(bar_mev, detector.reconstruction)
    position, direction = rays.position_mm[kept], rays.direction[kept]
    track = tracks(
        primaries.species,
        position,
        direction,
        energy[kept],
        result.axis,
        deposits.psd_mip[kept].mean(axis=1),
        deposits.first_z_mm[kept],
        rng,
    )
    plastic = psd(position, direction, deposits.psd_mip[kept], rng)
    selection, decision = selection_words(
        result.axis, bar_mev, track, triggered, primaries.outside_saa[kept]
    )
    n = len(kept)
    flat = bar_mev.reshape(n, N_LAYERS * N_BARS)
    fired = flat > 0
    columns: Columns = {
        **_shower_columns(result, primaries.species, difference=detector.difference),
        "tt_stkEcore1Rm_trk": track.plane_adc.sum(axis=1),
        "tt_nStkClu_trk": track.plane_clusters.sum(axis=1),
        **{f"tt_stkPlaneEcore{i}": track.plane_adc[:, i] for i in range(N_STK_LAYERS)},
        **{f"tt_stkPlaneNClu{i}": track.plane_clusters[:, i] for i in range(N_STK_LAYERS)},
        "tt_stkTrackNClusX": track.clusters_x,
        "tt_stkTrackNClusY": track.clusters_y,
        "tt_stkTrackNHoleX": track.holes_x,
        "tt_stkTrackNHoleY": track.holes_y,
        "tt_stkTrackDistance": track.distance_mm,
        "tt_stkTrackAngle": track.angle_deg,
        "tt_stkChargeX": track.charge_x,
        "tt_stkChargeY": track.charge_y,
        "tt_psdChargeX": plastic.charge_x,
        "tt_psdChargeY": plastic.charge_y,
        "tt_psdMatchX": plastic.match_x_mm,
        "tt_psdMatchY": plastic.match_y_mm,
        "tt_ekin": energy[kept] * 1e3 if detector.truth else np.zeros(n),
        "tt_evtPoid": deposits.weight[kept] * primaries.weight[kept],
        "tt_selection_bits": selection,
        "tt_decision_bits": decision,
        "tt_decision_bits1": np.zeros(n, np.int32),
        "tt_run": np.full(n, primaries.run, np.int32),
        "tt_second": primaries.second[kept],
        "hit_count": fired.sum(axis=1),
        "hit_id": np.broadcast_to(_BAR_IDS, fired.shape)[fired],
        "hit_mev": flat[fired],
    }
    return columns


def _shower_columns(
    result: Reconstruction, species: Literal["electron", "proton"], *, difference: bool
) -> Columns:
    rms, fraction = result.layer_rms_mm, result.layer_fraction
    score, rms_last = result.zeta, result.rms_l_mm
    if difference:
        rms, fraction = apply_difference(species, result.corrected_gev, rms, fraction)
        score = zeta(rms, f_last(fraction))
        last = last_layer(fraction)
        rms_last = rms[np.arange(len(rms)), last]
    axis = result.axis
    return {
        "tt_bgoTotalE_GeV": result.raw_gev,
        "tt_bgoTotalEcorr_GeV": result.corrected_gev,
        **{f"tt_F{i}": fraction[:, i] for i in range(N_LAYERS)},
        **{f"tt_Rms{i}": rms[:, i] for i in range(N_LAYERS)},
        **{f"tt_nBarLayer{i}": result.bars_per_layer[:, i] for i in range(N_LAYERS)},
        "tt_nBgoHits": result.hits,
        "tt_Rmsl": rms_last,
        "tt_Rmsr": result.rms_r_mm,
        "tt_Xtrl": score,
        "tt_bgoRecSlopeX": axis.slope_x,
        "tt_bgoRecSlopeY": axis.slope_y,
        "tt_bgoRecInterceptX": axis.intercept_x_mm,
        "tt_bgoRecInterceptY": axis.intercept_y_mm,
    }
