r"""Toys: expectation, pseudo-data and pseudo-simulation from a toy model.

Electrons in an energy bin: :math:`\sum_i T A_i \int f\,dE\, R_{ij}` with the acceptance A in true energy and
the response R. Protons: T times the rate under the target flux, times ``proton_scale``. In the data the proton
shape is moved by :math:`s(E) = s_0 + s_1 \log_{10}(E/E_0)` and stretched by w about its mean μ on the axis,
:math:`F'(x) = F(\mu + (x - s - \mu)/w)`; in the simulation it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fluxtable import plain
from analysis.shapes.forms import cdf
from analysis.templates import Template
from analysis.toys.model import ToyModel, ToyModelError, read_toy_model
from analysis.toys.response import Flux

__all__ = [
    "Expectation",
    "ToyModel",
    "ToyModelError",
    "draw_data",
    "draw_response",
    "draw_simulation",
    "draw_weighted",
    "expectation",
    "random_stream",
    "read_toy_model",
    "truth_table",
]

FloatArray = NDArray[np.float64]

_STREAM = 2**31  # beyond the numbers that pseudo-experiments are spawned with


@dataclass(frozen=True, eq=False)
class Expectation:
    """Expected counts; exact, without any simulation.

    Attributes:
        model: the toy model.
        electrons: (n_energy, n_omega + 2) counts, flow bins of the score first and last.
        protons: same shape.
        livetime_s: s.
        shift: (n_energy,) s(E) of the protons.
        width: stretching of the protons.
        proton_scale: factor on the proton rate.
        e0_gev: reference energy of the shift.
        coefficients: (s0, s1).
    """

    model: ToyModel
    electrons: FloatArray
    protons: FloatArray
    livetime_s: float
    shift: FloatArray
    width: float
    proton_scale: float
    e0_gev: float
    coefficients: tuple[float, float]

    def template(self, kind: str) -> Template:
        """Expected counts of ``electron``, ``proton`` or ``data``, their sum; variances 0."""
        values = {
            "electron": self.electrons,
            "proton": self.protons,
            "data": self.electrons + self.protons,
        }
        return _template(self.model, kind, values[kind], np.zeros_like(self.electrons))

    def background_fraction(self, cut: float) -> FloatArray:
        """Share of protons among all counts at or above a cut on a bin edge, shape (n_energy,).

        NaN where nothing is expected.
        """
        total = self.template("data").above(cut).value
        share = self.template("proton").above(cut).value / np.where(total > 0, total, 1.0)
        return np.where(total > 0, share, np.nan)


def expectation(
    model: ToyModel,
    electron_flux_integral: ArrayLike,
    livetime_s: float,
    *,
    flux: Flux | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    e0_gev: float = 1000.0,
    width: float = 1.0,
    proton_scale: float = 1.0,
) -> Expectation:
    """Expected counts per energy and score bin.

    Args:
        model: the toy model.
        electron_flux_integral: (n,) ∫f dE over each bin of true energy, m⁻² s⁻¹ sr⁻¹.
        livetime_s: s, > 0.
        flux: f, for its shape inside the bins; see :meth:`ToyModel.rates`.
        shift: s0 and s1 of the proton shift, in units of the score.
        e0_gev: reference energy of the shift, GeV.
        width: stretching of the proton shape about its mean on the axis, > 0.
        proton_scale: factor on the proton rate, >= 0.

    Returns:
        The expectation.

    Raises:
        ToyModelError: a number out of range, or another number of energy bins.
    """
    integral = np.asarray(electron_flux_integral, dtype=np.float64)
    good = integral.shape == model.energies.shape
    if not (good and np.all(np.isfinite(integral) & (integral >= 0))):
        msg = (
            f"the injected flux needs one integral >= 0 for each of {model.energies.size} energy bins, "
            f"got shape {integral.shape}"
        )
        raise ToyModelError(msg)
    numbers = {"livetime_s": livetime_s, "width": width, "e0_gev": e0_gev}
    for key, value in numbers.items():
        if not (np.isfinite(value) and value > 0):
            msg = f"{key} must be positive and finite, got {value!r}"
            raise ToyModelError(msg)
    if not (np.isfinite(proton_scale) and proton_scale >= 0 and np.isfinite(shift).all()):
        msg = f"proton_scale must be >= 0 and the shift finite, got {proton_scale!r} and {shift!r}"
        raise ToyModelError(msg)
    s = shift[0] + shift[1] * np.log10(model.energies / e0_gev)
    rate = livetime_s * model.electron_rate(integral, flux)
    electrons = rate[:, None] * model.shapes["electron"].values
    rate = livetime_s * proton_scale * model.proton_rate
    return Expectation(
        model=model,
        electrons=electrons,
        protons=rate[:, None] * _moved_protons(model, s, width),
        livetime_s=float(livetime_s),
        shift=s,
        width=float(width),
        proton_scale=float(proton_scale),
        e0_gev=float(e0_gev),
        coefficients=(float(shift[0]), float(shift[1])),
    )


def truth_table(truth: Expectation, cut: float) -> dict[str, Any]:
    """What a measurement with this cut should find, per energy bin.

    Args:
        truth: the expectation.
        cut: score cut on a bin edge.

    Returns:
        ``cut`` and lists per energy bin: ``e_min`` and ``e_max`` in GeV; ``n_data``, ``n_electron`` and
        ``n_proton``, expected counts above the cut; ``background_fraction``, ``efficiency``,
        ``acceptance`` in m² sr and ``proton_shift``. JSON types; None where nothing is expected.
    """
    model = truth.model
    passed = {k: truth.template(k).above(cut).value for k in ("data", "electron", "proton")}
    with np.errstate(invalid="ignore", divide="ignore"):
        share = passed["proton"] / passed["data"]
        efficiency = passed["electron"] / truth.electrons.sum(axis=1)
    columns = {
        "e_min": model.energy_edges[:-1],
        "e_max": model.energy_edges[1:],
        **{f"n_{k}": v for k, v in passed.items()},
        "background_fraction": share,
        "efficiency": efficiency,
        "acceptance": model.acceptance,
        "proton_shift": truth.shift,
    }
    return {"cut": float(cut), **plain(columns)}


def random_stream(seed: int, region: str) -> np.random.SeedSequence:
    """Seeds of a region: toys of two regions are independent also with the same seed.

    Args:
        seed: of the user, >= 0.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        For :func:`numpy.random.default_rng`; of the fiducial region that of the seed alone.
    """
    return np.random.SeedSequence(seed, spawn_key=() if region == "fiducial" else (_STREAM,))


def draw_data(truth: Expectation, rng: np.random.Generator) -> Template:
    """Poisson counts about the expectation.

    Args:
        truth: the expectation.
        rng: random numbers.

    Returns:
        Data template; variances are the counts.
    """
    counts = rng.poisson(truth.electrons + truth.protons).astype(np.float64)
    return _template(truth.model, "data", counts, counts.copy())


def draw_simulation(
    model: ToyModel,
    rng: np.random.Generator,
    *,
    electron_events: ArrayLike = 2000.0,
    proton_events: ArrayLike = 500.0,
    proton_bulk_weight: float = 1.0,
    proton_tail_share: float = 0.1,
) -> tuple[Template, Template]:
    """Simulation of finite statistics with the shapes of the model, never shifted.

    The counts of every score bin are Poisson; each event carries a weight such that the expected sum
    is the rate under the target flux. Protons may come in two classes, as from importance sampling:
    the events of the upper tail with a weight, those of the bulk with ``proton_bulk_weight`` times it.

    Args:
        model: the toy model.
        rng: random numbers.
        electron_events: expected selected events per energy bin, one number or (n,), >= 0.
        proton_events: the same for protons, of both classes together.
        proton_bulk_weight: weight of a bulk event over that of a tail event, > 0.
        proton_tail_share: the tail is where the cumulative of the proton shape is above 1 minus this.

    Returns:
        Electron and proton template, Σw in s⁻¹ and Σw².

    Raises:
        ToyModelError: a number out of range.
    """
    if not (proton_bulk_weight > 0 and 0 <= proton_tail_share <= 1):
        msg = (
            "proton_bulk_weight must be positive and proton_tail_share from 0 to 1, got "
            f"{proton_bulk_weight!r} and {proton_tail_share!r}"
        )
        raise ToyModelError(msg)
    electron = model.shapes["electron"].values
    proton = model.shapes["proton"].values
    below = np.cumsum(proton, axis=1) - proton
    relative = np.where(below >= 1 - proton_tail_share, 1.0, proton_bulk_weight)
    rate = model.electron_rate(model.target_flux_integral["electron"])
    drawn = (
        draw_weighted("electron", electron, np.ones_like(electron), rate, electron_events, rng),
        draw_weighted("proton", proton, relative, model.proton_rate, proton_events, rng),
    )
    return _template(model, "electron", *drawn[0]), _template(model, "proton", *drawn[1])


def draw_response(
    model: ToyModel, rng: np.random.Generator, electron_events: ArrayLike = 2000.0
) -> tuple[FloatArray, FloatArray]:
    """Migration of simulated electrons of finite statistics, beyond the ends of the axis as in its end bins.

    Args:
        model: the toy model.
        rng: random numbers.
        electron_events: see :func:`draw_simulation`, here per bin of true energy.

    Returns:
        Σw in s⁻¹ and Σw², (n + 2, n + 2), bins of true and reconstructed energy with flow bins.

    Raises:
        ToyModelError: a number out of range.
    """
    rates = model.rates(model.target_flux_integral["electron"])
    total = rates.sum(axis=1)
    shape = rates / np.where(total > 0, total, 1.0)[:, None]
    # of the bins that the least energy cuts, fewer
    before = model.acceptance * model.target_flux_integral["electron"]
    kept = np.minimum(total[1:-1] / before, 1.0)
    try:
        wanted = np.pad(np.broadcast_to(electron_events, before.shape) * kept, 1, mode="edge")
    except ValueError:
        wanted = np.asarray(electron_events)
    return draw_weighted("electron", shape, np.ones_like(shape), total, wanted, rng)


def _moved_protons(model: ToyModel, shift: FloatArray, width: float) -> FloatArray:
    """Proton shape of the data, sum 1 per energy bin."""
    form = model.parametrisation.smooth("proton").form
    parameters = model.proton_parameters
    inner = model.shapes["proton"].values[:, 1:-1]
    centres = 0.5 * (model.omega_edges[1:] + model.omega_edges[:-1])
    mean = ((inner @ centres) / inner.sum(axis=1))[:, None]  # the pivot of the fit
    borders = np.concatenate([[-np.inf], model.omega_edges, [np.inf]])
    x = mean + (borders - shift[:, None] - mean) / width
    return np.asarray(np.diff(cdf(form, x, parameters), axis=1))


def draw_weighted(
    kind: str,
    shape: FloatArray,
    relative: FloatArray,
    rate: FloatArray,
    events: ArrayLike,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Σw and Σw² of Poisson events.

    Args:
        kind: named in the error.
        shape: (n, m) probabilities, rows of sum 1.
        relative: (n, m) weights up to a factor per row.
        rate: (n,) expected Σw of a row.
        events: expected events of a row, one number or (n,).
        rng: random numbers.

    Returns:
        Two arrays (n, m).

    Raises:
        ToyModelError: events negative, or another number of them.
    """
    try:
        wanted = np.broadcast_to(np.asarray(events, dtype=np.float64), rate.shape)
    except ValueError:
        wanted = np.full(rate.shape, np.nan)
    if not np.all(np.isfinite(wanted) & (wanted >= 0)):
        msg = f"{kind} events: one number >= 0, or one for each of {rate.size} bins, got {events!r}"
        raise ToyModelError(msg)
    wanted = np.where(rate > 0, wanted, 0.0)  # bins below the least energy
    per_rate = np.sum(shape / relative, axis=1)  # events of weight 1 per unit of rate
    unit = rate * per_rate / np.where(wanted > 0, wanted, 1.0)
    weight = unit[:, None] * relative
    some = (wanted > 0)[:, None]
    mean = np.where(some, rate[:, None] * shape / np.where(some, weight, 1.0), 0.0)
    counts = rng.poisson(mean)
    return counts * weight, counts * weight**2


def _template(model: ToyModel, kind: str, values: FloatArray, variances: FloatArray) -> Template:
    return Template(kind, model.region, model.energy_edges, model.omega_edges, values, variances)
