"""Toy models: all that is needed to make histogram files of a run out of formulas."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.acceptance import acceptance_from_histogram
from analysis.exceptions import AnalysisError
from analysis.shapes.file import from_dict, read_json, rounded, to_dict, write_json
from analysis.shapes.parametrisation import Parametrisation
from analysis.shapes.smooth import ParametrisationError, log_tev, spline_matrix
from analysis.templates import Template, inner_bins, select, template
from analysis.toys.response import (
    CLEAR,
    REACH,
    Flux,
    Kernel,
    Migration,
    filled_rows,
    kernel_dict,
    kernel_from,
    kernel_of,
    share_rows,
    sharing_chi2,
    smooth_response,
)

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
_TINY = 1e-300
_MARGIN = 1.1  # times the least energy of the run, where the toys may begin
_DIGITS = 7
_ENERGY_LABEL = "corrected energy (GeV)"


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
        acceptance: (n,) m² sr, electrons before the score cut and the cut on the least energy, in bins of true
            energy.
        proton_rate: (n,) selected protons per second under the target flux, in bins of energy.
        response: (n, n + 2) share of selected electrons of a true-energy bin in each energy bin, flow
            bins first and last; rows of sum 1, for the target spectrum.
        target_spectrum: ``electron`` and ``proton``, as in cards.
        target_flux_integral: (n,) each, m⁻² s⁻¹ sr⁻¹.
        meta: where it came from.
        energy_label: of the energy axis.
        energy: ``meta["energy"]`` of the run, the networks that the energy comes from; empty without.
        kernel: what the response was made of, for other spectra inside the bins and for energies beyond the
            axis; None if there is only the response.
        least_gev: an edge; bins below it, to which the run's cut ``energy_range`` reaches, are empty. 0 if there
            are none; only with a kernel.
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
    energy_label: str = _ENERGY_LABEL
    energy: Mapping[str, Any] = field(default_factory=dict)
    kernel: Kernel | None = None
    least_gev: float = 0.0

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

    @cached_property
    def _migration(self) -> Migration | None:
        if self.kernel is None:
            return None
        return Migration(self.kernel, self.energy_edges, self.least_gev)

    @property
    def simulated_gev(self) -> tuple[float, float]:
        """True energies of the toys: beyond the ends of the axis too, or the end bins would lack events."""
        edges = self.energy_edges
        if self.kernel is None:
            return float(edges[0] ** 2 / edges[1]), float(edges[-1] ** 2 / edges[-2])
        return float(edges[0] / REACH), float(edges[-1] * REACH)

    def rates(self, flux_integral: FloatArray, flux: Flux | None = None) -> FloatArray:
        """Selected electrons per second in bins of true and reconstructed energy.

        Args:
            flux_integral: (n,) ∫f dE in bins of true energy, m⁻² s⁻¹ sr⁻¹.
            flux: f itself, for its shape inside the bins and beyond them; only a model with a kernel uses
                it, default a power law between neighbours.

        Returns:
            (n + 2, n + 2), flow bins first and last. Without a kernel the true energies go on for one bin
            beyond either end, where the spectrum goes on as from the last bin but one to the last.
        """
        if self._migration is not None:
            return self._migration.rates(self.acceptance, flux_integral, flux)
        rate = self.acceptance * flux_integral
        beyond = [
            rate[end] ** 2 / rate[next_to] if rate[next_to] > 0 else 0.0
            for end, next_to in ((0, 1), (-1, -2))
        ]
        below, above = (np.zeros((1, self.energies.size + 2)) for _ in range(2))
        below[0, 1] = self.response[0, 2]
        above[0, -2] = self.response[-1, -3]
        below[0, 0], above[0, -1] = 1 - below[0, 1], 1 - above[0, -2]
        selected = np.concatenate([beyond[:1], rate, beyond[1:]])
        return np.asarray(selected[:, None] * np.concatenate([below, self.response, above]))

    def electron_rate(self, flux_integral: FloatArray, flux: Flux | None = None) -> FloatArray:
        """Selected electrons per second in bins of energy; arguments as of :meth:`rates`."""
        return np.asarray(self.rates(flux_integral, flux).sum(axis=0)[1:-1])


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
    with seven knots in log10 E, fitted with the errors of the simulation. The response comes from the
    histogram ``energy_ratio``, in files without it from a Gaussian in ln E whose bias and width have three
    knots each; ``meta["migration"]`` says which, and how well it describes the simulated migration.

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
    cut = _energy_cut(meta) if "energy_ratio" in hists else 0.0
    clear = energy[:-1] > CLEAR * cut
    least = _least(cut, energy)
    width = np.diff(energy)
    x = log_tev(np.sqrt(energy[1:] * energy[:-1]))
    relative = np.where(clear, area.error / area.value, np.nan)
    rate = _smooth_positive(
        x,
        protons.value / width,
        np.where(clear, np.sqrt(protons.variance) / np.maximum(protons.value, _TINY), np.nan),
    )
    part = select(
        hists["response"], "response", ("energy_true", "energy"), kind="electron", region=region
    )
    sums = inner_bins(part, "response")
    energy_meta = {k: v for k, v in (meta.get("energy") or {}).items() if k == region}
    area_smooth = _smooth_positive(x, area.value, relative)
    kernel = None
    notes: dict[str, Any] = {"from": "Gaussian in ln E"}
    if "energy_ratio" in hists:
        estimator = "cnn" if energy_meta else "e_corr"
        kernel = kernel_from(hists["energy_ratio"], energy, region, estimator, clear)
        rates = Migration(kernel, energy, least).rates(area_smooth, flux["electron"])[1:-1]
        total = rates.sum(axis=1, keepdims=True)
        nowhere = np.eye(1, rates.shape[1])  # true energies of which nothing is selected
        response = np.where(total > 0, rates / np.where(total > 0, total, 1.0), nowhere)
        notes = {"from": "energy_ratio", "estimator": estimator}
    else:
        response = smooth_response(energy, *sums)
    used = clear & (energy[:-1] > least)
    notes["chi2"], notes["ndf"] = sharing_chi2(response[used], *(s[used] for s in sums))
    return ToyModel(
        name=name,
        parametrisation=parametrisation,
        score=dict(meta["score"]),
        omega_edges=edges,
        omega_label=str(axis.label),
        bgo=str(meta["bgo_reconstruction"]),
        acceptance=area_smooth,
        proton_rate=rate * width * (energy[:-1] >= least),
        response=response,
        target_spectrum=dict(meta["target_spectrum"]),
        target_flux_integral=flux,
        meta={**(source or {}), "migration": notes},
        energy_label=str(hists["score"].axes["energy"].label),
        energy=energy_meta,
        kernel=kernel,
        least_gev=least,
    )


def _least(cut: float, edges: FloatArray) -> float:
    """First edge that a cut on the energy does not touch, also one on another estimate; 0 if it is the first."""
    first = int(np.searchsorted(edges, _MARGIN * cut))
    return float(edges[first]) if first else 0.0


def _energy_cut(meta: Mapping[str, Any]) -> float:
    """Least corrected energy of the card's cut ``energy_range``, 0 if the file has no card."""
    cuts = (meta.get("card") or {}).get("cuts") or []
    ranges = [c["energy_range"] for c in cuts if isinstance(c, Mapping) and "energy_range" in c]
    return max((float((r or {}).get("min_gev") or 0.0) for r in ranges), default=0.0)


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
        "energy": {
            "label": model.energy_label,
            "networks": dict(model.energy),
            "least_gev": model.least_gev,
        },
        "acceptance_m2sr": rounded(model.acceptance.tolist(), _DIGITS),
        "proton_rate_per_s": rounded(model.proton_rate.tolist(), _DIGITS),
        "response_rows": share_rows(model.response),
        **({} if model.kernel is None else {"energy_ratio": kernel_dict(model.kernel)}),
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
        omega, axis = content["omega"], content.get("energy", {})
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
            response=filled_rows(content["response_rows"], (n, n + 2)),
            target_spectrum=dict(content["target_spectrum"]),
            target_flux_integral=flux,
            meta=dict(content["meta"]),
            energy_label=str(axis.get("label", _ENERGY_LABEL)),
            energy=dict(axis.get("networks", {})),
            kernel=kernel_of(content["energy_ratio"]) if "energy_ratio" in content else None,
            least_gev=float(axis.get("least_gev", 0.0)),
            **arrays,
        )
    except KeyError as error:
        msg = f"no entry {error}"
        raise ParametrisationError(msg) from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        msg = f"malformed: {error}"
        raise ParametrisationError(msg) from error
    below = {"proton_rate": model.energy_edges[:-1] < model.least_gev}  # 0 there
    for key, values in {**arrays, **flux}.items():
        good = values.shape == (n,) and np.isfinite(values).all()
        if not (good and np.all((values > 0) | below.get(key, False))):
            msg = f"{key} needs {n} positive numbers, one per energy bin"
            raise ParametrisationError(msg)
    return model
