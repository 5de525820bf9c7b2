"""Scores of selected events: each event by the network of its region and energy.

A session is opened when it is first needed in a process, after the hash of the file was checked, and
kept; one thread, mini-batches, the memory arena on. Inputs are built once for all networks of a region.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from processors import features, showers
from processors.bundle import ORT_ERRORS, BundleRef, open_session, read_checked
from processors.calibration import Calibration, calibrate_f_last, calibrate_rms
from processors.exceptions import ModelError
from processors.modelset import BATCH, CPU, Models, variables_and_inputs
from processors.ntuple import Ntuple
from processors.omega import combine
from processors.score import zeta_omega

__all__ = ["Models", "run_bundle", "score_events", "zeta_values"]

Values = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
Species = Literal["electron", "proton"]

#: Events whose inputs are built at a time, rounded to whole batches.
_BLOCK = 4096
#: Open sessions by process (a forked process must not use its parent's), file, hash and providers.
_SESSIONS: dict[tuple[int, str, str, tuple[str, ...]], ort.InferenceSession] = {}


def run_bundle(
    ref: BundleRef,
    inputs: Mapping[str, Values],
    *,
    providers: Sequence[str] = CPU,
    batch: int = BATCH,
    outputs: Sequence[str] | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Run a network.

    Args:
        ref: The network.
        inputs: Input name to C-contiguous float32 arrays, shape (n, …); more than it needs do no harm.
        providers: Execution providers in order of preference.
        batch: Events per call; 256 to 512 is fastest and keeps the memory small.
        outputs: Names of the outputs wanted; default all.

    Returns:
        Output name to float32 values, shape (n, …).

    Raises:
        ModelError: If the file's hash is not that of ``ref``, an input is missing or has another type
            or shape, or the network fails.
    """
    bundle = ref.bundle
    missing = [name for name in bundle.input_names if name not in inputs]
    if missing:
        msg = f"model {bundle.name!r} needs the input {missing[0]!r}, got: {', '.join(inputs)}"
        raise ModelError(msg)
    session = _session(ref, tuple(providers))
    arrays = {name: inputs[name] for name in bundle.input_names}
    n = len(arrays[bundle.input_names[0]])
    wanted = [t for t in bundle.outputs if outputs is None or t.name in outputs]
    names = [t.name for t in wanted]
    out = {t.name: np.empty((n, *(int(s or 0) for s in t.shape[1:])), np.float32) for t in wanted}
    try:
        for start in range(0, n, batch):
            part = slice(start, min(start + batch, n))
            results = session.run(names, {k: v[part] for k, v in arrays.items()})
            for name, values in zip(names, results, strict=True):
                if values.shape != out[name][part].shape:
                    msg = f"output {name!r} has shape {list(values.shape)} for {part.stop - start} events"
                    raise ValueError(msg)
                out[name][part] = values
    except ORT_ERRORS as err:
        text = (str(err).strip().splitlines() or ["no message"])[0]
        msg = f"model {bundle.name!r} ({ref.path}) cannot take these inputs: {text}"
        raise ModelError(msg) from err
    return out


def _session(ref: BundleRef, providers: tuple[str, ...]) -> ort.InferenceSession:
    key = (os.getpid(), ref.path, ref.sha256, providers)
    if key not in _SESSIONS:
        content, _ = read_checked(ref.path, ref.sha256)
        _SESSIONS[key] = open_session(content, ref.path, providers)
    return _SESSIONS[key]


def zeta_values(
    ntuple: Ntuple,
    rows: Rows,
    *,
    calibration: Calibration | None = None,
    species: Species | None = None,
) -> npt.NDArray[np.float64]:
    """The classical score -log10(zeta).

    Args:
        ntuple: The chunk.
        rows: Indices of the events, shape (n,).
        calibration: If given, zeta is computed from the calibrated RMS and F_last and not read.
        species: Species of the simulated events, needed with a calibration.

    Returns:
        Shape (n,).
    """
    if calibration is None or species is None:
        return np.asarray(zeta_omega(ntuple["zeta"][rows]), np.float64)
    energy = ntuple["e_corr"][rows]
    rms = calibrate_rms(calibration, species, energy, ntuple["layer_rms"][rows])
    last = showers.f_last(ntuple["layer_fraction"][rows])
    f_last = calibrate_f_last(calibration, species, energy, last)
    return np.asarray(zeta_omega(showers.zeta(rms, f_last)), np.float64)


def score_events(
    ntuple: Ntuple,
    rows: Rows,
    region: str,
    models: Models,
    names: Sequence[str],
    *,
    calibration: Calibration | None = None,
    species: Species | None = None,
    with_energy: bool = False,
) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of selected events, and where wanted their energies.

    Args:
        ntuple: The chunk.
        rows: Ascending indices of the events, all of one region, shape (n,).
        region: Their region.
        models: The networks.
        names: Scores wanted: ``zeta``, names of networks, ``omega``.
        calibration: Table applied to the variables, for simulated events only.
        species: Species of the simulated events, needed with a calibration.
        with_energy: Also give ``energy`` (GeV) and ``energy_sigma`` (relative, the network's own) if the region
            has an energy network: E_corr times the exponential of its answer.

    Returns:
        Score to its values, shape (n,), electron high; NaN outside the energy ranges of a network, and
        where one of its inputs is NaN or infinite.

    Raises:
        ModelError: If a score has no network, or a network cannot be used.
        MissingBranchError: If the file lacks a field.
    """
    chosen = np.asarray(rows, np.intp)
    networks = models.networks(region, names)
    energy = np.asarray(ntuple["e_corr"], np.float64)[chosen]
    refs = {name: models.members[region][name] for name in networks}
    estimated = with_energy and region in models.energy
    if estimated:
        refs["energy"] = (models.energy[region].ref,)
    logits = _outputs(ntuple, chosen, energy, refs, models, calibration, species)
    out = {}
    for name in names:
        if name == "zeta":
            out[name] = zeta_values(ntuple, chosen, calibration=calibration, species=species)
        elif name == "omega":
            out[name] = combine(models.omega[region], models.strategy, logits, energy)
        else:
            out[name] = logits[name]
    if estimated:
        out["energy"] = energy * np.exp(logits["energy"])
        out["energy_sigma"] = np.exp(logits["energy_sigma"])
    return out


def _outputs(
    ntuple: Ntuple,
    rows: Rows,
    energy: npt.NDArray[np.float64],
    refs: Mapping[str, Sequence[BundleRef]],
    models: Models,
    calibration: Calibration | None,
    species: Species | None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Outputs of networks, each event by the file whose energy range holds it.

    A classifier's output goes by the name of the network, those of the energy network, logarithms, by
    ``energy`` and ``energy_sigma``.
    """
    wanted = {
        network: {"log_ratio": "energy", "log_sigma": "energy_sigma"}
        if network == "energy"
        else {"score": network}
        for network in refs
    }
    out = {name: np.full(len(rows), np.nan) for names in wanted.values() for name in names.values()}
    inputs, variables = variables_and_inputs(ref for files in refs.values() for ref in files)
    # in blocks, so that the inputs stay in the processor's cache between building and use
    block = max(models.batch, _BLOCK // models.batch * models.batch)
    for start in range(0, len(rows) if refs else 0, block):
        part = slice(start, start + block)
        built: dict[str, Values] = dict(
            features.build(
                ntuple, rows[part], inputs, variables, calibration=calibration, species=species
            )
        )
        for network, files in refs.items():
            for ref in files:
                inside = ref.bundle.serves(energy[part])
                if inside.any():
                    given = _inputs_of(ref, built, inside, variables)
                    result = run_bundle(
                        ref,
                        given,
                        providers=models.providers,
                        batch=models.batch,
                        outputs=tuple(wanted[network]),
                    )
                    # a network clips its inputs: an infinite one would give a finite, wrong score
                    finite = _finite(given)
                    for output, name in wanted[network].items():
                        out[name][part][inside] = np.where(finite, result[output], np.nan)
    return out


def _finite(inputs: Mapping[str, Values]) -> npt.NDArray[np.bool_]:
    """Events of which all inputs are finite, shape (n,)."""
    sums = [v.reshape(len(v), -1).sum(axis=1, dtype=np.float64) for v in inputs.values()]
    return np.asarray(np.isfinite(sums).all(axis=0))


def _inputs_of(
    ref: BundleRef,
    built: Mapping[str, Values],
    inside: npt.NDArray[np.bool_],
    variables: Sequence[str],
) -> dict[str, Values]:
    """Inputs of one file; no copy in the usual case, all events in range and one list of variables."""
    whole = bool(inside.all())
    given = {n: built[n] if whole else built[n][inside] for n in ref.bundle.input_names}
    if ref.bundle.variables and ref.bundle.variables != tuple(variables):
        columns = [variables.index(v) for v in ref.bundle.variables]
        given["variables"] = np.ascontiguousarray(given["variables"][:, columns])
    return given
