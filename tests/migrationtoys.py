"""Energy migration in closed form: responses, spectra and expected counts without any event.

Energies are integrated over each true bin with 32 Gauss-Legendre nodes in ln E, also for the truth, so
that the change of a spectrum inside a bin, which a binned response does not know, is in the counts.
"""

import numpy as np
from scipy import special

from analysis.migration.response import response_from_sums

EDGES = 10 ** (1.38 + 0.06 * np.arange(12, 39))  # 126 GeV to 4.6 TeV, the bins of the analysis
LIVETIME_S = 1.2e7
AREA_M2SR = 0.3
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def fiducial(x):
    """Cumulative of ln(E_reco / E_true): Gaussian of 1 %."""
    return special.ndtr(x / 0.01)


def leaking(x):
    """80 % Gaussian of 7 %, 20 % leak with an exponential tail of 0.35 to low energies."""
    return 0.8 * special.ndtr(x / 0.07) + 0.2 * np.exp(np.minimum(x, 0.0) / 0.35)


def perfect(x):
    return np.where(x >= 0, 1.0, 0.0)


def power_law(energy, index=3.1):
    return 1.62e-4 * (energy / 100.0) ** -index


def broken(energy):
    """E^-3.1 with a break to E^-3.9 at 0.9 TeV, as smooth as in the publication."""
    return power_law(energy) * (1 + (energy / 900.0) ** 8.0) ** -0.1


def cutoff(energy):
    return power_law(energy) * np.exp(-energy / 3000.0)


def sharp(energy):
    """A cut-off that no member of the target's family comes close to."""
    return power_law(energy) * np.exp(-((energy / 3000.0) ** 4.0))


def integral(spectrum, edges=EDGES):
    """∫Φ dE over each bin."""
    return _quadrature(spectrum, np.asarray(edges))[1].sum(axis=1)


def rates(cumulative, spectrum, edges=EDGES):
    """(m + 2, n + 2) events per second over true and reconstructed energy, flow bins included."""
    beyond = np.geomspace(1.0, 5.0, 13)
    wide = np.concatenate([edges[0] / beyond[:0:-1], edges, edges[-1] * beyond[1:]])
    energy, weight = _quadrature(spectrum, wide)
    borders = np.log(np.concatenate([[1e-9], edges, [1e12]]))
    steps = np.diff(cumulative(borders - np.log(energy)[..., None]), axis=-1)
    fine = AREA_M2SR * np.einsum("jq,jqi->ji", weight, steps)
    flow = beyond.size - 1
    return np.vstack([fine[:flow].sum(axis=0), fine[flow:-flow], fine[-flow:].sum(axis=0)])


def synthetic_response(cumulative, target=broken, edges=EDGES, weight=0.0):
    """Response of an endless simulation (``weight`` 0), or of one whose events have this weight."""
    content = rates(cumulative, target, edges)
    return response_from_sums(content, weight * content, integral(target, edges), edges, edges)


def expected(cumulative, truth, efficiency, livetime_s=LIVETIME_S, edges=EDGES):
    """(n,) expected counts above the score cut."""
    return livetime_s * efficiency * rates(cumulative, truth, edges)[:, 1:-1].sum(axis=0)


def dnde(spectrum, edges=EDGES):
    """Flux averaged over each bin."""
    return integral(spectrum, edges) / np.diff(edges)


def _quadrature(spectrum, edges):
    low, high = np.log(edges[:-1, None]), np.log(edges[1:, None])
    energy = np.exp((low + high) / 2 + (high - low) / 2 * _NODES)
    return energy, spectrum(energy) * energy * _WEIGHTS * (high - low) / 2
