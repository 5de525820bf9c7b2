"""A toy as a histogram file: histograms and metadata as a run writes them, marked as toy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.templates import Template
from analysis.toys.draw import Expectation, draw_data, draw_simulation, draw_weighted
from analysis.toys.model import ToyModel

__all__ = ["toy_histograms"]

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
    rate = model.selected(model.target_flux_integral["electron"])
    wanted = np.pad(np.broadcast_to(electron_events, model.energies.shape), 1, mode="edge")
    shape = model.full_response
    response = draw_weighted("electron", shape, np.ones_like(shape), rate, wanted, rng)
    hists = _book(model)
    _score, _passed, _response, _cutflow = (
        hists[n] for n in ("score", "passed", "response", "cutflow")
    )
    for kind, part in drawn.items():
        _put(_score, (kind, model.region, model.bgo, "pass"), part.values, part.variances)
        total = part.total()
        for stat in _STATS:
            _put(_cutflow, (kind, model.region, model.bgo, "toy", stat), *total)
    where = ("electron", model.region, model.bgo, "pass")
    _put(_response, where, *response, flow=True)
    _put(_passed, where, response[0].sum(axis=1), response[1].sum(axis=1), flow=True)
    return hists, _meta(truth, drawn, injected, events, program, notes)


def _book(model: ToyModel) -> dict[str, hist.Hist[Any]]:
    """Empty histograms with the axes of a run."""
    kind = hist.axis.StrCategory(["data", "electron", "proton"], name="kind", label="sample")
    simulated = hist.axis.StrCategory(["electron", "proton"], name="kind", label="sample")
    region = hist.axis.StrCategory(["fiducial", "topfiducial"], name="region", label="region")
    bgo = hist.axis.StrCategory([model.bgo], name="bgo", label="BGO reconstruction")
    edge = hist.axis.StrCategory(["pass", "fail"], name="edge", label="edge cut")
    edges = model.energy_edges
    energy = hist.axis.Variable(edges, name="energy", label="corrected energy (GeV)")
    true = hist.axis.Variable(edges, name="energy_true", label="true energy (GeV)")
    low, high = float(model.omega_edges[0]), float(model.omega_edges[-1])
    bins = model.omega_edges.size - 1
    omega = hist.axis.Regular(bins, low, high, name="omega", label=model.omega_label)
    cut = hist.axis.StrCategory(["toy"], name="cut", label="cut")
    stat = hist.axis.StrCategory(_STATS, name="stat", label="count")

    def book(*axes: Any) -> hist.Hist[Any]:
        return hist.Hist(*axes, storage=bh.storage.Weight())

    return {
        "score": book(kind, region, bgo, edge, energy, omega),
        "response": book(simulated, region, bgo, edge, true, energy),
        "passed": book(simulated, region, bgo, edge, true),
        "cutflow": book(kind, region, bgo, cut, stat, energy),
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
        "background_fraction": truth.background_fraction(cut).tolist(),
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
    edges = model.energy_edges
    # one bin beyond either end is simulated too: what migrates into the end bins
    low, high = float(edges[0] ** 2 / edges[1]), float(edges[-1] ** 2 / edges[-2])
    wanted = np.broadcast_to(
        np.asarray(events["electron_events"], dtype=np.float64), model.energies.shape
    )
    # as many as an E^-1 sample, which has about the same number in each bin, would have to throw
    thrown = round(float(np.sum(wanted * _ETENDUE_M2SR / model.acceptance)))
    sample = {"e_min_gev": low, "e_max_gev": high, "index": -1.0, "radius_m": _RADIUS_M}
    generated: dict[str, Any] = {
        "electron": [{"events": thrown, **sample}] if thrown else [],
        "proton": [],
    }
    by_bgo = {"livetime_s": truth.livetime_s, "generated": generated}
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
