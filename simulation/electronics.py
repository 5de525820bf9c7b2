"""From energy deposits to the bar energies that the detector reads.

The numbers are those at which the parametric showers were held against full simulation (see
``docs/physics.md``): 1 % spread of the bar gains, 0.5 MeV bar noise and a threshold of 2 MeV, four
times the noise; besides, the common scale of an event (temperature, time) is known to 0.4 %, which
brings the energy resolution near the experiment's 1 %. Quenching and saturation do not matter for electrons below 10 TeV and are left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["GAIN_SPREAD", "MIP_MEV", "NOISE_MEV", "SCALE_SPREAD", "THRESHOLD_MEV", "digitise"]

#: Relative spread of the calibration of a bar, drawn anew in each event (it drifts in orbit).
GAIN_SPREAD = 0.01
#: Relative spread of the common scale of all bars of an event.
SCALE_SPREAD = 0.004
NOISE_MEV = 0.5
THRESHOLD_MEV = 2.0
#: Most probable energy of a minimum-ionising particle crossing one bar of 25 mm.
MIP_MEV = 23.0


def digitise(
    bgo_gev: npt.NDArray[np.floating], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Bar energies with gain spread, noise and threshold.

    Args:
        bgo_gev: Noiseless deposits, shape (n, 14, 22), GeV.
        rng: Random generator.

    Returns:
        Bar energies in MeV, shape (n, 14, 22), float32; bars below the threshold hold 0.
    """
    mev = np.asarray(bgo_gev, np.float32) * np.float32(1e3)
    mev *= np.float32(1.0) + np.float32(GAIN_SPREAD) * rng.standard_normal(mev.shape, np.float32)
    scale = 1.0 + SCALE_SPREAD * rng.standard_normal(len(mev))
    mev *= scale.astype(np.float32)[:, None, None]
    mev += np.float32(NOISE_MEV) * rng.standard_normal(mev.shape, np.float32)
    mev[mev < THRESHOLD_MEV] = 0.0
    return mev
