"""Figures of leaking showers, simulated against Geant4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulation.leakage import Row

__all__ = ["draw_leakage"]

_GEANT4: dict[str, Any] = {"color": "black", "fmt": "o", "ms": 4}
_FULL: dict[str, Any] = {"color": "black", "fmt": "s", "ms": 5, "mfc": "white"}
_TITLE = "(synthetic: Geant4 and parametric simulation of the same primaries)"


def draw_leakage(rows: Mapping[str, Sequence[Row]], folder: Path) -> list[Path]:
    """Draw the comparisons of leaking showers.

    Args:
        rows: Sample (``electron``, ``electron_full``, ``proton``, ``proton_full``) to its rows.
        folder: Where the figures go.

    Returns:
        Paths of ``leaking_containment.png``, ``leaking_lateral.png`` and ``leaking_walls.png``.
    """
    return [
        _containment(rows, folder / "leaking_containment.png"),
        _lateral(rows, folder / "leaking_lateral.png"),
        _walls(rows, folder / "leaking_walls.png"),
    ]


def _of(rows: Sequence[Row], table: str) -> list[Row]:
    return [row for row in rows if row.table == table]


def _column(rows: Sequence[Row], name: str) -> Any:
    return np.array([getattr(row, name) for row in rows], np.float64)


def _containment(rows: Mapping[str, Sequence[Row]], path: Path) -> Path:
    import matplotlib.pyplot as plt  # noqa: PLC0415  (only figures need it)

    figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained", sharex=True)
    for line, kind in zip(axes, ("electron", "proton"), strict=True):
        for name, style, label in (
            (kind, _GEANT4, "Geant4, full and hybrid"),
            (f"{kind}_full", _FULL, "Geant4, full"),
        ):
            some = _of(rows[name], "containment")
            depth = (_column(some, "low") + _column(some, "high")) / 2
            mean, simulated = _column(some, "geant4"), _column(some, "simulation")
            if name == kind:
                line[0].fill_between(
                    depth, simulated + _column(some, "simulation_q5"),
                    simulated + _column(some, "simulation_q95"), color="C1", alpha=0.25, lw=0,
                    label="simulation, 5 to 95 %",
                )  # fmt: skip
                line[0].plot(depth, simulated, "C1-", label="simulation, mean")
                line[2].plot(depth, _column(some, "simulation_width"), "C1-", label="simulation")
                ends = np.abs([_column(some, "geant4_q5"), _column(some, "geant4_q95")])
                line[0].errorbar(depth, mean, ends, **style, label=f"{label}: mean, 5 to 95 %")
            shift = 0.0 if name == kind else 0.35
            error = 100 * _column(some, "relative_error")
            line[1].errorbar(
                depth + shift,
                100 * _column(some, "relative"),
                error,
                **style,
                label=f"against {label}",
            )
            width = _column(some, "geant4_width")
            relative = _column(some, "width_error") / _column(some, "width_ratio")
            line[2].errorbar(depth + shift, width, width * relative, **style, label=label)
        line[1].axhline(0, color="C1")
        corner = "lower right" if kind == "electron" else "upper left"
        of = "true energy" if kind == "electron" else "raw energy"
        line[0].set(ylabel=f"{kind}s: share of the {of}", ylim=(0, 1.12))
        line[1].set(ylabel="mean: simulation / Geant4 − 1 (%)")
        line[1].set_ylim(*((-6.0, 6.0) if kind == "electron" else (-30.0, 30.0)))
        line[2].set(ylabel="spread between showers (half the central 68 %)", ylim=(0, None))
        for axis, place in zip(line, (corner, "upper right", "best"), strict=True):
            axis.grid(alpha=0.25)
            axis.legend(fontsize=8.5, loc=place, framealpha=0.8)
    for axis in axes[1]:
        axis.set(xlabel="depth along the axis where it ends ($X_0$ of the block)", xlim=(4, 32))
    figure.suptitle(f"What a shower keeps that leaves after a path {_TITLE}")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _lateral(rows: Mapping[str, Sequence[Row]], path: Path) -> Path:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained", sharex=True)
    for line, kind in zip(axes, ("electron", "proton"), strict=True):
        some = _of(rows[kind], "lateral")
        for k, depth in enumerate(dict.fromkeys(row.label.partition(",")[0] for row in some)):
            part = [row for row in some if row.label.startswith(f"{depth},")]
            x = (_column(part, "low") + _column(part, "high")) / 2
            mean, colour = _column(part, "geant4"), f"C{k}"
            error = mean * _column(part, "relative_error")
            points = {"fmt": "o", "ms": 4, "color": colour}
            line[0].errorbar(x, mean, error, **points)
            line[0].plot(x, _column(part, "simulation"), color=colour, label=depth)
            shifted = x + 1.5 * (k - 2)
            error = 100 * _column(part, "relative_error")
            line[1].errorbar(shifted, 100 * _column(part, "relative"), error, **points, label=depth)
            ratio = _column(part, "width_ratio")
            line[2].errorbar(shifted, ratio, _column(part, "width_error"), **points, label=depth)
        line[0].set(ylabel=f"{kind}s: share of a layer beyond the wall", yscale="log")
        line[1].set(ylabel="mean: simulation / Geant4 − 1 (%)")
        line[1].set_ylim(*((-40.0, 20.0) if kind == "electron" else (-20.0, 70.0)))
        line[1].axhline(0, color="gray")
        line[2].axhline(1, color="gray")
        line[2].set(ylabel="spread: simulation / Geant4", ylim=(0, 1.8))
        for axis in line:
            axis.grid(alpha=0.25)
        line[0].legend(title="points Geant4, lines simulation", fontsize=9, frameon=False)
    for axis in axes[1]:
        axis.set(xlabel="wall − axis (mm); negative: axis beyond the wall")
    figure.suptitle(f"Energy beyond a side wall {_TITLE}")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _walls(rows: Mapping[str, Sequence[Row]], path: Path) -> Path:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        1, 2, figsize=(14, 8.5), layout="constrained", sharey=False, width_ratios=(1, 1)
    )
    for axis, kind in zip(axes, ("electron", "proton"), strict=True):
        some = [row for row in rows[kind] if row.table in {"virtual wall", "side", "wall", "depth"}]
        full = {row.label: row for row in rows[f"{kind}_full"]}
        for place, row in enumerate(reversed(some)):
            for r, style, up in ((row, _GEANT4, 0.12), (full.get(row.label), _FULL, -0.12)):
                if r is None:
                    continue
                x, error = 100 * r.relative, 100 * r.relative_error
                axis.errorbar(x, place + up, xerr=error, **style)
        names = [
            f"{'virtual wall ' if r.table == 'virtual wall' else ''}{r.label}"
            for r in reversed(some)
        ]
        axis.set_yticks(range(len(some)), names, fontsize=8)
        axis.axvline(0, color="C1")
        axis.axvspan(-3, 3, color="C1", alpha=0.15, lw=0)
        axis.set(xlabel="mean: simulation / Geant4 − 1 (%)", title=f"{kind}s", xlim=(-40, 40))
        axis.grid(alpha=0.25)
    handles = [axes[0].errorbar([], [], [], **s) for s in (_GEANT4, _FULL)]
    names = ["Geant4, full and hybrid", "Geant4, full"]
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=10)
    figure.suptitle(f"Walls {_TITLE}")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
