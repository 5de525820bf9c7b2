"""Simulated showers against the Geant4 reference events: shower variables and a table of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from processors.showers import f_last, layer_rms_mm, zeta
from simulation.cascade import electron_showers, proton_showers
from simulation.material import BLOCK_TOP_MM

__all__ = [
    "BAR_THRESHOLD_GEV",
    "Observables",
    "Reference",
    "Table",
    "compare",
    "load_reference",
    "observe",
    "simulate",
    "triggered",
]

FloatArray = npt.NDArray[np.float64]
Kind = Literal["electron", "proton"]
Numbers = dict[str, dict[str, float]]
Table = dict[str, dict[str, dict[str, float]]]

QUANTILES = (1, 5, 50, 90, 95, 99)
BAR_THRESHOLD_GEV = 0.002
#: The trigger-like condition of the proton comparison: energy in each of the first four layers.
TRIGGER_GEV = 0.2


@dataclass(frozen=True)
class Reference:
    """Geant4 events of one kind.

    Attributes:
        image_gev: Bar energies, shape (n, 14, 22).
        energy_gev: Kinetic energies, shape (n,).
        position_mm: Axis at the top of the block, shape (n, 3).
        direction: Unit vectors, shape (n, 3).
        full: Whether the event is of the full simulation, not of the hybrid one, shape (n,).
    """

    image_gev: FloatArray
    energy_gev: FloatArray
    position_mm: FloatArray
    direction: FloatArray
    full: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.intp]) -> Reference:
        """The events of some rows."""
        return Reference(
            self.image_gev[rows],
            self.energy_gev[rows],
            self.position_mm[rows],
            self.direction[rows],
            self.full[rows],
        )


@dataclass(frozen=True)
class Observables:
    """Shower variables of events after the bar threshold.

    Attributes:
        deposit: Sum of the bars over the kinetic energy, shape (n,).
        total_gev: Sum of the bars, shape (n,).
        layer_gev: Layer energies, shape (n, 14).
        rms_mm: Layer RMS, shape (n, 14).
        f_last: Energy fraction of the last layer with signal, shape (n,).
        zeta: Classical electron-proton variable, shape (n,).
        triggered: Trigger-like condition, shape (n,).
    """

    deposit: FloatArray
    total_gev: FloatArray
    layer_gev: FloatArray
    rms_mm: FloatArray
    f_last: FloatArray
    zeta: FloatArray
    triggered: npt.NDArray[np.bool_]


def load_reference(kind: Kind) -> Reference:
    """Read the Geant4 events, full ones first.

    Args:
        kind: "electron" or "proton".

    Returns:
        The events.
    """
    parts: list[dict[str, Any]] = []
    for name in (kind, f"{kind}_hybrid"):
        with (
            resources.files("simulation").joinpath("reference", f"{name}.npz").open("rb") as stream,
            np.load(stream) as arrays,
        ):
            parts.append({k: arrays[k].astype(np.float64) for k in arrays.files})
    d = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    n = d["energy_gev"].size
    slope = np.column_stack([d["slope_x"], d["slope_y"], np.ones(n)])
    return Reference(
        d["image_gev"],
        d["energy_gev"],
        np.column_stack([d["x_top_mm"], d["y_top_mm"], np.full(n, BLOCK_TOP_MM)]),
        slope / np.linalg.norm(slope, axis=1)[:, None],
        np.arange(n) < parts[0]["energy_gev"].size,
    )


def simulate(kind: Kind, reference: Reference, seed: int, repeat: int = 1) -> FloatArray:
    """Simulate the primaries of the reference events.

    Args:
        kind: "electron" or "proton".
        reference: The Geant4 events.
        seed: Seed of the run.
        repeat: How often each primary is simulated.

    Returns:
        Bar energies in GeV, shape (repeat * n, 14, 22), the events repeated as blocks.
    """
    energy = np.tile(reference.energy_gev, repeat)
    seeds = np.random.default_rng(seed).integers(0, 2**63, energy.size).astype(np.uint64)
    shoot = electron_showers if kind == "electron" else proton_showers
    position, direction = (
        np.tile(v, (repeat, 1)) for v in (reference.position_mm, reference.direction)
    )
    return shoot(energy, position, direction, seeds).bgo_gev.astype(np.float64)


def observe(image_gev: FloatArray, energy_gev: FloatArray) -> Observables:
    """Apply the bar threshold and compute the shower variables.

    Args:
        image_gev: Bar energies, shape (n, 14, 22).
        energy_gev: Kinetic energies, shape (n,).

    Returns:
        The variables.
    """
    image = np.where(image_gev < BAR_THRESHOLD_GEV, 0.0, image_gev)
    layers = image.sum(axis=2)
    total = layers.sum(axis=1)
    rms = layer_rms_mm(image)
    last = f_last(layers / np.maximum(total, 1e-9)[:, None])
    return Observables(
        total / energy_gev, total, layers, rms, last, zeta(rms, last), triggered(layers)
    )


def triggered(layer_gev: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """The trigger-like condition on layer energies of shape (..., 14), shape (...,)."""
    return np.asarray((layer_gev[..., :4] > TRIGGER_GEV).all(axis=-1))


def compare(geant4: Observables, simulated: Observables, kind: Kind) -> Table:
    """Numbers of both samples: protons only triggered ones.

    Args:
        geant4: Variables of the Geant4 events.
        simulated: Variables of the simulated events.
        kind: "electron" or "proton".

    Returns:
        Variable, then number, then "geant4", "simulation" and "relative" (simulation / geant4 - 1).
    """
    table: Table = {}
    values: list[Numbers] = []
    for o in (geant4, simulated):
        use = o.triggered if kind == "proton" else np.ones(o.deposit.size, bool)
        numbers: Numbers = {}
        sums = o.rms_mm.sum(axis=1)
        for name, value in (
            ("deposit_over_energy", o.deposit), ("sum_rms_mm", sums), ("f_last", o.f_last),
            ("zeta", o.zeta),
        ):  # fmt: skip
            numbers[name] = {f"q{q}": float(np.percentile(value[use], q)) for q in QUANTILES}
        fraction = o.layer_gev[use] / o.total_gev[use][:, None]
        numbers["layer_fraction"] = {
            f"layer{k}": float(v) for k, v in enumerate(fraction.mean(axis=0))
        }
        numbers["layer_rms_mm"] = {
            f"layer{k}": float(v) for k, v in enumerate(o.rms_mm[use].mean(axis=0))
        }
        half = np.subtract(*np.percentile(o.deposit[use], [84, 16])) / 2
        numbers["resolution"] = {"half_width_68": float(half / np.median(o.deposit[use]))}
        if kind == "proton":
            numbers["fraction_of_events"] = {
                "triggered": float(use.mean()), "below_1_gev": float((o.total_gev < 1).mean()),
            }  # fmt: skip
        values.append(numbers)
    for name, expected in values[0].items():
        table[name] = {
            key: {
                "geant4": number,
                "simulation": values[1][name][key],
                "relative": values[1][name][key] / number - 1,
            }
            for key, number in expected.items()
        }
    return table
