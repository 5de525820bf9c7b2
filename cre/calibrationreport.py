"""What is told of a derived calibration: text, figure, provenance, and closure on synthetic data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from analysis.plots.calibration import OffsetCurve
from cre.calibration import SPECIES, Derived, Nodes, Species, row
from processors.calibration import F_LAST_STEP, Calibration
from processors.controlsamples import F_LAST, N_PROBES, Tags

__all__ = ["Pull", "panels", "pulls", "report", "summary", "table_text"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pull:
    """A node of the table against the offset that synthetic data were made with.

    Attributes:
        species: ``electron`` or ``proton``.
        probe: Layer, or 14 for F_last.
        energy_gev: Energy of the node.
        value: Offset of the table, mm or steps.
        error: Its error.
        injected: True offset.
    """

    species: Species
    probe: int
    energy_gev: float
    value: float
    error: float
    injected: float

    @property
    def pull(self) -> float:
        """Difference in errors."""
        return (self.value - self.injected) / self.error


def pulls(table: Calibration, difference: Mapping[str, Any]) -> list[Pull]:
    """Hold a table against the difference that synthetic data were made with.

    Args:
        table: The derived table.
        difference: ``difference`` of the metadata of the data files.

    Returns:
        One entry per node with an error.
    """
    return [
        Pull(
            species,
            probe,
            energy,
            value,
            error,
            float(injected(difference, species, probe, energy)),
        )
        for species in SPECIES
        for probe in range(N_PROBES)
        for energy, value, error in zip(*row(table, species, probe), strict=True)
        if error > 0
    ]


def injected(
    difference: Mapping[str, Any], species: Species, probe: int, energy_gev: npt.ArrayLike
) -> FloatArray:
    """The offset that synthetic data were made with, mm or steps.

    That of the protons' F_last is the total of its steps and of the shift of log10 zeta, which the
    simulation puts on F_last.
    """
    log_e = np.log10(np.asarray(energy_gev, np.float64))
    if probe != F_LAST:
        entry = difference["rms_offset_mm"][species]
        values = entry["layers"][probe]
        return np.asarray(np.interp(log_e, np.log10(entry["energies_gev"]), values))
    entry = difference["f_last_steps"][species]
    steps = np.interp(log_e, np.log10(entry["energies_gev"]), entry["steps"])
    if species == "proton":
        shift = difference["proton_shift"]
        steps = (
            steps + (shift["log10_zeta_at_1_tev"] + shift["per_decade"] * (log_e - 3)) / F_LAST_STEP
        )
    return np.asarray(steps)


def panels(
    derived: Derived, difference: Mapping[str, Any] | None
) -> list[tuple[str, list[OffsetCurve]]]:
    """Panels of the figure: layers 0 to 13 and F_last, both species in each."""
    totals = {s: derived.totals(s) for s in SPECIES}
    out = []
    for probe in range(N_PROBES):
        curves = []
        for species in SPECIES:
            offsets = derived.offsets[species][probe]
            nodes, values, errors = (np.array(r) for r in row(derived.table, species, probe))
            curves.append(
                OffsetCurve(
                    species=species,
                    energy_gev=10 ** np.nan_to_num(offsets.log_energy),
                    offset=totals[species][probe],
                    error=offsets.error,
                    node_gev=nodes,
                    node_offset=values,
                    node_error=errors,
                    injected=injected(difference, species, probe, nodes) if difference else None,
                )
            )
        name = (
            f"F_last (steps of {F_LAST_STEP:.3f})"
            if probe == F_LAST
            else f"RMS of layer {probe} (mm)"
        )
        out.append((name, curves))
    return out


def report(derived: Derived, nodes: Nodes, tags: Tags) -> dict[str, Any]:
    """Provenance of a table, plain types: how it was fitted and how well."""
    out: dict[str, Any] = {
        "tags": asdict(tags),
        "nodes_asked_gev": {
            "rms": list(nodes.rms),
            "f_last": {s: list(nodes.f_last[s]) for s in SPECIES},
        },
        "iterations": derived.iterations,
        "last_move_in_errors": round(derived.moved, 3),
        "replicas": derived.replicas,
    }
    for species in SPECIES:
        offsets, fits = derived.offsets[species], derived.fits[species]
        rms, last = derived.table.of(species).rms, derived.table.of(species).f_last
        unreached = {
            "rms": [n for n in nodes.rms if n not in rms.energies_gev],
            "f_last": [n for n in nodes.f_last[species] if n not in last.energies_gev],
        }
        out[species] = {
            "nodes_left_out_gev": unreached,
            "bin_energies_gev": [_three(10**x) for x in np.nan_to_num(offsets[0].log_energy)],
            "events_per_bin": [int(e) for e in offsets[0].events],
            "error_factors": [_three(f) for f in derived.error_factors.get(species, ())],
            "node_chi2": [[_three(f.chi2), f.ndf] for f in fits],
            "shape_chi2": [
                [_three(float(np.nansum(o.chi2))), int(np.nansum(o.ndf))] for o in offsets
            ],
            "contamination": [
                _three(float(np.nanmean(o.contamination))) if o.measured.any() else None
                for o in offsets
            ],
        }
    return out


def summary(derived: Derived, found: Sequence[Pull]) -> str:
    """The table as text, with what is missing, and the closure if the offsets are known."""
    lines = ["SYNTHETIC data, not data of the experiment"] if derived.table.synthetic else []
    for species in SPECIES:
        part = derived.table.of(species)
        energies = " ".join(f"{e:>12.0f}" for e in part.rms.energies_gev)
        lines.append(f"{species}: RMS offset (mm) at {'GeV':>4} {energies}")
        for probe in range(N_PROBES):
            nodes, values, errors = row(derived.table, species, probe)
            if probe == F_LAST:
                energies = " ".join(f"{e:>12.0f}" for e in nodes)
                lines.append(f"{species}: F_last steps at    {'GeV':>4} {energies}")
            cells = [
                f"{v:6.2f}" + (f"±{e:<5.2f}" if e else " fixed")
                for v, e in zip(values, errors, strict=True)
            ]
            fit = derived.fits[species][probe]
            label = "F_last" if probe == F_LAST else f"layer {probe}"
            lines.append(f"{label:>28} {' '.join(cells)}  chi2 {fit.chi2:.1f}/{fit.ndf}")
    if found:
        all_pulls = np.array([p.pull for p in found])
        worst = found[int(np.abs(all_pulls).argmax())]
        where = "F_last" if worst.probe == F_LAST else f"layer {worst.probe}"
        lines.append(
            f"against the injected offsets: {len(all_pulls)} nodes, mean pull {all_pulls.mean():+.2f}, "
            f"spread {all_pulls.std():.2f}, chi2 {np.sum(all_pulls**2):.1f}; largest {worst.pull:+.2f} "
            f"({worst.species}, {where}, {worst.energy_gev:.0f} GeV)"
        )
    return "\n".join(lines)


def table_text(table: Calibration, header: Sequence[str]) -> str:
    """The table as YAML with comment lines on top."""
    content = table.model_dump(mode="json", exclude_none=True)
    body = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
    return "".join(f"# {line}\n" for line in header) + str(body)


def _three(value: float) -> float:
    """Three significant digits are enough for a report."""
    return float(f"{value:.3g}")
