"""Toy control samples: selected events with plausible shower variables, in memory."""

import numpy as np

from processors.controlsamples import ControlEvents
from simulation.difference import apply_difference

#: Mean layer RMS at 1 TeV (mm) and its change per decade, F_last likewise (log10).
MEAN = {
    "electron": np.array([28, 16, 15, 15, 16, 18, 20, 23, 27, 31, 36, 41, 46, 52.0]),
    "proton": np.array([52, 30, 24, 23, 24, 26, 28, 31, 34, 37, 40, 43, 45, 47.0]),
}
LOG_F = {"electron": (-2.8, 0.25, 0.35), "proton": (-1.6, 0.05, 0.3)}


def control_events(
    species: str, n: int, seed: int, *, index: float = 2.0, difference: bool = False
) -> ControlEvents:
    """Events with energies of 100 GeV to 6 TeV, thrown E^-index, unit weights."""
    rng = np.random.default_rng(seed)
    low, high = 100.0 ** (1 - index), 6000.0 ** (1 - index)
    energy = (low + rng.random(n) * (high - low)) ** (1 / (1 - index))
    decade = np.log10(energy / 1e3)
    mean, slope, width = LOG_F[species]
    common = rng.normal(0.0, 1.0, n)
    last = 10 ** np.minimum(mean + slope * decade + width * common, -0.5)
    spread = 0.18 * (0.5 * common[:, None] + 0.87 * rng.normal(0.0, 1.0, (n, 14)))
    rms = MEAN[species] * (1 - 0.15 * decade[:, None]) * np.exp(spread)
    rms[rng.random((n, 14)) < 0.02] = 0.0
    if difference:
        fraction = np.zeros((n, 14))
        fraction[:, 13] = last
        fraction[:, 5] = 1 - last
        rms, fraction = apply_difference(species, energy, rms, fraction)
        last = fraction[:, 13]
    return ControlEvents(energy, rms, last, np.ones(n))


def together(*parts: ControlEvents) -> ControlEvents:
    return ControlEvents(
        *(
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("energy_gev", "layer_rms_mm", "last_fraction", "weight")
        )
    )
