r"""Closure of the template fit: pseudo-experiments with a known answer, and how far the results lie from it.

In each pseudo-experiment the data are drawn about the expectation of a toy model whose protons are shifted, and
the templates from a simulation of finite statistics that knows nothing of the shift. Fit, background and flux
are the functions of the measurement. A pull is the distance to the truth over the error on its side, so that
the 68 % interval covers the truth where its modulus is at most 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.background import Background, fitted_background, proton_background
from analysis.closureflux import (
    WAYS,
    Way,
    bin_integrals,
    corrected,
    draw_migration,
    errors,
    expected_bias,
    uncorrected,
)
from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable
from analysis.templatefit import FitSettings, fit_templates
from analysis.toys.draw import (
    Expectation,
    draw_data,
    draw_simulation,
    expectation,
    random_stream,
)
from analysis.toys.model import ToyModel
from analysis.toys.response import Flux

__all__ = ["QUANTITIES", "WITH_MIGRATION", "Closure", "closure"]

FloatArray = NDArray[np.float64]

#: What a closure looks at, per energy bin.
QUANTITIES = (
    "electrons",
    "protons",
    "shift",
    "background",
    "background_fraction",
    "flux",
    "sideband_background",
    "sideband_flux",
)
#: Pulls of the flux with what other spectra do to the correction of migration among the errors.
WITH_MIGRATION = "flux_with_migration"
_RATIOS = ("background", "flux")


@dataclass(frozen=True, eq=False)
class Closure:
    """Pulls of pseudo-experiments.

    Attributes:
        e_min: (n_energy,) lower edges, GeV.
        e_max: upper edges, GeV.
        expected: (n_energy,) events above the cut that are expected in the data.
        migration: how the flux was corrected for migration: ``none``, ``bin_by_bin`` or ``folding``.
        truth: true value of each quantity per energy bin; of the coefficients ``s0`` and ``s1``.
        pulls: (number, n_energy) per name of :data:`QUANTITIES`; NaN where there is no result, −inf where
            a yield ended at its limit 0 and has no error. The errors of the flux are those of data and
            simulation; with a correction of migration there is :data:`WITH_MIGRATION` too.
        ratios: (number, n_energy) found over true background and flux, of the fit (``background``, ``flux``)
            and of the control region without a shift (``sideband_background``, ``sideband_flux``); with a
            correction of migration also of the flux by that and by each simpler way (``flux_none``,
            ``flux_bin_by_bin``, ``flux_folding``). NaN where the true flux is 0.
        bias: with a correction of migration, by correction: (n_energy,) flux over the true one without any
            fluctuation (:func:`analysis.closureflux.expected_bias`); else empty.
        coefficients: (number, 2) pulls of s0 and s1; NaN if the fit has none.
        deviance: (number,) deviance of the fit.
        ndf: (number,) score bins less parameters.
        failed: (n_energy,) fits without a result.
    """

    e_min: FloatArray
    e_max: FloatArray
    expected: FloatArray
    migration: Way
    truth: Mapping[str, FloatArray]
    pulls: Mapping[str, FloatArray]
    ratios: Mapping[str, FloatArray]
    bias: Mapping[Way, FloatArray]
    coefficients: FloatArray
    deviance: FloatArray
    ndf: FloatArray
    failed: NDArray[np.intp]

    @property
    def number(self) -> int:
        """Pseudo-experiments."""
        return int(self.deviance.size)

    def mean(self, name: str) -> FloatArray:
        """Mean pull per energy bin, of s0 and s1 for ``coefficients``; NaN without results.

        Args:
            name: one of :data:`QUANTITIES`, or ``coefficients``.
        """
        pull, known = self._finite(name)
        return np.asarray(pull.sum(axis=0) / _number(known, 1))

    def width(self, name: str) -> FloatArray:
        """Standard deviation of the pulls per energy bin.

        Args:
            name: as for :meth:`mean`.
        """
        pull, known = self._finite(name)
        square = np.where(known, (pull - self.mean(name)) ** 2, 0.0).sum(axis=0)
        return np.asarray(np.sqrt(square / (_number(known, 2) - 1.0)))

    def coverage(self, name: str) -> FloatArray:
        """Share of the pseudo-experiments whose interval contains the truth, per energy bin.

        Args:
            name: as for :meth:`mean`.
        """
        pull = self._pull(name)
        known = ~np.isnan(pull)
        inside = known & (np.abs(np.where(known, pull, np.inf)) <= 1.0)
        return np.asarray(inside.sum(axis=0) / _number(known, 1))

    def ratio(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Mean of found over true per energy bin, and its standard error; NaN without results.

        Args:
            name: a key of ``ratios``.
        """
        known = np.isfinite(self.ratios[name])
        value = np.where(known, self.ratios[name], 0.0)
        mean = np.asarray(value.sum(axis=0) / _number(known, 1))
        return mean, self.spread(name) / np.sqrt(_number(known, 2))

    def spread(self, name: str) -> FloatArray:
        """Standard deviation of found over true per energy bin; NaN without results.

        Args:
            name: a key of ``ratios``.
        """
        known = np.isfinite(self.ratios[name])
        value = np.where(known, self.ratios[name], 0.0)
        mean = value.sum(axis=0) / _number(known, 1)
        square = np.where(known, (value - mean) ** 2, 0.0).sum(axis=0)
        return np.asarray(np.sqrt(square / (_number(known, 2) - 1.0)))

    def _pull(self, name: str) -> FloatArray:
        return self.coefficients if name == "coefficients" else self.pulls[name]

    def _finite(self, name: str) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Pulls with 0 where there is none, and where there is one."""
        pull = self._pull(name)
        known = np.isfinite(pull)
        return np.where(known, pull, 0.0), known


def closure(
    model: ToyModel,
    number: int,
    seed: int,
    settings: FitSettings | None = None,
    *,
    livetime_s: float,
    shift: tuple[float, float] = (0.8, 0.4),
    electron_events: ArrayLike = 100_000.0,
    proton_events: ArrayLike = 400_000.0,
    proton_bulk_weight: float = 10.0,
    flux_integral: ArrayLike | None = None,
    spectrum: Flux | None = None,
    migration: Way | Literal["auto"] = "auto",
    cut: float | None = None,
    control: tuple[float, float] | None = None,
) -> Closure:
    """Draw pseudo-experiments, fit them, and compare with what was injected.

    Without a correction of migration the acceptance is exact: expected electrons over flux integral, bin by
    bin, so that migration is no part of the result. With one, acceptance and response are drawn for each
    pseudo-experiment with ``electron_events`` per bin, weighted to the target spectrum of the model, and the
    flux goes through :func:`analysis.migration.correction.migrated` as in a measurement; the truth is the mean
    of the injected flux over each bin. ``sys_migration``, the distance of two treatments, is not of one
    Gaussian: the pulls of the flux are made without it, and once more with it.

    Args:
        model: the toy model.
        number: pseudo-experiments, > 0.
        seed: of the random numbers; the same seed gives the same pulls.
        settings: of the fit; default :class:`FitSettings`.
        livetime_s: s.
        shift: injected s0 and s1 of the proton shift at ``settings.e0_gev``.
        electron_events: simulated electrons per energy bin, one number or (n,).
        proton_events: simulated protons, the same.
        proton_bulk_weight: weight of a proton outside the upper tail over that of one in it.
        flux_integral: (n,) ∫f dE of the injected electrons, m⁻² s⁻¹ sr⁻¹; default that of ``spectrum``,
            without one the target of the model.
        spectrum: f, for its shape inside the bins; see :meth:`ToyModel.rates`.
        migration: ``none``, ``bin_by_bin``, ``folding``, or ``auto``: none for fiducial, else folding.
        cut: score cut; default that of the model.
        control: control region of the background without a shift; default that of the model.

    Returns:
        Pulls and what they refer to.

    Raises:
        AnalysisError: ``number`` is not positive, or an unknown way to correct migration.
        ToyModelError: a number out of range.
    """
    if number < 1:
        msg = f"closure needs at least one pseudo-experiment, got {number}"
        raise AnalysisError(msg)
    settings = settings or FitSettings()
    cut = float(model.score["cut"]) if cut is None else cut
    low, high = model.score["control"] if control is None else control
    way = _way(migration, model.region)
    injected = _injected(model, flux_integral, spectrum)
    known = expectation(
        model, injected, livetime_s, flux=spectrum, shift=shift, e0_gev=settings.e0_gev
    )
    truth = _truth(known, injected, cut)
    acceptance = known.electrons.sum(axis=1) / np.where(injected > 0, livetime_s * injected, np.nan)

    size = model.energies.size
    compared = [n for n in QUANTITIES if n.endswith(_RATIOS)]
    wanted = list(QUANTITIES)
    if way != "none":
        wanted += [WITH_MIGRATION]
        compared += [f"flux_{w}" for w in WAYS[: WAYS.index(way) + 1]]
    pulls = {name: np.full((number, size), np.nan) for name in wanted}
    ratios = {name: np.full((number, size), np.nan) for name in compared}
    coefficients = np.full((number, 2), np.nan)
    deviance, ndf = np.zeros(number), np.zeros(number)
    failed = np.zeros(size, dtype=np.intp)
    for i, own in enumerate(random_stream(seed, model.region).spawn(number)):
        rng = np.random.default_rng(own)
        data = draw_data(known, rng)
        electrons, protons = draw_simulation(
            model,
            rng,
            electron_events=electron_events,
            proton_events=proton_events,
            proton_bulk_weight=proton_bulk_weight,
        )
        fit = fit_templates(data, electrons, protons, settings, cut=cut)
        fitted = fitted_background(fit, data, protons, cut)
        plain = proton_background(data, protons, cut, (low, high))
        found = {
            "electrons": fit.electrons,
            "protons": fit.protons,
            "shift": fit.shift,
            "background": (fitted.value, fitted.error),
            "background_fraction": (fitted.fraction, _fraction_error(fitted)),
            "sideband_background": (plain.value, plain.error),
        }
        results = {name: (value, error, error) for name, (value, error) in found.items()}
        made = None if way == "none" else draw_migration(model, rng, electron_events)
        for name, background in (("flux", fitted), ("sideband_flux", plain)):
            if made is None:
                tables = {way: uncorrected(background, electrons, acceptance, 0.0, livetime_s)}
            else:
                tables = corrected(background, electrons, made, livetime_s, model.region, way)
            results |= _values(name, tables, way)
        for name, pull in pulls.items():
            value, down, up = results[name]
            pull[i] = _pull(value, truth[_base(name)], down, up)
        for name, ratio in ratios.items():
            true = truth[_base(name)]
            ratio[i] = results[name][0] / np.where(true > 0, true, np.nan)
        for k, name in enumerate(("s0", "s1")):
            if settings.method != "per_bin" and name in fit.coefficients:
                value, error = (np.array([x]) for x in fit.coefficients[name])
                coefficients[i, k] = _pull(value, truth[name], error, error)[0]
        deviance[i], ndf[i] = np.nansum(fit.deviance), fit.ndf
        failed += ~fit.success
    return Closure(
        e_min=model.energy_edges[:-1].copy(),
        e_max=model.energy_edges[1:].copy(),
        expected=known.template("data").above(cut).value,
        migration=way,
        truth=truth,
        pulls=pulls,
        ratios=ratios,
        bias={} if way == "none" else expected_bias(known, injected, cut),
        coefficients=coefficients,
        deviance=deviance,
        ndf=ndf,
        failed=failed,
    )


def _number(known: NDArray[np.bool_], least: int) -> FloatArray:
    """Results per energy bin, NaN where there are fewer than ``least``."""
    number = known.sum(axis=0)
    return np.where(number >= least, number, np.nan)


def _way(migration: Way | Literal["auto"], region: str) -> Way:
    """How migration is corrected."""
    if migration == "auto":
        return "none" if region == "fiducial" else "folding"
    if migration not in WAYS:
        msg = f"migration is corrected by auto, {', '.join(WAYS)}, not by {migration!r}"
        raise AnalysisError(msg)
    return migration


def _values(
    name: str, tables: Mapping[Way, FluxTable], way: Way
) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
    """Flux with its errors downwards and upwards, of the chosen way and of all beside it."""
    table = tables[way]
    values = {f"{name}_{w}": (t.dnde, *errors(t)) for w, t in tables.items()}
    values[f"{name}_with_migration"] = (table.dnde, *errors(table))
    return values | {name: (table.dnde, *errors(table, without={"migration"}))}


def _base(name: str) -> str:
    """The quantity of which a name is a variant."""
    return "flux" if name.startswith("flux_") else name


def _injected(
    model: ToyModel, flux_integral: ArrayLike | None, spectrum: Flux | None
) -> FloatArray:
    """∫f dE of the injected electrons."""
    if flux_integral is not None:
        return np.asarray(flux_integral, dtype=np.float64)
    if spectrum is not None:
        return bin_integrals(spectrum, model.energy_edges)
    return np.asarray(model.target_flux_integral["electron"])


def _truth(known: Expectation, injected: FloatArray, cut: float) -> dict[str, FloatArray]:
    """What the results should be."""
    protons = known.template("proton").above(cut).value
    dnde = injected / np.diff(known.model.energy_edges)
    return {
        "electrons": known.electrons.sum(axis=1),
        "protons": known.protons.sum(axis=1),
        "shift": known.shift,
        "background": protons,
        "background_fraction": known.background_fraction(cut),
        "flux": dnde,
        "sideband_background": protons,
        "sideband_flux": dnde,
        "s0": np.array([known.coefficients[0]]),
        "s1": np.array([known.coefficients[1]]),
    }


def _fraction_error(background: Background) -> FloatArray:
    """Error of the fraction as an estimate of the expected one: the counts fluctuate as well."""
    counts = background.fraction / np.sqrt(np.maximum(background.n_data, 1.0))
    return np.asarray(np.hypot(background.fraction_error, counts))


def _pull(value: FloatArray, truth: FloatArray, down: FloatArray, up: FloatArray) -> FloatArray:
    """Distance to the truth over the error on its side."""
    error = np.where(value > truth, down, up)
    off = value - truth
    pull = off / np.where(error > 0, error, 1.0)
    # no error, as that of a yield at its limit: an interval of one point
    beside = np.where(off == 0, 0.0, np.copysign(np.inf, off))
    return np.where(error > 0, pull, np.where(np.isnan(error), np.nan, beside))
