"""Compare simulated showers with the Geant4 reference events: figures and a table of numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from processors.showers import f_last, layer_rms_mm, zeta
from simulation.cascade import electron_showers, proton_showers
from simulation.material import BLOCK_TOP_MM

__all__ = [
    "Observables",
    "Reference",
    "compare",
    "load_reference",
    "observe",
    "simulate",
    "validate",
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
    triggered = (layers[:, :4] > TRIGGER_GEV).all(axis=1)
    return Observables(total / energy_gev, total, layers, rms, last, zeta(rms, last), triggered)


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


def validate(out_dir: Path, seed: int = 1, repeat: int = 4) -> dict[str, Table]:
    """Compare electrons and protons with Geant4 and write tables and figures.

    Args:
        out_dir: Directory for ``validation.json``, ``validation.md`` and one figure per kind.
        seed: Seed of the simulation.
        repeat: How often each Geant4 primary is simulated.

    Returns:
        The table of each kind; electrons also against the full Geant4 events alone, whose
        resolution is the one to reach.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Table] = {}
    kinds: tuple[Kind, ...] = ("electron", "proton")
    for kind in kinds:
        reference = load_reference(kind)
        geant4 = observe(reference.image_gev, reference.energy_gev)
        image = simulate(kind, reference, seed, repeat)
        simulated = observe(image, np.tile(reference.energy_gev, repeat))
        tables[kind] = compare(geant4, simulated, kind)
        full = observe(reference.image_gev[reference.full], reference.energy_gev[reference.full])
        chosen = np.tile(reference.full, repeat)
        energy = np.tile(reference.energy_gev, repeat)[chosen]
        tables[f"{kind}_full"] = compare(full, observe(image[chosen], energy), kind)
        _draw(out_dir / f"validation_{kind}.png", geant4, simulated, kind)
    (out_dir / "validation.json").write_text(json.dumps(tables, indent=1) + "\n")
    (out_dir / "validation.md").write_text(_markdown(tables))
    return tables


def _markdown(tables: dict[str, Table]) -> str:
    lines = ["# Simulated showers against Geant4 (synthetic)", ""]
    for kind, table in tables.items():
        lines += [f"## {kind}", "", "| variable | number | Geant4 | simulation | relative |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {name} | {key} | {v['geant4']:.4g} | {v['simulation']:.4g} | {v['relative']:+.1%} |"
            for name, numbers in table.items()
            for key, v in numbers.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _draw(path: Path, geant4: Observables, simulated: Observables, kind: Kind) -> None:
    import matplotlib.pyplot as plt  # noqa: PLC0415  (only figures need it)

    deposit_edges = np.linspace(0.88, 0.97, 46) if kind == "electron" else np.linspace(0.0, 1.0, 46)
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for o, label, style in ((geant4, "Geant4", "ks"), (simulated, "simulation", "C1-")):
        use = o.triggered if kind == "proton" else np.ones(o.deposit.size, bool)
        layers = np.arange(o.layer_gev.shape[1])
        fraction = o.layer_gev[use] / o.total_gev[use][:, None]
        axes[0, 0].plot(layers, fraction.mean(axis=0), style, label=label)
        axes[0, 1].plot(layers, o.rms_mm[use].mean(axis=0), style, label=label)
        panels = (
            (axes[0, 2], o.deposit, "deposit / energy", deposit_edges),
            (axes[1, 0], o.rms_mm.sum(axis=1), "sum of layer RMS (mm)", np.linspace(200, 1200, 51)),
            (axes[1, 1], np.log10(np.maximum(o.f_last, 1e-9)), "log10 F_last", np.linspace(-5, 0, 51)),
            (axes[1, 2], np.log10(np.maximum(o.zeta, 1e-9)), "log10 zeta", np.linspace(-1, 6, 57)),
        )  # fmt: skip
        for axis, value, name, edges in panels:
            counts, _ = np.histogram(value[use], edges)
            centres = (edges[1:] + edges[:-1]) / 2
            density = counts / use.sum() / np.diff(edges)
            if style == "ks":
                error = np.sqrt(counts) / use.sum() / np.diff(edges)
                axis.errorbar(centres, density, error, fmt="k.", label=label)
            else:
                axis.stairs(density, edges, color="C1", label=label)
            axis.set(xlabel=name, ylabel="events per unit")
    axes[0, 0].set(xlabel="layer", ylabel="mean share of the energy")
    axes[0, 1].set(xlabel="layer", ylabel="mean RMS (mm)")
    axes[0, 0].legend()
    figure.suptitle(f"{kind} showers (synthetic)")
    figure.savefig(path, dpi=120)
    plt.close(figure)
