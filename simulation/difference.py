"""How "data" differ from the Monte Carlo when a realistic difference is switched on.

The collaboration makes its Monte Carlo look like data: from the RMS of layer i it subtracts d_i(E), and
it multiplies F_last by 10^(0.0430103 n). The ranges of d_i and n that it uses are in ``docs/physics.md``.
Here the same goes into the simulated data: their RMS are smaller by d_i(E), their F_last larger. Besides,
protons in data have a zeta larger by s(E) in log10, s = 0.05 + 0.03 log10(E/1 TeV), carried by F_last.
Energies are the corrected ones. All pieces are linear in log10 E between the nodes, constant outside.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from processors.showers import last_layer

__all__ = [
    "PROTON_SHIFT",
    "apply_difference",
    "f_last_steps",
    "proton_shift",
    "record",
    "rms_offset_mm",
]

FloatArray = npt.NDArray[np.float64]
Species = Literal["electron", "proton"]

#: One step of the collaboration's F_last correction in log10.
F_LAST_STEP = 0.0430103
#: Shift of log10 zeta of protons at 1 TeV and its change per decade.
PROTON_SHIFT = (0.05, 0.03)
_ENERGIES_GEV = (20.0, 100.0, 300.0, 1000.0, 3000.0)
#: RMS offsets in mm at these energies, layers 0 to 13.
_RMS_MM: dict[Species, list[tuple[float, float, float, float, float]]] = {
    "proton": [
        (8.0, 7.5, 7.0, 6.0, 5.0),
        (4.0, 4.0, 3.5, 3.5, 3.0),
        (3.0, 3.0, 2.5, 2.0, 1.0),
        (2.5, 2.0, 1.5, 0.5, 0.0),
        (2.0, 2.0, 1.0, 0.0, 0.0),
        (2.0, 1.5, 1.0, 0.0, 0.0),
        (1.5, 1.5, 0.5, 0.0, 0.0),
        (1.0, 1.0, 0.5, 0.0, 0.0),
        (1.5, 1.0, 0.5, 0.0, 0.0),
        (3.0, 3.0, 2.0, 1.0, 0.0),
        (3.5, 3.5, 2.5, 1.0, 0.5),
        (4.0, 4.0, 3.0, 1.5, 0.5),
        (5.0, 5.0, 3.5, 2.0, 1.0),
        (8.0, 6.0, 4.5, 3.0, 2.0),
    ],
    "electron": [
        (2.5, 2.5, 3.0, 3.5, 4.0),
        (1.5, 1.5, 1.0, 1.0, 1.0),
        (1.0, 1.0, 0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5, 0.5, 0.0),
        (0.5, 0.5, 0.5, 0.0, 0.0),
        (0.5, 0.5, 0.5, 0.5, 0.5),
        (0.5, 0.5, 1.0, 1.0, 1.0),
        (-0.5, 0.0, 0.5, 1.0, 1.0),
        (0.5, 1.0, 1.0, 1.5, 1.5),
        (1.0, 1.0, 1.5, 2.0, 2.0),
        (0.5, 1.0, 1.5, 2.0, 2.0),
        (1.0, 1.5, 2.0, 2.5, 2.5),
        (1.5, 2.0, 2.5, 3.0, 3.0),
        (2.0, 2.5, 3.0, 3.5, 3.5),
    ],
}
#: Number of F_last steps at these energies.
_STEPS: dict[Species, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "proton": ((20.0, 1000.0, 10000.0), (4.0, 3.0, 2.0)),
    "electron": ((190.0, 300.0, 800.0, 1500.0), (0.0, 1.0, 1.5, 0.0)),
}
#: Electron layers from here on are left alone where they are narrower than this.
_FIRST_NARROW_LAYER, _NARROW_MM = 9, 14.0


def rms_offset_mm(species: Species, energy_gev: npt.ArrayLike) -> FloatArray:
    """How much smaller the layer RMS of data are than those of the Monte Carlo.

    Args:
        species: ``electron`` or ``proton``.
        energy_gev: Corrected energies, shape (n,).

    Returns:
        d_i(E) in mm, shape (n, 14).
    """
    log_e = np.log10(np.maximum(np.asarray(energy_gev, np.float64), 1e-3))
    nodes = np.log10(_ENERGIES_GEV)
    return np.column_stack([np.interp(log_e, nodes, row) for row in _RMS_MM[species]])


def f_last_steps(species: Species, energy_gev: npt.ArrayLike) -> FloatArray:
    """Number n of F_last steps, data over Monte Carlo, shape (n,)."""
    log_e = np.log10(np.maximum(np.asarray(energy_gev, np.float64), 1e-3))
    nodes, steps = _STEPS[species]
    return np.asarray(np.interp(log_e, np.log10(nodes), steps))


def proton_shift(energy_gev: npt.ArrayLike) -> FloatArray:
    """Shift s(E) of log10 zeta of protons in data, shape (n,)."""
    log_e = np.log10(np.maximum(np.asarray(energy_gev, np.float64), 1e-3) / 1e3)
    return np.asarray(PROTON_SHIFT[0] + PROTON_SHIFT[1] * log_e)


def apply_difference(
    species: Species, energy_gev: FloatArray, layer_rms_mm: FloatArray, fraction: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Turn Monte Carlo shower variables into those of data.

    Args:
        species: ``electron`` or ``proton``.
        energy_gev: Corrected energies, shape (n,).
        layer_rms_mm: Layer RMS, shape (n, 14).
        fraction: Layer fractions, shape (n, 14).

    Returns:
        New layer RMS (not below 0; electron layers 9 - 13 narrower than 14 mm unchanged) and layer
        fractions (the last layer with signal scaled, the others shrunk so that the sum stays).
    """
    offset = rms_offset_mm(species, energy_gev)
    if species == "electron":
        narrow = layer_rms_mm < _NARROW_MM
        narrow[:, :_FIRST_NARROW_LAYER] = False
        offset = np.where(narrow, 0.0, offset)
    rms = np.where(layer_rms_mm > 0, np.maximum(layer_rms_mm - offset, 0.0), 0.0)
    log_factor = F_LAST_STEP * f_last_steps(species, energy_gev)
    if species == "proton":
        log_factor = log_factor + proton_shift(energy_gev)
    row = np.arange(len(fraction))
    last = last_layer(fraction)
    before = fraction[row, last]
    after = np.minimum(before * 10**log_factor, 0.5 * (1 + before))
    shrink = np.divide(1 - after, 1 - before, out=np.ones_like(before), where=before < 1)
    changed = fraction * shrink[:, None]
    changed[row, last] = np.where(before < 1, after, before)
    return rms, changed


def record() -> dict[str, Any]:
    """The difference as it is written into the metadata of the files, lists and numbers only."""
    return {
        "rms_offset_mm": {
            s: {"energies_gev": list(_ENERGIES_GEV), "layers": [list(r) for r in rows]}
            for s, rows in _RMS_MM.items()
        },
        "f_last_steps": {
            s: {"energies_gev": list(nodes), "steps": list(steps)}
            for s, (nodes, steps) in _STEPS.items()
        },
        "f_last_step": F_LAST_STEP,
        "proton_shift": {"log10_zeta_at_1_tev": PROTON_SHIFT[0], "per_decade": PROTON_SHIFT[1]},
    }
