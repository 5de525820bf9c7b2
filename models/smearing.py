"""Random smearing of the variables in training, so that a network does not lean on what a simulation gets wrong.

Widths and energies of single layers, and how they vary together, are where a parametric simulation is furthest
from real showers (``docs/physics.md``). A network that sees them exactly learns such details as if they were
physics, and its score moves when real showers differ. So in training the variables of every event, of either
species, are smeared by a random amount; the BGO image, in which the same showers stand as they are, is left
alone, because networks on the image were found to agree better with Geant4 without any distortion
(``models/README.md``). This is domain randomisation (Tobin et al., arXiv:1703.06907).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from processors.geometry import N_LAYERS

__all__ = ["ABSOLUTE", "RELATIVE", "STK", "smear"]

Array = npt.NDArray[np.float32]

#: The first layers hold few particles and fluctuate most.
_EARLY = {0: 2.5, 1: 2.5, 2: 1.5}
#: Largest standard deviation at strength 1 of the logarithm of a variable, and of a variable itself.
RELATIVE: dict[str, float] = {
    **{f"rms_{i}": 0.15 * _EARLY.get(i, 1.0) for i in range(N_LAYERS)},
    "rms_l": 0.15,
    "rms_r": 0.08,
}
ABSOLUTE: dict[str, float] = {
    **{f"log_energy_{i}": 0.05 * _EARLY.get(i, 1.0) for i in range(N_LAYERS)},
    "log_f_last": 0.1,
    "log_stk_ecore": 0.15,
}
#: Of the input ``stk``, which is ln(1 + ADC) / 10.
STK = 0.015


def smear(
    batch: dict[str, Array], variables: Sequence[str], rng: np.random.Generator, strength: float
) -> None:
    """Smear the variables and the STK signals of some events in place.

    Args:
        batch: Inputs of a network, shape (n, …): ``variables``, ``stk``, those that it has.
        variables: Names of the columns of ``variables``.
        rng: Random generator.
        strength: 1 for the amplitudes of this module; each event takes a random share of it, so that
            exact events are seen too.
    """
    n = len(next(iter(batch.values())))
    amount = (strength * rng.random(n)).astype(np.float32)
    for j, name in enumerate(variables if "variables" in batch else ()):
        if name in RELATIVE:
            noise = RELATIVE[name] * amount * rng.standard_normal(n, np.float32)
            batch["variables"][:, j] *= np.exp(noise)
        elif name in ABSOLUTE:
            noise = ABSOLUTE[name] * amount * rng.standard_normal(n, np.float32)
            batch["variables"][:, j] += noise
    if "stk" in batch:
        signal = batch["stk"][..., :2]
        moved = signal + STK * amount[:, None, None] * rng.standard_normal(signal.shape, np.float32)
        batch["stk"][..., :2] = np.where(signal > 0, np.maximum(moved, 0), 0)
