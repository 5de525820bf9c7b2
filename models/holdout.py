"""All scores of an independent sample on the same events, with what an evaluation needs beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.evaluation import EvaluationError
from models.samples import Chunk, selected_events
from processors import features
from processors.bundle import BundleRef
from processors.calibration import Calibration
from processors.chain import Cut
from processors.inference import Models, run_bundle, score_events
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.spectrum import Spectrum
from processors.weights import Generated, rate_weights

__all__ = ["Attention", "EnergyEstimates", "Holdout", "score_holdout"]

FloatArray = npt.NDArray[np.floating]
Single = npt.NDArray[np.float32]

MC_KINDS = ("electron", "proton")
#: Attention weights are taken of so many events of a chunk at most: means need no more.
_ATTENTION_PER_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention weights of a part of the events.

    Attributes:
        modalities: Names of the m modalities.
        weights: Attention, shape (n, m).
        electron: Whether an event is an electron, shape (n,).
        e_corr_gev: Corrected energy, shape (n,).
        sampling: Sampling weights, shape (n,).
    """

    modalities: tuple[str, ...]
    weights: Single
    electron: npt.NDArray[np.bool_]
    e_corr_gev: Single
    sampling: FloatArray


@dataclass(frozen=True, eq=False)
class EnergyEstimates:
    """What the energy network says of the electrons in its energy range; arrays of shape (n,).

    Attributes:
        e_true_gev: True energy.
        e_corr_gev: Corrected energy.
        leakage: 1 - E_raw/E_true, the share of the energy that is not in the bars.
        log_ratio: Estimate of ln(E_true/E_corr).
        log_sigma: Logarithm of its standard deviation.
        sampling: Sampling weights.
    """

    e_true_gev: FloatArray
    e_corr_gev: FloatArray
    leakage: FloatArray
    log_ratio: FloatArray
    log_sigma: FloatArray
    sampling: FloatArray


@dataclass(frozen=True, eq=False)
class Holdout:
    """Scores of the selected simulated events, each with all scores; arrays of shape (n,).

    Attributes:
        scores: Score to values, electron high.
        electron: Whether an event is an electron.
        e_corr_gev: Corrected energy.
        e_true_gev: True energy.
        sampling: Importance-sampling weights.
        rate: Events per second under the target fluxes; None if a file says no generated events.
        data: Score to values of the data, shape (m,); empty without data.
        data_e_corr_gev: Their corrected energy, shape (m,).
        unscored: Selected events left out because a network's energy range does not hold them.
        attention: Of the network with modalities, if there is one.
        energy: Of the energy network, if one was given.
    """

    scores: Mapping[str, Single]
    electron: npt.NDArray[np.bool_]
    e_corr_gev: Single
    e_true_gev: Single
    sampling: FloatArray
    rate: FloatArray | None
    data: Mapping[str, Single]
    data_e_corr_gev: Single
    unscored: int = 0
    attention: Attention | None = None
    energy: EnergyEstimates | None = None


@dataclass
class _Parts:
    """Arrays of the chunks so far."""

    columns: dict[str, list[npt.NDArray[np.generic]]] = field(default_factory=dict)

    def add(self, **arrays: npt.NDArray[np.generic]) -> None:
        for name, values in arrays.items():
            self.columns.setdefault(name, []).append(values)

    def joined(self, name: str, *shape: int) -> npt.NDArray[np.generic]:
        parts = self.columns.get(name)
        return np.concatenate(parts) if parts else np.zeros((0, *shape), np.float32)


def score_holdout(
    paths: Sequence[str | os.PathLike[str]],
    region: str,
    cuts: Sequence[Cut],
    models: Models,
    names: Sequence[str],
    *,
    target: Mapping[str, Spectrum] | None = None,
    calibration: Calibration | None = None,
    energy_model: Sequence[BundleRef] = (),
    aliases: str = "dmlntup",
    chunk_size: int = 50_000,
    progress: Callable[[int], None] | None = None,
) -> Holdout:
    """Select and score the events of files, chunk by chunk; only scores and a few columns are kept.

    Args:
        paths: Files of simulated electrons and protons, and of data, which each say what they hold.
        region: ``fiducial`` or ``topfiducial``.
        cuts: The chain of a run card.
        models: The networks.
        names: Scores: ``zeta``, names of networks, ``omega``.
        target: Kind to target flux, for the rates; default: no rates.
        calibration: Applied to simulated events.
        energy_model: Files of the energy network.
        aliases: Convention of the files.
        chunk_size: Events read at a time.
        progress: Called with the number of events of each chunk read.

    Returns:
        The scores.

    Raises:
        SampleError: A file does not say what it holds.
        EvaluationError: No event is selected and scored, or a score is not finite.
        ModelError: A network cannot be used.
    """
    parts, data, attention, energy = _Parts(), _Parts(), _Parts(), _Parts()
    unscored = 0
    fused = _with_attention(models, region)
    for chunk in selected_events(
        paths, region, cuts, aliases=aliases, chunk_size=chunk_size, kinds=("data", *MC_KINDS)
    ):
        simulated = chunk.kind in MC_KINDS
        species = None if not simulated else "electron" if chunk.kind == "electron" else "proton"
        options = {"calibration": calibration if simulated else None, "species": species}
        values = score_events(chunk.ntuple, chunk.rows, region, models, names, **options)  # type: ignore[arg-type]
        scored = models.serves(region, names, chunk.e_corr)
        unscored += int((~scored).sum())
        for name, one in values.items():
            if bad := int((~np.isfinite(one[scored])).sum()):
                msg = f"{chunk.path}: score {name!r} is NaN or infinite for {bad} events; find out why"
                raise EvaluationError(msg)
        kept = {f"score_{n}": v[scored].astype(np.float32) for n, v in values.items()}
        kept["e_corr"] = chunk.e_corr[scored].astype(np.float32)
        if not simulated:
            data.add(**kept)
        else:
            is_electron = np.full(int(scored.sum()), chunk.kind == "electron")
            parts.add(
                **kept,
                electron=is_electron,
                e_true=chunk.e_true[scored].astype(np.float32),
                sampling=chunk.weight[scored],
            )
            _add_attention(attention, chunk, fused, models, calibration)
            if chunk.kind == "electron":
                _add_energy(energy, chunk, energy_model, models, calibration)
        if progress is not None:
            progress(len(chunk.ntuple))
    electron = np.asarray(parts.joined("electron"), bool)
    if not electron.size:
        msg = (
            f"no simulated event of the {region} region was selected and scored; look at the files"
        )
        raise EvaluationError(msg)
    e_true, sampling = (np.asarray(parts.joined(n), np.float64) for n in ("e_true", "sampling"))
    return Holdout(
        scores={n: np.asarray(parts.joined(f"score_{n}"), np.float32) for n in names},
        electron=electron,
        e_corr_gev=np.asarray(parts.joined("e_corr"), np.float32),
        e_true_gev=e_true.astype(np.float32),
        sampling=sampling,
        rate=_rates(paths, aliases, electron, e_true, sampling, target or {}),
        data={n: np.asarray(data.joined(f"score_{n}"), np.float32) for n in names},
        data_e_corr_gev=np.asarray(data.joined("e_corr"), np.float32),
        unscored=unscored,
        attention=_attention(attention, fused),
        energy=_energy(energy) if energy_model else None,
    )


def _with_attention(models: Models, region: str) -> tuple[BundleRef, ...]:
    """Files of the first network that says how much it uses each modality."""
    networks = models.members.get(region, {}).values()
    return next((refs for refs in networks if all(r.bundle.modalities for r in refs)), ())


def _run(
    refs: Sequence[BundleRef],
    outputs: Sequence[str],
    chunk: Chunk,
    rows: npt.NDArray[np.intp],
    models: Models,
    calibration: Calibration | None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Outputs of a network for some rows of the chunk's selection; NaN outside its energy ranges."""
    out: dict[str, npt.NDArray[np.float32]] = {}
    energy = chunk.e_corr[rows]
    for ref in refs:
        low, high = ref.bundle.energy_range_gev
        inside = (energy >= low) & (energy < high)
        inputs = features.build(
            chunk.ntuple,
            chunk.rows[rows[inside]],
            ref.bundle.input_names,
            ref.bundle.variables,
            calibration=calibration,
            species="electron" if chunk.kind == "electron" else "proton",
        )
        result = run_bundle(
            ref, inputs, providers=models.providers, batch=models.batch, outputs=outputs
        )
        for name, values in result.items():
            if name not in out:
                out[name] = np.full((rows.size, *values.shape[1:]), np.nan, np.float32)
            out[name][inside] = values
    return out


def _add_attention(
    parts: _Parts,
    chunk: Chunk,
    refs: Sequence[BundleRef],
    models: Models,
    calibration: Calibration | None,
) -> None:
    if not refs or not chunk.rows.size:
        return
    step = -(-chunk.rows.size // _ATTENTION_PER_CHUNK)
    rows = np.arange(0, chunk.rows.size, step)
    weights = _run(refs, ("attention",), chunk, rows, models, calibration)["attention"]
    good = np.isfinite(weights).all(axis=1)
    parts.add(
        weights=weights[good],
        electron=np.full(int(good.sum()), chunk.kind == "electron"),
        e_corr=chunk.e_corr[rows][good].astype(np.float32),
        sampling=chunk.weight[rows][good],
    )


def _attention(parts: _Parts, refs: Sequence[BundleRef]) -> Attention | None:
    if not refs or "weights" not in parts.columns:
        return None
    return Attention(
        refs[0].bundle.modalities,
        np.asarray(parts.joined("weights"), np.float32),
        np.asarray(parts.joined("electron"), bool),
        np.asarray(parts.joined("e_corr"), np.float32),
        np.asarray(parts.joined("sampling"), np.float64),
    )


def _add_energy(
    parts: _Parts,
    chunk: Chunk,
    refs: Sequence[BundleRef],
    models: Models,
    calibration: Calibration | None,
) -> None:
    if not refs or not chunk.rows.size:
        return
    rows = np.arange(chunk.rows.size)
    out = _run(refs, ("log_ratio", "log_sigma"), chunk, rows, models, calibration)
    good = np.isfinite(out["log_ratio"])
    raw = np.asarray(chunk.ntuple["e_raw"], np.float64)[chunk.rows]
    parts.add(
        e_true=chunk.e_true[good],
        e_corr=chunk.e_corr[good],
        leakage=1 - raw[good] / chunk.e_true[good],
        log_ratio=out["log_ratio"][good].astype(np.float64),
        log_sigma=out["log_sigma"][good].astype(np.float64),
        sampling=chunk.weight[good],
    )


def _energy(parts: _Parts) -> EnergyEstimates:
    names = ("e_true", "e_corr", "leakage", "log_ratio", "log_sigma", "sampling")
    columns = [np.asarray(parts.joined(name), np.float64) for name in names]
    if not columns[0].size:
        msg = "no electron lies in the energy range of the energy network; look at the files"
        raise EvaluationError(msg)
    return EnergyEstimates(*columns)


def _rates(
    paths: Sequence[str | os.PathLike[str]],
    aliases: str,
    electron: npt.NDArray[np.bool_],
    e_true: npt.NDArray[np.float64],
    sampling: npt.NDArray[np.float64],
    target: Mapping[str, Spectrum],
) -> FloatArray | None:
    """Events per second, or None where a file of simulation says no generated events."""
    generated: dict[str, list[Generated]] = {kind: [] for kind in MC_KINDS}
    convention = load_aliases(aliases)
    for path in paths:
        record = look(str(path), convention).record
        kind = record.get("kind")
        if kind in MC_KINDS:
            if "generated" not in record:
                return None
            generated[str(kind)].append(Generated.model_validate(record["generated"]))
    if not all(kind in target and generated[kind] for kind in MC_KINDS):
        return None
    rate = np.full(e_true.size, np.nan)
    for kind, rows in (("electron", electron), ("proton", ~electron)):
        rate[rows] = rate_weights(e_true[rows], sampling[rows], generated[kind], target[kind])
    # energies beyond the thrown ones cannot be; rounding at the ends can
    return np.asarray(np.nan_to_num(rate), np.float64)
