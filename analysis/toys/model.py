"""Toy models: all that is needed to make histogram files of a run out of formulas."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr

from analysis.acceptance import acceptance_from_histogram
from analysis.exceptions import AnalysisError
from analysis.shapes.file import from_dict, read_json, rounded, to_dict, write_json
from analysis.shapes.parametrisation import Parametrisation
from analysis.shapes.smooth import ParametrisationError, log_tev, spline_matrix
from analysis.templates import Template, inner_bins, select, template

__all__ = [
    "SCHEMA",
    "ToyModel",
    "ToyModelError",
    "read_toy_model",
    "shipped",
    "toy_model",
    "write_toy_model",
]

FloatArray = NDArray[np.float64]

SCHEMA = "cre-toy-model/1"
_RATE_KNOTS = 7
_RESPONSE_KNOTS = 3
_PLACES = 100  # energies of a bin at which the response is taken
_SMALLEST = 1e-12  # share of migrating events that is written
_DIGITS = 7


class ToyModelError(AnalysisError):
    """A toy model that is missing or malformed, or a toy that cannot be made."""


@dataclass(frozen=True, eq=False)
class ToyModel:
    """What a toy needs beside the injected spectrum; n energy bins.

    Attributes:
        name: of the model.
        parametrisation: score shapes of electrons and protons.
        score: ``name``, ``cut``, ``control`` and where it has one ``strategy``.
        omega_edges: (n_omega + 1,) evenly spaced.
        omega_label: axis label.
        bgo: BGO reconstruction.
        acceptance: (n,) m² sr, electrons before the score cut, in bins of true energy.
        proton_rate: (n,) selected protons per second under the target flux, in bins of energy.
        response: (n, n + 2) share of selected electrons of a true-energy bin in each energy bin, flow
            bins first and last; rows of sum 1.
        target_spectrum: ``electron`` and ``proton``, as in cards.
        target_flux_integral: (n,) each, m⁻² s⁻¹ sr⁻¹.
        meta: where it came from.
    """

    name: str
    parametrisation: Parametrisation
    score: Mapping[str, Any]
    omega_edges: FloatArray
    omega_label: str
    bgo: str
    acceptance: FloatArray
    proton_rate: FloatArray
    response: FloatArray
    target_spectrum: Mapping[str, Any]
    target_flux_integral: Mapping[str, FloatArray]
    meta: Mapping[str, Any]

    @property
    def region(self) -> str:
        """``fiducial`` or ``topfiducial``."""
        return self.parametrisation.region

    @property
    def energy_edges(self) -> FloatArray:
        """(n + 1,) GeV."""
        return self.parametrisation.energy_edges

    @property
    def energies(self) -> FloatArray:
        """(n,) geometric means of the bins, GeV: where the shapes are taken."""
        return np.asarray(np.sqrt(self.energy_edges[1:] * self.energy_edges[:-1]))

    @cached_property
    def shapes(self) -> Mapping[str, Template]:
        """Templates of sum 1 of electrons and protons, as in the simulation."""
        return {
            kind: self.parametrisation.template(kind, self.energy_edges, self.omega_edges)
            for kind in ("electron", "proton")
        }

    @cached_property
    def proton_parameters(self) -> FloatArray:
        """Shape parameters of the protons per energy bin, the mode first, shape (n, p)."""
        return self.parametrisation.smooth("proton").parameters(self.energies)

    def selected(self, flux_integral: FloatArray) -> FloatArray:
        """Selected electrons per second in bins of true energy, one more at either end, shape (n + 2,).

        Beyond the ends the spectrum goes on as from the last bin but one to the last: without it the end
        bins would lack what migrates into them.
        """
        rate = self.acceptance * flux_integral
        beyond = [
            rate[end] ** 2 / rate[next_to] if rate[next_to] > 0 else 0.0
            for end, next_to in ((0, 1), (-1, -2))
        ]
        return np.concatenate([beyond[:1], rate, beyond[1:]])

    @cached_property
    def full_response(self) -> FloatArray:
        """(n + 2, n + 2): the response, and for the bins beyond the ends that of the last bin."""
        below, above = (np.zeros((1, self.energies.size + 2)) for _ in range(2))
        below[0, 1] = self.response[0, 2]
        above[0, -2] = self.response[-1, -3]
        below[0, 0], above[0, -1] = 1 - below[0, 1], 1 - above[0, -2]
        return np.concatenate([below, self.response, above])

    def electron_rate(self, flux_integral: FloatArray) -> FloatArray:
        """Selected electrons per second in bins of energy, from ∫f dE in bins of true energy."""
        return np.asarray((self.selected(flux_integral) @ self.full_response)[1:-1])


def toy_model(
    hists: Mapping[str, Hist[Any]],
    meta: Mapping[str, Any],
    parametrisation: Parametrisation,
    *,
    name: str,
    source: Mapping[str, Any] | None = None,
) -> ToyModel:
    """Make a toy model from simulation and its parametrisation.

    Acceptance and proton rate are smoothed: their logarithm, per GeV for the rate, is a natural spline
    with seven knots in log10 E, fitted with the errors of the simulation. The response is a Gaussian in
    ln E whose bias and width have three knots each.

    Args:
        hists: histograms of one choice (:func:`analysis.selection.project`).
        meta: their metadata.
        parametrisation: of the templates of these histograms.
        name: of the model.
        source: how the simulation was made, for the head of the file.

    Returns:
        The model.

    Raises:
        ToyModelError: no cut, uneven score bins, or fewer than eight bins with acceptance and protons.
        HistogramMismatchError: a histogram or category is missing.
    """
    if "cut" not in (meta.get("score") or {}):
        msg = "a toy model needs the cut and the control region: take the score of the run card"
        raise ToyModelError(msg)
    region = parametrisation.region
    axis: Any = hists["score"].axes["omega"]
    edges = np.asarray(axis.edges, dtype=np.float64)
    if not np.allclose(np.diff(edges), edges[1] - edges[0], rtol=1e-6):
        msg = "the score bins are not evenly spaced; toys are made for even bins"
        raise ToyModelError(msg)
    flux = {k: np.asarray(v, dtype=np.float64) for k, v in meta["target_flux_integral"].items()}
    area = acceptance_from_histogram(hists["passed"], flux["electron"], region=region)
    protons = template(hists["score"], "proton", region).total()
    energy = parametrisation.energy_edges
    width = np.diff(energy)
    x = log_tev(np.sqrt(energy[1:] * energy[:-1]))
    relative = area.error / area.value
    rate = _smooth_positive(
        x,
        protons.value / width,
        np.sqrt(protons.variance) / np.where(protons.value > 0, protons.value, 1),
    )
    part = select(
        hists["response"], "response", ("energy_true", "energy"), kind="electron", region=region
    )
    return ToyModel(
        name=name,
        parametrisation=parametrisation,
        score=dict(meta["score"]),
        omega_edges=edges,
        omega_label=str(axis.label),
        bgo=str(meta["bgo_reconstruction"]),
        acceptance=_smooth_positive(x, area.value, relative),
        proton_rate=rate * width,
        response=_smooth_response(energy, *inner_bins(part, "response")),
        target_spectrum=dict(meta["target_spectrum"]),
        target_flux_integral=flux,
        meta=dict(source or {}),
    )


def _smooth_positive(x: FloatArray, value: FloatArray, relative: FloatArray) -> FloatArray:
    """Exponential of a spline through ln(value) with relative errors."""
    good = np.isfinite(value) & (value > 0) & np.isfinite(relative) & (relative > 0)
    if good.sum() <= _RATE_KNOTS:
        msg = f"only {int(good.sum())} energy bins have simulated events; a toy model needs more"
        raise ToyModelError(msg)
    matrix = spline_matrix(np.linspace(x[good].min(), x[good].max(), _RATE_KNOTS), x)
    weight = 1.0 / relative[good]
    fit = np.linalg.lstsq(matrix[good] * weight[:, None], np.log(value[good]) * weight, rcond=None)
    return np.asarray(np.exp(matrix @ fit[0]))


def _smooth_response(edges: FloatArray, values: FloatArray, variances: FloatArray) -> FloatArray:
    """Response of a Gaussian in ln E whose bias and width are fitted to the simulated migration.

    The simulated matrix has the noise of few migrating events, which would be wiggles of the toy's truth.
    """
    total = values.sum(axis=1)
    good = total > 0
    x = log_tev(np.sqrt(edges[1:] * edges[:-1]))
    matrix = spline_matrix(np.linspace(x[good].min(), x[good].max(), _RESPONSE_KNOTS), x)
    row = np.arange(x.size)[good]
    share = values[good] / total[good, None]
    # of a share: without the correlation with the total, which is small for the few that migrate
    error = np.sqrt(variances[good]) / total[good, None]
    single = np.sqrt(variances[good].sum(axis=1)) / total[good] / np.sqrt(total[good].size)

    def moved(p: FloatArray) -> tuple[FloatArray, FloatArray]:
        return matrix @ p[:_RESPONSE_KNOTS], np.exp(matrix @ p[_RESPONSE_KNOTS:])

    def pulls(p: FloatArray) -> FloatArray:
        expected = _gaussian_response(edges, *moved(p))[good]
        out = []
        for side in (row, row + 2):  # the neighbours below and above; bin j is in column j + 1
            at = (np.arange(row.size), side)
            out.append((share[at] - expected[at]) / np.hypot(error[at], 0.1 * single))
        return np.concatenate(out)

    start = np.repeat([0.0, np.log(0.01)], _RESPONSE_KNOTS)
    return _gaussian_response(edges, *moved(least_squares(pulls, start).x))


def _gaussian_response(edges: FloatArray, bias: FloatArray, sigma: FloatArray) -> FloatArray:
    """Shares (n, n + 2) of events E^-3 in true energy, ln E smeared in each bin of true energy."""
    borders = np.concatenate([[-np.inf], np.log(edges), [np.inf]])
    step = (np.arange(_PLACES) + 0.5) / _PLACES
    log_e = np.log(edges[:-1, None]) + step * np.diff(np.log(edges))[:, None]
    weight = np.exp(-2.0 * log_e)  # E^-3 dE = E^-2 dlnE
    weight /= weight.sum(axis=1, keepdims=True)
    z = (borders - log_e[:, :, None] - bias[:, None, None]) / sigma[:, None, None]
    return np.asarray(np.einsum("ik,ikj->ij", weight, np.diff(ndtr(z), axis=2)))


def shipped() -> list[str]:
    """Names of the shipped models."""
    return sorted(
        p.name.removesuffix(".json")
        for p in resources.files(__package__).iterdir()
        if p.name.endswith(".json")
    )


def read_toy_model(name_or_path: str | os.PathLike[str]) -> ToyModel:
    """Read a shipped model by its name, or a file.

    Args:
        name_or_path: such as ``synthetic_omega``, or a path that ends in .json.

    Returns:
        The model.

    Raises:
        ToyModelError: there is no such model, or the file is malformed.
    """
    text = os.fspath(name_or_path)
    if not text.endswith(".json") and text not in shipped():
        msg = f"no toy model {text!r}; shipped are {', '.join(shipped())}, a file ends in .json"
        raise ToyModelError(msg)
    try:
        if text.endswith(".json"):
            return _from_dict(read_json(text))
        with resources.as_file(resources.files(__package__) / f"{text}.json") as path:
            return _from_dict(read_json(path))
    except ParametrisationError as error:
        msg = f"toy model {text}: {error}"
        raise ToyModelError(msg) from error


def write_toy_model(
    model: ToyModel, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a model; arrays with seven significant digits, shape coefficients in full.

    Raises:
        FileExistsError: the file exists and ``overwrite`` is not set.
    """
    rows = []
    for row in model.response:
        at = np.flatnonzero(row > _SMALLEST)
        rows.append([int(at[0]), *rounded(row[at[0] : at[-1] + 1].tolist(), _DIGITS)])
    content = {
        "schema": SCHEMA,
        "meta": {"synthetic": True, **model.meta},
        "name": model.name,
        "score": dict(model.score),
        "omega": {
            "bins": model.omega_edges.size - 1,
            "low": float(model.omega_edges[0]),
            "high": float(model.omega_edges[-1]),
            "label": model.omega_label,
        },
        "bgo_reconstruction": model.bgo,
        "acceptance_m2sr": rounded(model.acceptance.tolist(), _DIGITS),
        "proton_rate_per_s": rounded(model.proton_rate.tolist(), _DIGITS),
        "response_rows": rows,
        "target_spectrum": dict(model.target_spectrum),
        "target_flux_integral": {
            k: rounded(v.tolist(), None) for k, v in model.target_flux_integral.items()
        },
        "parametrisation": to_dict(model.parametrisation, _DIGITS),
    }
    write_json(content, path, overwrite=overwrite)


def _from_dict(content: Any) -> ToyModel:
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, Mapping) else type(content).__name__
        msg = f"schema {found!r}, this program reads {SCHEMA!r}"
        raise ParametrisationError(msg)
    try:
        parametrisation = from_dict(content["parametrisation"])
        n = parametrisation.energy_edges.size - 1
        response = np.zeros((n, n + 2))
        for row, (first, *values) in zip(response, content["response_rows"], strict=True):
            row[first : first + len(values)] = values
        response /= response.sum(axis=1, keepdims=True)  # sum 1 to the last digit again
        omega = content["omega"]
        arrays = {
            "acceptance": np.array(content["acceptance_m2sr"], dtype=np.float64),
            "proton_rate": np.array(content["proton_rate_per_s"], dtype=np.float64),
        }
        flux = {
            k: np.array(content["target_flux_integral"][k], dtype=np.float64)
            for k in ("electron", "proton")
        }
        model = ToyModel(
            name=str(content["name"]),
            parametrisation=parametrisation,
            score={k: content["score"][k] for k in content["score"]},
            omega_edges=np.linspace(omega["low"], omega["high"], omega["bins"] + 1),
            omega_label=str(omega["label"]),
            bgo=str(content["bgo_reconstruction"]),
            response=response,
            target_spectrum=dict(content["target_spectrum"]),
            target_flux_integral=flux,
            meta=dict(content["meta"]),
            **arrays,
        )
    except KeyError as error:
        msg = f"no entry {error}"
        raise ParametrisationError(msg) from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        msg = f"malformed: {error}"
        raise ParametrisationError(msg) from error
    for key, values in {**arrays, **flux}.items():
        if values.shape != (n,) or not np.all(np.isfinite(values) & (values > 0)):
            msg = f"{key} needs {n} positive numbers, one per energy bin"
            raise ParametrisationError(msg)
    return model
