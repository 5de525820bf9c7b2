"""Score distributions in closed form: Gaussian electrons, protons with a long tail, which may be shifted."""

import numpy as np
from scipy import stats

from analysis.templatefit.model import FitModel
from analysis.templatefit.morphing import movable
from analysis.templates import Template

OMEGA = np.linspace(-20.0, 20.0, 201)
CUT = 4.0
N_E = np.array([40_000.0, 12_000.0, 4_000.0, 1_500.0, 500.0, 150.0])
N_P = 20.0 * N_E
ENERGY = 100.0 * 10.0 ** (0.3 * np.arange(N_E.size + 1))
LOG_E = np.log10(np.sqrt(ENERGY[1:] * ENERGY[:-1]) / 1000.0)

METHODS = ("simultaneous", "smooth", "per_bin")
S0, S1 = 0.5, 0.3  # shift of the protons in the data


def proton_cdf(x):
    return 0.9 * stats.exponnorm.cdf(x, 1.5, loc=-9.0, scale=1.0) + 0.1 * stats.norm.cdf(
        x, -2.0, 4.0
    )


def electron_cdf(x):
    return stats.norm.cdf(x, 8.0, 2.0)


PROTON_MEAN = 0.9 * (-9.0 + 1.5) + 0.1 * -2.0


def contents(cdf, *, shift=0.0, width=1.0, pivot=0.0, omega=OMEGA):
    """Share of each score bin, flow included."""
    at = cdf(pivot + (omega - shift - pivot) / width)
    return np.maximum(np.diff(at, prepend=0.0, append=1.0), 0.0)


def make(kind, values, variances=None, *, energy=None, omega=OMEGA):
    values = np.atleast_2d(values).astype(float)
    energy = ENERGY[: values.shape[0] + 1] if energy is None else energy
    variances = values if variances is None else np.atleast_2d(variances).astype(float)
    return Template(kind, "fiducial", energy, omega, values, variances.copy())


def truth(n=N_E.size, *, s0=0.0, s1=0.0, width=1.0, electron_shift=0.0):
    """Expected electrons and protons of the data, (n, 202) each."""
    electrons = np.outer(N_E[:n], contents(electron_cdf, shift=electron_shift))
    protons = [
        N_P[i] * contents(proton_cdf, shift=s0 + s1 * LOG_E[i], width=width, pivot=PROTON_MEAN)
        for i in range(n)
    ]
    return electrons, np.array(protons)


def simulation(n=N_E.size, *, rng=None, events=200_000.0, weight=1e-3):
    """Electron and proton templates; expected contents without ``rng``."""
    out = []
    for kind, cdf in (("electron", electron_cdf), ("proton", proton_cdf)):
        mean = np.tile(events * contents(cdf), (n, 1))
        counts = mean if rng is None else rng.poisson(mean)
        out.append(make(kind, weight * counts, weight**2 * counts))
    return out


def data(electrons, protons, rng=None):
    mean = electrons + protons
    return make("data", mean if rng is None else rng.poisson(mean))


def model_of(counts, edges, electrons, protons, *designs):
    """Likelihood of templates; designs of shift, width and electron shift, empty if not given."""
    none = np.zeros((counts.shape[0], 0))
    designs = [*designs, none, none, none][:3]
    both = [(movable(t), movable(t, smooth=True)) for t in (electrons, protons)]
    return FitModel(counts, edges, both[0], both[1], *designs)


def slope(function, at, k, step):
    """Central difference of a function of a vector by its element k."""
    up, down = np.array(at, float), np.array(at, float)
    up[k] += step
    down[k] -= step
    return (function(up) - function(down)) / (2.0 * step)


def off(pair, true):
    """Distance of a value with error to the truth, in errors."""
    value, error = pair
    return np.abs((value - true) / error)
