"""Small ntuples written directly with uproot: known content, independent of the simulation."""

import json
import uuid
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from processors.geometry import BAR_U_MM, LAYER_MEASURES_Y, LAYER_Z_MM, N_BARS, N_LAYERS
from processors.showers import edge_bars_clear, f_last, layer_rms_mm, zeta

Content = dict[str, Any]


def toy_events(n: int, seed: int, *, kind: str = "electron") -> Content:
    """Plausible events: Gaussian-like showers along straight axes, most of them fiducial."""
    rng = np.random.default_rng(seed)
    slope = rng.normal(0.0, 0.3, (n, 2))
    intercept = rng.uniform(-260, 260, (n, 2)) - slope * 247
    energy = 100.0 * 10.0 ** rng.uniform(0.0, 1.5, n)
    depth = np.arange(N_LAYERS)
    width = 12.0 if kind == "electron" else 35.0
    profile = np.exp(-0.5 * ((depth - (4.5 if kind == "electron" else 8.0)) / 3.0) ** 2)
    profile = profile * rng.lognormal(0.0, 0.2, (n, N_LAYERS))
    profile /= profile.sum(axis=1, keepdims=True)
    image = np.zeros((n, N_LAYERS, N_BARS))
    for layer in range(N_LAYERS):
        view = 1 if LAYER_MEASURES_Y[layer] else 0
        centre = intercept[:, view] + slope[:, view] * LAYER_Z_MM[layer]
        shape = 1.0 / (1.0 + ((BAR_U_MM - centre[:, None]) / width) ** 4)
        image[:, layer] = profile[:, [layer]] * shape / shape.sum(axis=1, keepdims=True)
    image *= energy[:, None, None]
    image[image < 0.002] = 0.0
    e_raw = image.sum(axis=(1, 2))
    fraction = image.sum(axis=2) / e_raw[:, None]
    rms = layer_rms_mm(image)
    return {
        "image": image,
        "e_true": energy,
        "e_raw": e_raw,
        "e_corr": e_raw * 1.05,
        "fraction": fraction,
        "rms": rms,
        "zeta": zeta(rms, f_last(fraction)),
        "n_bars": (image > 0.010).sum(axis=2),
        "slope": slope,
        "intercept": intercept,
        "edge": edge_bars_clear(image),
        "fiducial": np.all(
            [np.abs(intercept + slope * z) < 280 for z in (46.0, 448.0)], axis=(0, 2)
        ),
        "saa": rng.random(n) > 0.05,
        "trigger": rng.random(n) > 0.02,
        "psd": rng.gamma(40.0, 1 / 40.0, (n, 2)),
        "weight": rng.choice([1.0, 5.0], n) if kind == "proton" else np.ones(n),
    }


def dmlntup_branches(events: Content, *, kind: str, run: int = 1) -> dict[str, Any]:
    n = len(events["e_raw"])
    layer, bar = np.meshgrid(np.arange(N_LAYERS), np.arange(N_BARS), indexing="ij")
    ids = ((layer << 11) | (bar << 6)).astype(np.int32)
    fired = events["image"] > 0
    counts = fired.sum(axis=(1, 2))
    bits = (
        events["saa"].astype(np.int32)
        | (events["trigger"].astype(np.int32) << 1)
        | (events["fiducial"].astype(np.int32) << 2)
        | (events["edge"].astype(np.int32) << 3)
        | (np.ones(n, np.int32) << 4)
    )
    out: dict[str, Any] = {
        "tt_bgoTotalE_GeV": events["e_raw"].astype(np.float32),
        "tt_bgoTotalEcorr_GeV": events["e_corr"].astype(np.float32),
        "tt_Xtrl": events["zeta"].astype(np.float32),
        "tt_Rmsl": events["rms"][:, -1].astype(np.float32),
        "tt_Rmsr": events["rms"].mean(axis=1).astype(np.float32),
        "tt_nBgoHits": counts.astype(np.int32),
        "tt_BgoHit_GlobalBarID": ak.unflatten(np.broadcast_to(ids, fired.shape)[fired], counts),
        "tt_BgoHit_Energy": ak.unflatten((events["image"][fired] * 1e3).astype(np.float32), counts),
        "tt_ekin": (events["e_true"] * 1e3 if kind != "data" else np.zeros(n)).astype(np.float32),
        "tt_evtPoid": events["weight"].astype(np.float32),
        "tt_selection_bits": bits,
        "tt_decision_bits": np.zeros(n, np.int32),
        "tt_decision_bits1": np.zeros(n, np.int32),
        "tt_stkEcore1Rm_trk": np.full(n, 500.0, np.float32),
        "tt_nStkClu_trk": np.full(n, 12.0, np.float32),
        "tt_run": np.full(n, run if kind == "data" else 0, np.int32),
        "tt_second": np.arange(n, dtype=np.int32),
    }
    for i in range(N_LAYERS):
        out[f"tt_F{i}"] = events["fraction"][:, i].astype(np.float32)
        out[f"tt_Rms{i}"] = events["rms"][:, i].astype(np.float32)
        out[f"tt_nBarLayer{i}"] = events["n_bars"][:, i].astype(np.uint8)
    for view, name in enumerate("XY"):
        out[f"tt_bgoRecSlope{name}"] = events["slope"][:, view].astype(np.float32)
        out[f"tt_bgoRecIntercept{name}"] = events["intercept"][:, view].astype(np.float32)
        out[f"tt_stkTrackNClus{name}"] = np.full(n, 5, np.int32)
        out[f"tt_stkTrackNHole{name}"] = np.zeros(n, np.int32)
        out[f"tt_psdCharge{name}"] = events["psd"][:, view].astype(np.float32)
        out[f"tt_psdMatch{name}"] = np.full(n, 3.0, np.float32)
        out[f"tt_stkCharge{name}"] = events["psd"][:, view].astype(np.float32)
    out["tt_stkTrackDistance"] = np.full(n, 5.0, np.float32)
    out["tt_stkTrackAngle"] = np.full(n, 1.0, np.float32)
    return out


def write_tree(
    path: Path, tree: str, branches: dict[str, Any], record: dict[str, Any] | None, seed: int
) -> None:
    """Write one file with a fixed uuid; two clusters when there are enough events."""

    def identity() -> uuid.UUID:
        return uuid.UUID(int=seed, version=1)

    with uproot.recreate(path, uuid_function=identity) as file:
        types = {
            k: (v.type.content if isinstance(v, ak.Array) else (v.dtype, v.shape[1:]))
            for k, v in branches.items()
        }
        file.mktree(
            tree,
            {k: str(t) if not isinstance(t, tuple) else _array_type(t) for k, t in types.items()},
        )
        n = len(next(iter(branches.values())))
        for part in (slice(0, n // 2), slice(n // 2, n)):
            if part.stop > part.start:
                file[tree].extend({k: v[part] for k, v in branches.items()})
        if record is not None:
            file["cre_metadata"] = json.dumps(record)


def _array_type(dtype_shape: tuple[np.dtype[Any], tuple[int, ...]]) -> str:
    dtype, shape = dtype_shape
    return " * ".join([*map(str, shape), str(dtype)])


def sample_record(kind: str, *, run: int = 1, livetime_s: float = 1000.0) -> dict[str, Any]:
    record: dict[str, Any] = {
        "synthetic": True,
        "generator": "tests",
        "kind": kind,
        "bgo_reconstruction": "new",
        "seed": 0,
    }
    if kind == "data":
        record["runs"] = [{"run": run, "start_s": 0.0, "stop_s": 1300.0, "livetime_s": livetime_s}]
    else:
        record["generated"] = {
            "events": 1_000_000,
            "e_min_gev": 50.0,
            "e_max_gev": 5000.0,
            "index": -1.0,
            "radius_m": 1.381976597885,
        }
    return record
