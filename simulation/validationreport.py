"""Report of the simulation against Geant4: tables and figures of all showers and of leaking ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from simulation.leakage import GapEffect, Row, gap_effect, leakage, remark, rows_as_dicts
from simulation.leakagefigures import draw_leakage
from simulation.leaking import Kind, pair
from simulation.validation import Observables, Table, compare, load_reference, observe, simulate

__all__ = ["leaking_showers", "validate"]

KINDS: tuple[Kind, ...] = ("electron", "proton")

_TITLES = {
    "containment": (
        "Longitudinal: share of the energy in the first layers, whose lower border lies so deep along the "
        "axis (of the true energy for electrons, of E_raw for triggered protons). Exact; it is what a shower "
        "keeps that leaves there"
    ),
    "depth": "Depth of the shower along the axis",
    "virtual wall": (
        "Virtual side wall at the border of bars nearest to the end of a path, axes with a slope of 0.4 and "
        "more across it: share of the energy of that view's layers inside the wall. Exact for these layers; "
        "there is material behind the wall"
    ),
    "lateral": (
        "Lateral: share of a layer's energy beyond a virtual wall at a distance from the axis (negative: the "
        "axis is beyond it), layers at a depth along the axis"
    ),
    "side": (
        "Real sides: axes near a side of the block at its bottom; those 0-21 mm inside are beyond 280 mm there"
    ),
    "wall": (
        "Nothing behind the wall: the two bars inside the real side and inside virtual walls, over the true "
        "energy (protons: E_raw)"
    ),
}
_HOW = (
    "Spread: half the central 68 %, of electrons after subtraction of the mean of the simulated showers of "
    "the same primary; the 5 and 95 % points likewise, from the mean. The hybrid Geant4 events fluctuate less "
    "below 2 GeV: their spreads late in the shower are too small, those of the full ones are right. The last "
    "column says where a mean differs by more than 3 % or a spread by more than 10 %, and by three errors."
)
_GAPS = (
    "Gaps between the bars ({name}): within the first 8 X0 of the block the bars on an axis have "
    "{e.path_spread_x0:.2f} X0 of spread. The mean depth of Geant4 showers follows them with a slope of "
    "{e.geant4_slope:.2f} ± {e.geant4_slope_error:.2f} (correlation {e.geant4_correlation:.2f}), that of "
    "simulated ones does not ({e.simulation_correlation:.2f}). Standard deviation of the mean depth: Geant4 "
    "{e.geant4_width:.2f} X0, without this part {e.geant4_rest:.2f}; simulation {e.simulation_width:.2f}."
)
_HEADER = (
    "| class | events | mean Geant4 | simulation | relative | spread Geant4 | simulation | ratio | "
    "5 % Geant4 | simulation | 95 % Geant4 | simulation | disagrees |"
)


def validate(out_dir: Path, seed: int = 1, repeat: int = 4, leaking_repeat: int = 8) -> None:
    """Compare electrons and protons with Geant4 and write tables and figures.

    Args:
        out_dir: Folder for ``validation.json``, ``validation.md`` and the figures.
        seed: Seed of the simulation.
        repeat: How often each Geant4 primary is simulated.
        leaking_repeat: The same for leaking showers, whose fluctuations are taken about the mean of the
            simulated showers of a primary.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Table] = {}
    for kind in KINDS:
        reference = load_reference(kind)
        geant4 = observe(reference.image_gev, reference.energy_gev)
        image = simulate(kind, reference, seed, repeat)
        simulated = observe(image, np.tile(reference.energy_gev, repeat))
        tables[kind] = compare(geant4, simulated, kind)
        full = observe(reference.image_gev[reference.full], reference.energy_gev[reference.full])
        chosen = np.tile(reference.full, repeat)
        energy = np.tile(reference.energy_gev, repeat)[chosen]
        # electrons also against the full events alone: their resolution is the one to reach
        tables[f"{kind}_full"] = compare(full, observe(image[chosen], energy), kind)
        _draw(out_dir / f"validation_{kind}.png", geant4, simulated, kind)
    rows, gaps = leaking_showers(seed, leaking_repeat)
    draw_leakage(rows, out_dir)
    content = {
        **tables,
        "leaking": {name: rows_as_dicts(some) for name, some in rows.items()},
        "gaps": {name: asdict(effect) for name, effect in gaps.items()},
    }
    (out_dir / "validation.json").write_text(json.dumps(content, indent=1) + "\n")
    (out_dir / "validation.md").write_text(_markdown(tables) + _leaking_markdown(rows, gaps))


def leaking_showers(seed: int, repeat: int) -> tuple[dict[str, list[Row]], dict[str, GapEffect]]:
    """Leaking showers of both kinds, of all reference events and of the full ones.

    Args:
        seed: Seed of the simulation.
        repeat: How often each primary is simulated; protons half as often, at least twice.

    Returns:
        Rows of ``electron``, ``electron_full``, ``proton`` and ``proton_full``, and the effect of the gaps on
        the electrons.
    """
    rows: dict[str, list[Row]] = {}
    gaps: dict[str, GapEffect] = {}
    for kind in KINDS:
        reference = load_reference(kind)
        image = simulate(
            kind, reference, seed, repeat if kind == "electron" else max(repeat // 2, 2)
        )
        for part in ("all", "full"):
            name = kind if part == "all" else f"{kind}_full"
            showers = pair(kind, reference, image, part)
            rows[name] = leakage(showers, seed)
            if kind == "electron":
                gaps[name] = gap_effect(showers)
    return rows, gaps


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


def _leaking_markdown(rows: Mapping[str, Sequence[Row]], gaps: Mapping[str, GapEffect]) -> str:
    lines = ["", "# Leaking showers (synthetic)", "", _HOW, ""]
    for name, e in gaps.items():
        lines += [_GAPS.format(name=name, e=e), ""]
    for name, some in rows.items():
        lines += [f"## leaking showers: {name}", ""]
        for table, title in _TITLES.items():
            chosen = [row for row in some if row.table == table]
            if not chosen:
                continue
            lines += [
                f"{title}.",
                "",
                _HEADER,
                "|---" * 13 + "|",
                *(_line(row) for row in chosen),
                "",
            ]
    return "\n".join(lines)


def _line(r: Row) -> str:
    cells = [
        r.label, str(r.events), f"{r.geant4:.4g}", f"{r.simulation:.4g}",
        f"{r.relative:+.1%} ± {r.relative_error:.1%}", f"{r.geant4_width:.3g}",
        f"{r.simulation_width:.3g}", f"{r.width_ratio:.2f} ± {r.width_error:.2f}",
        f"{r.geant4_q5:+.3g}", f"{r.simulation_q5:+.3g}", f"{r.geant4_q95:+.3g}",
        f"{r.simulation_q95:+.3g}", remark(r),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


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
