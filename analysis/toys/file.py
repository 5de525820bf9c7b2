"""A toy as a histogram file: histograms and metadata as a run writes them, marked as toy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fluxtable import plain
from analysis.templates import Template
from analysis.toys.draw import Expectation, draw_data, draw_response, draw_simulation
from analysis.toys.model import ToyModel

__all__ = ["generated", "migration_histograms", "toy_histograms"]

FloatArray = NDArray[np.float64]

_STATS = ("evaluated", "passed", "cumulative", "n_minus_1")
#: Étendue of the generation sphere, half space: π · 2π R² with R = 1.382 m.
_RADIUS_M = 1.381976597885
_ETENDUE_M2SR = 2 * (np.pi * _RADIUS_M) ** 2


def toy_histograms(
    truth: Expectation,
    rng: np.random.Generator,
    injected: Mapping[str, Any],
    *,
    electron_events: ArrayLike = 2000.0,
    proton_events: ArrayLike = 500.0,
    proton_bulk_weight: float = 1.0,
    program: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> tuple[dict[str, hist.Hist[Any]], dict[str, Any]]:
    """Draw data and simulation and put them into the histograms of a run.

    ``passed`` and ``response`` of the electrons are drawn on their own, not from the events of ``score``;
    those of the protons are empty. All events pass the edge cut; the cut flow has one cut, ``toy``.

    Args:
        truth: the expectation.
        rng: random numbers.
        injected: ``electron`` and ``proton`` spectrum as in cards; None or missing where there is none.
        electron_events: see :func:`draw_simulation`.
        proton_events: see :func:`draw_simulation`.
        proton_bulk_weight: see :func:`draw_simulation`.
        program: name and version, for the metadata.
        notes: further entries of ``meta["toy"]``.

    Returns:
        Histograms and metadata as ``cre run`` writes them, marked synthetic and toy.

    Raises:
        ToyModelError: a number out of range.
    """
    model = truth.model
    data = draw_data(truth, rng)
    events = {
        "electron_events": electron_events,
        "proton_events": proton_events,
        "proton_bulk_weight": proton_bulk_weight,
    }
    electrons, protons = draw_simulation(model, rng, **events)  # type: ignore[arg-type]
    drawn = {"data": data, "electron": electrons, "proton": protons}
    hists = _book(model)
    _score, _cutflow = hists["score"], hists["cutflow"]
    for kind, part in drawn.items():
        _put(_score, (kind, model.region, model.bgo, "pass"), part.values, part.variances)
        total = part.total()
        for stat in _STATS:
            _put(_cutflow, (kind, model.region, model.bgo, "toy", stat), *total)
    hists |= migration_histograms(model, rng, electron_events)
    return hists, _meta(truth, drawn, injected, events, program, notes)


def migration_histograms(
    model: ToyModel, rng: np.random.Generator, electron_events: ArrayLike = 2000.0
) -> dict[str, hist.Hist[Any]]:
    """Draw ``response`` and ``passed`` of a run.

    Args:
        model: the toy model.
        rng: random numbers.
        electron_events: see :func:`draw_response`.

    Returns:
        The two histograms.

    Raises:
        ToyModelError: a number out of range.
    """
    kinds, edges = ["electron", "proton"], model.energy_edges
    true = hist.axis.Variable(edges, name="energy_true", label="true energy (GeV)")
    energy = hist.axis.Variable(edges, name="energy", label=model.energy_label)
    axes = _categories(model, kinds)
    storage = bh.storage.Weight()
    response = hist.Hist(*axes, true, energy, storage=storage)
    passed = hist.Hist(*axes, true, storage=storage)
    where = ("electron", model.region, model.bgo, "pass")
    drawn = draw_response(model, rng, electron_events)
    _put(response, where, *drawn, flow=True)
    _put(passed, where, drawn[0].sum(axis=1), drawn[1].sum(axis=1), flow=True)
    return {"response": response, "passed": passed}


def generated(model: ToyModel, electron_events: ArrayLike) -> dict[str, Any]:
    """The simulation that a toy stands for, as in the metadata of a run.

    Args:
        model: the toy model.
        electron_events: selected events per energy bin, one number or (n,).

    Returns:
        Samples by kind: electrons of an E⁻¹ spectrum, as many as give these events; no protons.
    """
    low, high = model.simulated_gev
    wanted = np.broadcast_to(np.asarray(electron_events, dtype=np.float64), model.energies.shape)
    # as many as an E^-1 sample, which has about the same number in each bin, would have to throw
    thrown = round(float(np.sum(wanted * _ETENDUE_M2SR / model.acceptance)))
    sample = {"e_min_gev": low, "e_max_gev": high, "index": -1.0, "radius_m": _RADIUS_M}
    return {"electron": [{"events": thrown, **sample}] if thrown else [], "proton": []}


def _categories(model: ToyModel, kinds: list[str]) -> list[hist.axis.StrCategory]:
    """Axes of categories that all histograms of a run have."""
    return [
        hist.axis.StrCategory(kinds, name="kind", label="sample"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region", label="region"),
        hist.axis.StrCategory([model.bgo], name="bgo", label="BGO reconstruction"),
        hist.axis.StrCategory(["pass", "fail"], name="edge", label="edge cut"),
    ]


def _book(model: ToyModel) -> dict[str, hist.Hist[Any]]:
    """Empty histograms with the axes of a run; those of the migration are drawn elsewhere."""
    kind, region, bgo, edge = _categories(model, ["data", "electron", "proton"])
    energy = hist.axis.Variable(model.energy_edges, name="energy", label=model.energy_label)
    low, high = float(model.omega_edges[0]), float(model.omega_edges[-1])
    bins = model.omega_edges.size - 1
    omega = hist.axis.Regular(bins, low, high, name="omega", label=model.omega_label)
    cut = hist.axis.StrCategory(["toy"], name="cut", label="cut")
    stat = hist.axis.StrCategory(_STATS, name="stat", label="count")
    storage = bh.storage.Weight()
    return {
        "score": hist.Hist(kind, region, bgo, edge, energy, omega, storage=storage),
        "cutflow": hist.Hist(kind, region, bgo, cut, stat, energy, storage=storage),
    }


def _put(
    histogram: hist.Hist[Any],
    categories: tuple[str, ...],
    values: FloatArray,
    variances: FloatArray,
    *,
    flow: bool = False,
) -> None:
    """Set the bins of one combination of categories, with or without flow of the first axis left."""
    at = tuple(
        axis.index(c) for axis, c in zip(histogram.axes[: len(categories)], categories, strict=True)
    )
    rows = slice(None) if flow else slice(1, -1)
    view: Any = histogram.view(flow=True)
    view.value[at][rows] = values
    view.variance[at][rows] = variances


def _fractions(truth: Expectation) -> dict[str, Any] | None:
    """The true background above the cut of the model, if it has one."""
    cut = truth.model.score.get("cut")
    if not isinstance(cut, int | float):
        return None
    return {
        "cut": cut,
        "background": truth.template("proton").above(cut).value.tolist(),
        "background_fraction": plain(truth.background_fraction(cut)),
    }


def _meta(
    truth: Expectation,
    drawn: Mapping[str, Template],
    injected: Mapping[str, Any],
    events: Mapping[str, ArrayLike],
    program: Mapping[str, Any] | None,
    notes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Metadata with the entries of a run."""
    model = truth.model
    samples = generated(model, events["electron_events"])
    by_bgo = {"livetime_s": truth.livetime_s, "generated": samples}
    toy = {
        "model": model.name,
        "shift": list(truth.coefficients),
        "e0_gev": truth.e0_gev,
        "width": truth.width,
        "proton_scale": truth.proton_scale,
        "truth": _fractions(truth),
        **{k: np.asarray(v, dtype=np.float64).tolist() for k, v in events.items()},
        **(notes or {}),
    }
    return {
        "program": dict(program or {}),
        "inputs": [],
        "quarantined": [],
        **by_bgo,
        "by_bgo": {model.bgo: by_bgo},
        "target_spectrum": {k: dict(v) for k, v in model.target_spectrum.items()},
        "target_flux_integral": {k: v.tolist() for k, v in model.target_flux_integral.items()},
        "score": {k: list(v) if isinstance(v, tuple) else v for k, v in model.score.items()},
        "also": [],
        "models": [],
        "calibration": None,
        "energy": {k: dict(v) for k, v in model.energy.items()},
        "ledger": {"planned": 0, "processed": 0, "missing": []},
        "events": {"data": int(drawn["data"].total().value.sum())},
        "nonfinite": {},
        "synthetic": True,
        "complete": True,
        "toy": toy,
        "injected": {k: dict(v) for k, v in injected.items() if v},
        "only_regions": [model.region],
        "complete_above_gev": 0.0,
        "bgo_reconstruction": model.bgo,
    }
