"""The coffea processor: one chunk of events to histograms, cut flow and ledger; pure, without state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import hist
import numpy as np
import numpy.typing as npt
from coffea.processor import ProcessorABC

from processors import features, modelset
from processors.calibration import Calibration
from processors.chain import Cut, check_order, evaluate
from processors.exceptions import SelectionError
from processors.geometry import N_LAYERS
from processors.histograms import (
    EDGE_CUTS,
    ENERGY_CUT,
    KINDS,
    MC_KINDS,
    SPECTRA,
    Selected,
    book_histograms,
    fill_cutflow,
    fill_events,
    score_name,
)
from processors.inference import score_events
from processors.modelset import Models
from processors.monthly import fill_monthly, fill_monthly_cuts
from processors.ntuple import FIELDS, Events, Ntuple, cached_aliases
from processors.period import NO_MONTH, UNUSED, find_runs
from processors.selections import cut_fields
from processors.showers import sum_rms
from processors.spectrum import parse
from processors.weights import Generated, rate_weights

__all__ = ["KINDS", "MC_KINDS", "CreProcessor", "RunConfig", "empty_histograms", "required_fields"]

Values = npt.NDArray[Any]
Accumulator = dict[str, Any]
Species = Literal["electron", "proton"]


@dataclass(frozen=True)
class RunConfig:
    """What a chunk needs to know beside its events; plain data, so that it travels to any worker.

    Attributes:
        cuts: Ordered chain, with ``region`` where the geometry stands.
        regions: Regions to fill.
        score: Name of the score: ``zeta``, a network, ``omega``.
        also: Names of further scores to fill.
        models: The networks.
        calibration: Table that is applied to simulated events before they are scored (``Calibration`` as
            a dict), or None.
        bgo: BGO reconstructions of the run.
        generated: BGO reconstruction to Monte Carlo kind to its generated samples (``Generated`` as a
            dict).
        target: Monte Carlo kind to the target spectrum (as a dict).
        extended_bins: Energy bins to 18 TeV instead of 10.5 TeV.
        proton_spectra: Name to a further spectrum of the protons (as a dict), under which they fill
            ``score_spectra``.
    """

    cuts: tuple[Cut, ...]
    regions: tuple[str, ...]
    score: str
    also: tuple[str, ...] = ()
    models: Models = field(default_factory=Models)
    calibration: Mapping[str, Any] | None = None
    bgo: tuple[str, ...] = ("new",)
    generated: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    target: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extended_bins: bool = False
    proton_spectra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the name of the histogram of the proton spectra free.

        Raises:
            SelectionError: A further score has it.
        """
        for position, name in enumerate(self.scores):
            if self.proton_spectra and score_name(position, name) == SPECTRA:
                msg = (
                    f"the score {name!r} and 'proton_spectra' would both fill the histogram "
                    f"{SPECTRA!r}: rename that network or drop one of the two from the card"
                )
                raise SelectionError(msg)

    @property
    def scores(self) -> tuple[str, ...]:
        """The score of the card, then the further ones, each once."""
        return tuple(dict.fromkeys((self.score, *self.also)))


def required_fields(config: RunConfig, kind: str, *, weighted: bool) -> dict[str, str]:
    """Canonical fields without which a run cannot go, and what needs them.

    Args:
        config: The run.
        kind: Kind of the sample.
        weighted: Whether simulated events carry importance-sampling weights.

    Returns:
        Field name to a word for its user (a cut, a score, a model, the weights).
    """
    needs = {"e_corr": "the energy axis"}
    for cut in config.cuts:
        if kind in cut.kinds:
            for region in config.regions:
                for name in cut_fields(cut.function(region)):
                    needs.setdefault(name, f"cut {cut.name!r}")
    calibrated = config.calibration is not None and kind in MC_KINDS
    for region in config.regions:
        of_scores = modelset.required_fields(
            config.models, region, config.scores, calibrated=calibrated
        )
        for name, user in of_scores.items():
            needs.setdefault(name, user)
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
        self._calibration = (
            None if config.calibration is None else Calibration.model_validate(config.calibration)
        )

    def process(self, events: Events) -> Accumulator:
        """Fill one chunk.

        Args:
            events: coffea events in virtual mode; ``metadata`` names ``kind``, ``aliases``, ``weights``,
                ``bgo_reconstruction`` and, for data, ``runs`` (:func:`processors.period.run_table`).

        Returns:
            ``hists`` (name to Hist), ``nonfinite`` (field or score to count), ``scored`` (score to the
            number of events), ``events`` (kind to count, those of runs that are used) and ``chunks`` (set of (uuid, entry start, entry stop)).
        """
        config = self._config
        metadata: Mapping[str, Any] = events.metadata  # type: ignore[attr-defined]
        kind, bgo = str(metadata["kind"]), str(metadata["bgo_reconstruction"])
        ntuple = Ntuple(events, cached_aliases(str(metadata["aliases"])))
        months = _months(ntuple, metadata.get("runs") or [])
        used = months != UNUSED
        hists = empty_histograms(config)
        weights = np.ones(len(ntuple))
        if kind in MC_KINDS:
            weights = rate_weights(
                np.asarray(ntuple["e_true"], np.float64),
                np.asarray(ntuple["weight"], np.float64)
                if metadata["weights"] == "sampling"
                else weights,
                [Generated.model_validate(g) for g in config.generated[bgo][kind]],
                parse(config.target[kind]),
            )
        nonfinite = {
            "e_corr": _count_nonfinite(ntuple["e_corr"][used]),
            "weight": _count_nonfinite(weights),
            **dict.fromkeys(config.scores, 0),
        }
        scored = dict.fromkeys(config.scores, 0)
        # cuts let NaN fail without a word
        for name in {
            n for c in config.cuts for r in config.regions for n in cut_fields(c.function(r))
        }:
            if FIELDS[name].shape == "layer" and ntuple.has(name):
                nonfinite[name] = _count_nonfinite_events(ntuple[name], used)
        weights = np.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
        for region in config.regions:
            labels = (kind, region, bgo)
            masks = evaluate(ntuple, config.cuts, kind=kind, region=region).among(used)
            selected, rows = masks.selected, np.flatnonzero(masks.all_but(EDGE_CUTS))
            scores = self._scores(ntuple, rows, kind, region)
            for name, values in scores.items():
                nonfinite[name] = nonfinite.get(name, 0) + _count_nonfinite(values)
                scored[name] = scored.get(name, 0) + len(values)
            kept, energies, sigma = self._energies(ntuple, rows, region, scores)
            if sigma is not None:
                masks = masks.followed_by(ENERGY_CUT, rows, kept)
            fill_cutflow(hists["cutflow"], masks, labels, ntuple["e_corr"], weights)
            if kind == "data":
                fill_monthly_cuts(hists, months, labels[1:], masks, ntuple["e_corr"])
            if not kept.any():
                continue
            others = self._other_weights(ntuple, rows, weights[rows]) if kind == "proton" else {}
            for name, values in others.items():
                if bad := _count_nonfinite(values):  # a spectrum too steep for floating point
                    key = f"weight_{name}"
                    nonfinite[key] = nonfinite.get(key, 0) + bad
                    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            chosen = Selected(rows, selected[rows], energies, scores, weights[rows], labels, others)
            kept &= np.isfinite(scores[config.score])
            chosen = chosen.keep(kept)
            computed = self._controls(ntuple, chosen.rows[chosen.edge], kind)
            if sigma is not None:
                computed[ENERGY_CUT] = sigma[kept][chosen.edge]
            fill_events(hists, ntuple, chosen, computed)
            if kind == "data":
                final = chosen.keep(chosen.edge)
                score = final.scores[config.score]
                fill_monthly(hists, months[final.rows], labels[1:], final.energy, score)
        return {
            "hists": hists,
            "nonfinite": nonfinite,
            "scored": scored,
            "events": {kind: int(used.sum())},
            "chunks": {(metadata["fileuuid"], metadata["entrystart"], metadata["entrystop"])},
        }

    def postprocess(self, accumulator: Accumulator) -> Accumulator:
        """Nothing is left to do after merging."""
        return accumulator

    def _energies(
        self,
        ntuple: Ntuple,
        rows: npt.NDArray[np.intp],
        region: str,
        scores: dict[str, Values],
    ) -> tuple[npt.NDArray[np.bool_], dict[str, Values], Values | None]:
        """Events that keep their energy, its estimates, and the uncertainty of the network if there is one.

        The network's answers are taken out of ``scores``.
        """
        energies: dict[str, Values] = {"e_corr": np.asarray(ntuple["e_corr"], np.float64)[rows]}
        kept = np.ones(len(rows), bool)
        if region not in self._config.models.energy:
            return kept, energies, None
        most = self._config.models.energy[region].max_sigma
        energies["cnn"], sigma = scores.pop("energy"), scores.pop("energy_sigma")
        kept = np.isfinite(energies["cnn"])
        return kept if most is None else kept & (sigma <= most), energies, sigma

    def _other_weights(
        self, ntuple: Ntuple, rows: npt.NDArray[np.intp], weights: Values
    ) -> dict[str, Values]:
        """Weights of protons under each further spectrum: by the ratio of the fluxes at the true energy."""
        spectra = {name: parse(s) for name, s in self._config.proton_spectra.items()}
        if not spectra:
            return {}
        used = weights != 0  # the others lie outside every sample, where no flux is meant
        energy = np.asarray(ntuple["e_true"], np.float64)[rows][used]
        target = parse(self._config.target["proton"]).flux(energy)
        others = {name: np.zeros(len(rows)) for name in spectra}
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            for name, spectrum in spectra.items():
                others[name][used] = weights[used] * (spectrum.flux(energy) / target)
        return others

    def _species(self, kind: str) -> Species | None:
        """The species whose calibration applies: that of simulated events."""
        if kind == "data" or self._calibration is None:
            return None
        return "electron" if kind == "electron" else "proton"

    def _scores(
        self, ntuple: Ntuple, rows: npt.NDArray[np.intp], kind: str, region: str
    ) -> dict[str, Values]:
        species = self._species(kind)
        scores: dict[str, Values] = dict(
            score_events(
                ntuple,
                rows,
                region,
                self._config.models,
                self._config.scores,
                calibration=self._calibration if species else None,
                species=species,
                with_energy=True,
            )
        )
        return scores

    def _controls(self, ntuple: Ntuple, rows: npt.NDArray[np.intp], kind: str) -> dict[str, Values]:
        """Control variables that a calibration changes; none without one."""
        species = self._species(kind)
        if species is None:
            return {}
        names = [*(f"rms_{i}" for i in range(N_LAYERS)), "f_last"]
        if ntuple.has("rms_l"):
            names.append("rms_l")
        table = features.build(
            ntuple, rows, ["variables"], names, calibration=self._calibration, species=species
        )["variables"]
        rms = table[:, :N_LAYERS]
        with np.errstate(divide="ignore"):
            f_last = np.log10(table[:, N_LAYERS])
        changed: dict[str, Values] = {"layer_rms": rms, "sum_rms": sum_rms(rms), "f_last": f_last}
        if ntuple.has("rms_l"):
            changed["rms_l"] = table[:, N_LAYERS + 1]
        return changed


def _months(ntuple: Ntuple, table: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Month of each event; the run is read only where it matters."""
    months = {row[2] for row in table}
    if len(months) < 2:
        return np.full(len(ntuple), months.pop() if months else NO_MONTH, np.int64)
    return find_runs(ntuple["run"], table)


def _count_nonfinite_events(values: Values, used: npt.NDArray[np.bool_]) -> int:
    """Used events of which a layer is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        if values.dtype.kind in "biu" or np.isfinite(values.sum()):  # one pass in the usual case
            return 0
        return _count_nonfinite(values.sum(axis=1)[used])


def _count_nonfinite(values: Values) -> int:
    return int((~np.isfinite(values)).sum())


def empty_histograms(config: RunConfig) -> dict[str, hist.Hist[Any]]:
    """The histograms of a run, empty."""
    return book_histograms(
        config.cuts,
        config.scores,
        config.models.strategy,
        config.bgo,
        extended_bins=config.extended_bins,
        proton_spectra=tuple(config.proton_spectra),
        energy_regions={r: r in config.models.energy for r in config.regions},
    )
