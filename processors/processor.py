"""The coffea processor: one chunk of events to histograms, cut flow and ledger; pure, without state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from processors import showers
from processors.binning import energy_edges_gev
from processors.chain import Cut, Passed, check_order, evaluate
from processors.geometry import N_LAYERS
from processors.ntuple import Events, Ntuple, cached_aliases
from processors.score import SCORES, Score
from processors.selections import cut_fields
from processors.spectrum import parse
from processors.weights import Generated, rate_weights

__all__ = ["KINDS", "MC_KINDS", "CreProcessor", "RunConfig", "required_fields"]

Values = npt.NDArray[Any]
Accumulator = dict[str, Any]

KINDS = ("data", "electron", "proton")
MC_KINDS = ("electron", "proton")
STATS = ("evaluated", "passed", "cumulative", "n_minus_1")


@dataclass(frozen=True)
class Control:
    """A control variable: from which fields, and how binned."""

    fields: tuple[str, ...]
    bins: int
    low: float
    high: float
    label: str


#: Event-wise control variables; those of the layers are ``layer_fraction`` and ``layer_rms``.
CONTROLS: Mapping[str, Control] = {
    "sum_rms": Control(("layer_rms",), 120, 0.0, 1800.0, "sum of layer RMS (mm)"),
    "f_last": Control(("layer_fraction",), 100, -6.0, 0.0, "log10 F_last"),
    "theta": Control(("slope_x", "slope_y"), 90, 0.0, 90.0, "axis zenith angle (deg)"),
    "rms_l": Control(("rms_l",), 100, 0.0, 200.0, "RMS of the last layer (mm)"),
    "rms_r": Control(("rms_r",), 100, 0.0, 200.0, "radial RMS (mm)"),
    "max_layer_ratio": Control(("layer_fraction",), 70, 0.0, 0.7, "largest layer fraction"),
    "stk_n_clusters": Control(("stk_n_clusters",), 60, 0.0, 60.0, "STK clusters in 1 R_M"),
}


def control_values(name: str, *arrays: Values) -> Values:
    """Value of a control variable, shape (n,)."""
    if name == "sum_rms":
        return np.asarray(arrays[0].sum(axis=1))
    if name == "f_last":
        with np.errstate(divide="ignore"):
            return np.log10(showers.f_last(arrays[0]))
    if name == "theta":
        return np.degrees(np.arctan(np.hypot(*arrays)))
    if name == "max_layer_ratio":
        return showers.max_layer_ratio(arrays[0])
    return arrays[0]


@dataclass(frozen=True)
class RunConfig:
    """What a chunk needs to know beside its events; plain data, so that it travels to any worker.

    Attributes:
        cuts: Ordered chain, with ``region`` where the geometry stands.
        regions: Regions to fill.
        score: Name of the score.
        generated: Monte Carlo kind to its generated samples (``Generated`` as a dict).
        target: Monte Carlo kind to the target spectrum (as a dict).
        extended_bins: Energy bins to 18 TeV instead of 10.5 TeV.
    """

    cuts: tuple[Cut, ...]
    regions: tuple[str, ...]
    score: str
    generated: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    target: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extended_bins: bool = False


def required_fields(config: RunConfig, kind: str, *, weighted: bool) -> dict[str, str]:
    """Canonical fields without which a run cannot go, and what needs them.

    Args:
        config: The run.
        kind: Kind of the sample.
        weighted: Whether simulated events carry importance-sampling weights.

    Returns:
        Field name to a word for its user (a cut, the score, the weights).
    """
    needs = {"e_corr": "the energy axis"}
    for cut in config.cuts:
        if kind in cut.kinds:
            for region in config.regions:
                for name in cut_fields(cut.function(region)):
                    needs.setdefault(name, f"cut {cut.name!r}")
    for name in SCORES[config.score].fields:
        needs.setdefault(name, f"score {config.score!r}")
    if kind in MC_KINDS:
        needs.setdefault("e_true", "the weights of simulated events")
    if weighted:
        needs.setdefault("weight", "the weights of simulated events")
    return needs


class CreProcessor(ProcessorABC):  # type: ignore[misc]
    """From events to the accumulator of a run.

    Args:
        config: The run.

    Raises:
        SelectionError: If the chain of cuts is out of order.
    """

    def __init__(self, config: RunConfig) -> None:
        check_order(config.cuts, config.regions)
        self._config = config

    def process(self, events: Events) -> Accumulator:
        """Fill one chunk.

        Args:
            events: coffea events in virtual mode; ``metadata`` names ``kind`` and ``aliases``.

        Returns:
            ``hists`` (name to Hist), ``nonfinite`` (field to count), ``events`` (kind to count) and
            ``chunks`` (set of (uuid, entry start, entry stop)).
        """
        config = self._config
        metadata: Mapping[str, Any] = events.metadata  # type: ignore[attr-defined]
        kind = str(metadata["kind"])
        ntuple = Ntuple(events, cached_aliases(str(metadata["aliases"])))
        hists = empty_histograms(config)
        nonfinite = {"e_corr": _count_nonfinite(ntuple["e_corr"]), "omega": 0, "weight": 0}
        weights = np.ones(len(ntuple))
        if kind in MC_KINDS:
            weights = rate_weights(
                np.asarray(ntuple["e_true"], np.float64),
                np.asarray(ntuple["weight"], np.float64)
                if metadata["weights"] == "sampling"
                else weights,
                [Generated.model_validate(g) for g in config.generated[kind]],
                parse(config.target[kind]),
            )
            nonfinite["weight"] = _count_nonfinite(weights)
            weights = np.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
        score = SCORES[config.score]
        for region in config.regions:
            masks = evaluate(ntuple, config.cuts, kind=kind, region=region)
            _fill_cutflow(hists["cutflow"], masks, kind, region, ntuple["e_corr"], weights)
            selected = masks.selected
            if not selected.any():
                continue
            omega = score.function(*(ntuple[f][selected] for f in score.fields))
            bad = ~np.isfinite(omega)
            nonfinite["omega"] += int(bad.sum())
            chosen = np.flatnonzero(selected)[~bad]
            _fill_region(hists, ntuple, chosen, omega[~bad], weights[chosen], kind, region)
        return {
            "hists": hists,
            "nonfinite": nonfinite,
            "events": {kind: len(ntuple)},
            "chunks": {(metadata["fileuuid"], metadata["entrystart"], metadata["entrystop"])},
        }

    def postprocess(self, accumulator: Accumulator) -> Accumulator:
        """Nothing is left to do after merging."""
        return accumulator


def _count_nonfinite(values: Values) -> int:
    return int((~np.isfinite(values)).sum())


def empty_histograms(config: RunConfig) -> dict[str, hist.Hist[Any]]:
    """The histograms of a run, empty, with all categories fixed so that merging keeps their order."""
    score: Score = SCORES[config.score]
    kind = hist.axis.StrCategory(KINDS, name="kind", label="sample")
    simulated = hist.axis.StrCategory(MC_KINDS, name="kind", label="sample")
    region = hist.axis.StrCategory(["fiducial", "topfiducial"], name="region", label="region")
    edges = energy_edges_gev(extended=config.extended_bins)
    energy = hist.axis.Variable(edges, name="energy", label="corrected energy (GeV)")
    true = hist.axis.Variable(edges, name="energy_true", label="true energy (GeV)")
    coarse = hist.axis.Variable([20.0, 100.0, 1e3, 1e4], name="energy", label=energy.label)
    layer = hist.axis.StrCategory(
        [str(i) for i in range(N_LAYERS)], name="layer", label="BGO layer"
    )
    cut = hist.axis.StrCategory([c.name for c in config.cuts], name="cut", label="cut")
    stat = hist.axis.StrCategory(STATS, name="stat", label="count")
    omega = hist.axis.Regular(score.bins, score.low, score.high, name="omega", label=score.label)

    def book(*axes: Any) -> hist.Hist[Any]:
        return hist.Hist(*axes, storage=bh.storage.Weight())

    hists = {
        "score": book(kind, region, energy, omega),
        "response": book(simulated, region, true, energy),
        "passed": book(simulated, region, true),
        "cutflow": book(kind, region, cut, stat, energy),
    }
    for name, c in CONTROLS.items():
        value = hist.axis.Regular(c.bins, c.low, c.high, name="value", label=c.label)
        hists[f"control_{name}"] = book(kind, region, energy, value)
    fraction = hist.axis.Regular(60, 0.0, 0.6, name="value", label="layer fraction")
    rms = hist.axis.Regular(60, 0.0, 150.0, name="value", label="layer RMS (mm)")
    hists["control_layer_fraction"] = book(kind, region, layer, coarse, fraction)
    hists["control_layer_rms"] = book(kind, region, layer, coarse, rms)
    return hists


def _fill_cutflow(
    cutflow: hist.Hist[Any], masks: Passed, kind: str, region: str, e_corr: Values, weights: Values
) -> None:
    for stat in STATS:
        for cut, mask in getattr(masks, stat).items():
            cutflow.fill(kind, region, cut, stat, e_corr[mask], weight=weights[mask])


def _fill_region(
    hists: Mapping[str, hist.Hist[Any]],
    ntuple: Ntuple,
    rows: npt.NDArray[np.intp],
    omega: Values,
    weights: Values,
    kind: str,
    region: str,
) -> None:
    """Fill everything but the cut flow from the selected events ``rows`` of one chunk."""
    energy = np.asarray(ntuple["e_corr"], np.float64)[rows]
    hists["score"].fill(kind, region, energy, omega, weight=weights)
    if kind in MC_KINDS:
        true = np.asarray(ntuple["e_true"], np.float64)[rows]
        hists["response"].fill(kind, region, true, energy, weight=weights)
        hists["passed"].fill(kind, region, true, weight=weights)
    for name, control in CONTROLS.items():
        if all(ntuple.has(f) for f in control.fields):
            values = control_values(name, *(ntuple[f][rows] for f in control.fields))
            hists[f"control_{name}"].fill(kind, region, energy, values, weight=weights)
    for name in ("layer_fraction", "layer_rms"):
        values = ntuple[name][rows]
        for layer in range(N_LAYERS):
            hists[f"control_{name}"].fill(
                kind, region, str(layer), energy, values[:, layer], weight=weights
            )
