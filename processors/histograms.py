"""The histograms of a run: which there are, with which axes, and how one chunk fills them.

All categories are fixed when a histogram is booked, so that merging keeps their order. Events that fail
only the edge cut stand beside the selected ones in the axis ``edge`` of the score, response and passed
histograms: the edge cut off is the sum over that axis. The axis ``energy`` is the corrected energy or, where
the region has one, that of an energy network; in the cut flow, which counts events that no network sees,
it is always the corrected energy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boost_histogram as bh
import hist
import numpy as np
import numpy.typing as npt

from processors import showers
from processors.binning import category, energy_edges_gev
from processors.chain import Cut, Passed
from processors.geometry import N_LAYERS
from processors.monthly import book_monthly
from processors.ntuple import Ntuple
from processors.score import score_axis

__all__ = [
    "CONTROLS",
    "EDGE_CUTS",
    "ENERGY_CUT",
    "KINDS",
    "MC_KINDS",
    "SPECTRA",
    "Selected",
    "book_histograms",
    "fill_cutflow",
    "fill_events",
    "score_name",
]

Values = npt.NDArray[Any]
Histograms = Mapping[str, hist.Hist[Any]]

KINDS = ("data", "electron", "proton")
MC_KINDS = ("electron", "proton")
STATS = ("evaluated", "passed", "cumulative", "n_minus_1")
#: Cuts whose failing events are kept apart in the axis ``edge``.
EDGE_CUTS = ("edge", "edge_from_image")
#: The cut on the uncertainty of the energy network, after all others.
ENERGY_CUT = "energy_sigma"
_CORRECTED = "corrected energy (GeV)"
#: Histogram of the score of simulated protons under other proton spectra.
SPECTRA = "score_spectra"


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
        return showers.sum_rms(arrays[0])
    if name == "f_last":
        with np.errstate(divide="ignore"):
            return np.log10(showers.f_last(arrays[0]))
    if name == "theta":
        return np.degrees(np.arctan(np.hypot(*arrays)))
    if name == "max_layer_ratio":
        return showers.max_layer_ratio(arrays[0])
    return arrays[0]


def score_name(position: int, name: str) -> str:
    """Name of the histogram of a score: ``score`` for the first, that of the card, ``score_<name>`` else."""
    return "score" if position == 0 else f"score_{name}"


def book_histograms(
    cuts: Sequence[Cut],
    scores: Sequence[str],
    strategy: str,
    bgo: Sequence[str],
    *,
    extended_bins: bool = False,
    proton_spectra: Sequence[str] = (),
    energy_regions: Mapping[str, bool] | None = None,
) -> dict[str, hist.Hist[Any]]:
    """The histograms of a run, empty.

    Args:
        cuts: The chain.
        scores: The score of the card, then further ones.
        strategy: How omega combines the networks.
        bgo: BGO reconstructions of the run.
        extended_bins: Energy bins to 18 TeV instead of 10.5 TeV.
        proton_spectra: Names of further proton spectra; none books no histogram for them.
        energy_regions: Region to whether a network estimates its energies; default none does.

    Returns:
        Name to histogram.
    """
    kind = category(KINDS, "kind", "sample")
    simulated = category(MC_KINDS, "kind", "sample")
    region = category(["fiducial", "topfiducial"], "region", "region")
    version = category(bgo, "bgo", "BGO reconstruction")
    edge = category(["pass", "fail"], "edge", "edge cut")
    edges = energy_edges_gev(extended=extended_bins)
    networks = list((energy_regions or {"": False}).values())
    label = "CNN energy (GeV)" if all(networks) else _CORRECTED
    if any(networks) and not all(networks):
        label = "corrected or CNN energy (GeV)"
    energy = hist.axis.Variable(edges, name="energy", label=label)
    corrected = hist.axis.Variable(edges, name="energy", label=_CORRECTED)
    true = hist.axis.Variable(edges, name="energy_true", label="true energy (GeV)")
    coarse = hist.axis.Variable([20.0, 100.0, 1e3, 1e4], name="energy", label=energy.label)
    layer = category([str(i) for i in range(N_LAYERS)], "layer", "BGO layer")
    names = [c.name for c in cuts] + [ENERGY_CUT] * any(networks)
    cut = category(names, "cut", "cut")
    stat = category(STATS, "stat", "count")

    def book(*axes: Any) -> hist.Hist[Any]:
        return hist.Hist(*axes, storage=bh.storage.Weight())

    hists = {}
    for i, name in enumerate(scores):
        a = score_axis(name, strategy)
        omega = hist.axis.Regular(a.bins, a.low, a.high, name="omega", label=a.label)
        hists[score_name(i, name)] = book(kind, region, version, edge, energy, omega)
    if proton_spectra:
        spectrum = category(proton_spectra, "spectrum", "proton spectrum")
        omega = hists["score"].axes["omega"]
        hists[SPECTRA] = book(spectrum, region, version, edge, energy, omega)
    hists["response"] = book(simulated, region, version, edge, true, energy)
    hists["passed"] = book(simulated, region, version, edge, true)
    hists["energy_ratio"] = book(
        region,
        version,
        edge,
        category(["e_corr", "cnn"][: 1 + any(networks)], "estimator", ""),
        true,
        hist.axis.Regular(400, -1.2, 0.8, name="ratio", label="ln(E / E_true)"),
    )
    hists["cutflow"] = book(kind, region, version, cut, stat, corrected)
    for name, c in CONTROLS.items():
        value = hist.axis.Regular(c.bins, c.low, c.high, name="value", label=c.label)
        hists[f"control_{name}"] = book(kind, region, version, energy, value)
    if any(networks):
        value = hist.axis.Regular(
            100, 0.0, 0.5, name="value", label="uncertainty of the CNN energy"
        )
        hists["control_energy_sigma"] = book(kind, region, version, energy, value)
    fraction = hist.axis.Regular(60, 0.0, 0.6, name="value", label="layer fraction")
    rms = hist.axis.Regular(60, 0.0, 150.0, name="value", label="layer RMS (mm)")
    hists["control_layer_fraction"] = book(kind, region, version, layer, coarse, fraction)
    hists["control_layer_rms"] = book(kind, region, version, layer, coarse, rms)
    return hists | book_monthly(
        names, scores[0], strategy, bgo, str(energy.label), extended_bins=extended_bins
    )


def fill_cutflow(
    cutflow: hist.Hist[Any],
    masks: Passed,
    labels: tuple[str, str, str],
    e_corr: Values,
    weights: Values,
) -> None:
    """Count one chunk per cut; ``labels`` are kind, region and BGO reconstruction.

    The same as filling ``e_corr[mask]`` with ``weights[mask]`` for every cut and count: added up in the same
    order, but with the energy bin of each event looked up once.
    """
    bins = np.asarray(cutflow.axes["energy"].index(e_corr), np.intp) + 1  # underflow is bin 0
    size = cutflow.axes["energy"].extent
    unit = bool((weights == 1).all())
    place = [cutflow.axes[i].index(label) for i, label in enumerate(labels)]
    cuts = {name: i for i, name in enumerate(cutflow.axes["cut"])}
    view: Any = cutflow.view(flow=True)
    sums: dict[int, tuple[Values, Values]] = {}  # many masks are one and the same array
    whole = np.bincount(bins, minlength=size)
    for j, stat in enumerate(STATS):
        for cut, mask in getattr(masks, stat).items():
            if id(mask) not in sums:
                if unit:  # whole numbers: what is left of the whole, if that is less to count
                    most = 2 * np.count_nonzero(mask) > len(mask)
                    counts = np.bincount(bins[np.flatnonzero(~mask if most else mask)], None, size)
                    value = variance = whole - counts if most else counts
                else:
                    rows = np.flatnonzero(mask)
                    here, w = bins[rows], weights[rows]
                    value, variance = (np.bincount(here, v, size) for v in (w, w * w))
                sums[id(mask)] = value, variance
            filled = view[(*place, cuts[cut], j)]
            filled["value"] += sums[id(mask)][0]
            filled["variance"] += sums[id(mask)][1]


@dataclass(frozen=True)
class Selected:
    """Events of one chunk that pass every cut but perhaps the edge cut.

    Attributes:
        rows: Their indices in the chunk, shape (n,).
        edge: Whether they pass the edge cut, shape (n,).
        energies: Estimator (``e_corr``, ``cnn``) to energies, GeV, shape (n,); they are binned in the last.
        scores: Score to values, shape (n,); the first is that of the card.
        weights: Weights, shape (n,).
        labels: Kind, region and BGO reconstruction.
        other_weights: Proton spectrum to weights under it, shape (n,); empty for other kinds.
    """

    rows: npt.NDArray[np.intp]
    edge: npt.NDArray[np.bool_]
    energies: Mapping[str, Values]
    scores: Mapping[str, Values]
    weights: Values
    labels: tuple[str, str, str]
    other_weights: Mapping[str, Values] = field(default_factory=dict)

    @property
    def energy(self) -> Values:
        """Energies in which the events are binned, GeV, shape (n,)."""
        return list(self.energies.values())[-1]

    def keep(self, mask: npt.NDArray[np.bool_]) -> Selected:
        """Some of the events."""
        energies, scores, others = (
            {name: values[mask] for name, values in part.items()}
            for part in (self.energies, self.scores, self.other_weights)
        )
        weights = self.weights[mask]
        return Selected(
            self.rows[mask], self.edge[mask], energies, scores, weights, self.labels, others
        )


def fill_events(
    hists: Histograms, ntuple: Ntuple, events: Selected, computed: Mapping[str, Values]
) -> None:
    """Fill everything but the cut flow.

    Args:
        hists: The histograms.
        ntuple: The chunk.
        events: Selected with a finite score of the card; another score that is not finite is left out of
            its histogram only.
        computed: Control variable to values that stand for those of the chunk or that the chunk does not
            have, for the events that pass the edge cut.
    """
    for label, mask in (("pass", events.edge), ("fail", ~events.edge)):
        if mask.any():
            _fill_edge(hists, ntuple, events.keep(mask), label)
    _fill_controls(hists, ntuple, events.keep(events.edge), computed)


def _fill_edge(hists: Histograms, ntuple: Ntuple, events: Selected, label: str) -> None:
    where, energy = (*events.labels, label), events.energy
    for i, (name, values) in enumerate(events.scores.items()):
        good = np.isfinite(values)
        hists[score_name(i, name)].fill(
            *where, energy[good], values[good], weight=events.weights[good]
        )
    main = next(iter(events.scores.values()))
    for name, weights in events.other_weights.items():
        hists[SPECTRA].fill(name, *where[1:], energy, main, weight=weights)
    if events.labels[0] in MC_KINDS:
        true = np.asarray(ntuple["e_true"], np.float64)[events.rows]
        hists["response"].fill(*where, true, energy, weight=events.weights)
        hists["passed"].fill(*where, true, weight=events.weights)
    if events.labels[0] == "electron":
        for estimator, estimate in events.energies.items():
            ratio = np.log(estimate / true)
            hists["energy_ratio"].fill(*where[1:], estimator, true, ratio, weight=events.weights)


def _fill_controls(
    hists: Histograms, ntuple: Ntuple, events: Selected, computed: Mapping[str, Values]
) -> None:
    rows, energy = events.rows, events.energy
    if "energy_sigma" in computed:
        hists["control_energy_sigma"].fill(
            *events.labels, energy, computed["energy_sigma"], weight=events.weights
        )
    for name, control in CONTROLS.items():
        if name in computed:
            values = computed[name]
        elif all(ntuple.has(f) for f in control.fields):
            values = control_values(name, *(ntuple[f][rows] for f in control.fields))
        else:
            continue
        hists[f"control_{name}"].fill(*events.labels, energy, values, weight=events.weights)
    for name in ("layer_fraction", "layer_rms"):
        layers = computed[name] if name in computed else ntuple[name][rows]
        for layer in range(N_LAYERS):
            hists[f"control_{name}"].fill(
                *events.labels, str(layer), energy, layers[:, layer], weight=events.weights
            )
