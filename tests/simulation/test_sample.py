import json
import re

import numpy as np
import pytest
import uproot

from processors.geometry import BAR_U_MM, GENERATION_RADIUS_M, bar_of_id, layer_of_id
from processors.showers import edge_bars_clear, f_last, layer_rms_mm, zeta
from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum
from simulation import orbit, sample
from simulation.primaries import TOTAL_ETENDUE_M2SR
from simulation.sample import Sample, simulate, simulate_block

LAYERS = range(14)


def read(paths):
    parts, records = [], []
    for path in paths:
        with uproot.open(path) as file:
            parts.append(file["DmlNtup"].arrays(library="np"))
            records.append(json.loads(str(file["cre_metadata"])))
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, records


def layers(events, name):
    return np.stack([events[name.format(i)] for i in LAYERS], axis=1)


def images(events):
    image = np.zeros((len(events["tt_run"]), 14, 22), np.float32)
    for k, (bar_id, energy) in enumerate(
        zip(events["tt_BgoHit_GlobalBarID"], events["tt_BgoHit_Energy"], strict=True)
    ):
        image[k, layer_of_id(bar_id), bar_of_id(bar_id)] = energy
    return image


@pytest.fixture(scope="module")
def electrons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("electrons")
    paths = simulate(Sample("electron", 5, n_events=150_000, n_files=2), folder, workers=1)
    return paths, *read(paths)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = Sample(
        "data", 5, livetime_s=1500.0, e_min_gev=80, min_deposit_gev=85, n_files=2, run_s=800
    )
    paths = simulate(made, tmp_path_factory.mktemp("data"), workers=1)
    return made, paths, *read(paths)


def test_monte_carlo_files_say_what_they_are(electrons):
    paths, events, records = electrons
    assert [p.name for p in paths] == [
        f"DmlNtup_synthetic_electron_100GeV_10TeV_00{i}.root" for i in range(2)
    ]
    for record in records:
        assert record["synthetic"] is True
        assert record["kind"] == "electron"
        assert record["bgo_reconstruction"] == "new"
        assert record["data_mc_difference"] is False
        assert record["generated"] == {
            "events": 75_000,
            "e_min_gev": 100.0,
            "e_max_gev": 10_000.0,
            "index": -1.0,
            "radius_m": GENERATION_RADIUS_M,
        }
    assert uproot.open(paths[0]).file.uuid != uproot.open(paths[1]).file.uuid
    energy = events["tt_ekin"] / 1e3
    assert 100 <= energy.min() < energy.max() <= 10_000
    assert np.median(energy) == pytest.approx(1000, rel=0.05)
    assert (events["tt_evtPoid"] == 1).all()
    assert not events["tt_run"].any()
    assert not events["tt_second"].any()
    assert (events["tt_selection_bits"] & 1).all()


def test_branches_agree_with_the_hits(electrons):
    _, events, _ = electrons
    image = images(events)
    rms = layer_rms_mm(image)
    fraction = image.sum(axis=2) / image.sum(axis=(1, 2))[:, None]
    assert image.sum(axis=(1, 2)) / 1e3 == pytest.approx(events["tt_bgoTotalE_GeV"], rel=1e-5)
    assert layers(events, "tt_Rms{}") == pytest.approx(rms, rel=1e-4, abs=1e-3)
    assert layers(events, "tt_F{}") == pytest.approx(fraction, rel=1e-4, abs=1e-9)
    assert events["tt_Xtrl"] == pytest.approx(zeta(rms, f_last(fraction)), rel=1e-3, abs=1e-6)
    assert ((events["tt_selection_bits"] >> 3) & 1 == edge_bars_clear(image)).all()
    assert (layers(events, "tt_nBarLayer{}") == (image > 10).sum(axis=2)).all()
    assert (events["tt_nBgoHits"] == (image > 0).sum(axis=(1, 2))).all()


def test_even_layers_measure_y(electrons):
    _, events, _ = electrons
    tilted = (events["tt_bgoRecSlopeY"] > 0.5) & ((events["tt_selection_bits"] & 4) > 0)
    image = images({k: v[tilted] for k, v in events.items()})
    centre = (image @ BAR_U_MM.astype(np.float32)) / np.maximum(image.sum(axis=2), 1e-6)
    assert ((centre[:, 6] - centre[:, 2]) > 0).mean() > 0.95
    assert abs(((centre[:, 7] - centre[:, 3]) > 0).mean() - 0.5) < 0.2


def test_events_of_all_sorts_exist(electrons):
    _, events, _ = electrons
    bits = events["tt_selection_bits"]
    fiducial = (bits & 4) > 0
    assert 0.1 < fiducial.mean() < 0.4
    assert (layers(events, "tt_F{}").max(axis=1) > 0.35).mean() > 0.05  # side entry
    failed = (events["tt_bgoRecSlopeX"] == 0) & (events["tt_bgoRecInterceptX"] == 0)
    assert failed.any()
    high = fiducial & (events["tt_bgoTotalEcorr_GeV"] > 130)
    assert ((bits[high] >> 1) & 1).mean() > 0.98
    assert 0.86 < ((bits[high] >> 4) & 1).mean() < 0.93


def test_acceptance_from_the_files(electrons):
    _, events, records = electrons
    generated = sum(r["generated"]["events"] for r in records)
    acceptance = TOTAL_ETENDUE_M2SR * ((events["tt_selection_bits"] & 4) > 0).sum() / generated
    # 3 % statistical; the pure geometry is 0.292 m2 sr
    assert acceptance == pytest.approx(0.295, rel=0.09)


def test_workers_do_not_change_the_files(tmp_path):
    made = Sample("proton", 3, n_events=140_000, e_min_gev=200, e_max_gev=400, min_deposit_gev=60)
    one = simulate(made, tmp_path / "one", workers=1)
    seen = []
    two = simulate(made, tmp_path / "two", workers=2, progress=lambda *step: seen.append(step))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    (a, _), (b, _) = read(one), read(two)
    assert len(a["tt_run"]) > 100
    for name, values in a.items():
        if values.dtype == object:
            assert all(np.array_equal(x, y) for x, y in zip(values, b[name], strict=True))
        else:
            assert np.array_equal(values, b[name])
    assert uproot.open(one[0]).file.uuid == uproot.open(two[0]).file.uuid


def test_both_reconstructions_see_the_same_events():
    block = sample.Block(0, 0, thrown=20_000)
    new, old = (
        simulate_block(Sample("electron", 1, n_events=20_000, reconstruction=v), block)
        for v in ("new", "old")
    )
    assert np.array_equal(new["hit_mev"], old["hit_mev"])
    assert np.array_equal(new["tt_bgoTotalE_GeV"], old["tt_bgoTotalE_GeV"])
    ratio = old["tt_bgoTotalEcorr_GeV"] / new["tt_bgoTotalEcorr_GeV"]
    assert np.median(ratio) == pytest.approx(0.993, abs=0.003)
    assert not np.array_equal(new["tt_bgoRecSlopeX"], old["tt_bgoRecSlopeX"])


def test_data_files(data):
    made, paths, events, records = data
    assert paths[0].name == "DmlNtup_synthetic_Data_80GeV_10TeV_000.root"
    runs = [r for record in records for r in record["runs"]]
    assert [r["run"] for r in runs] == [1, 2, 3]
    assert sum(r["livetime_s"] for r in runs) == pytest.approx(1500, abs=1)
    assert (np.diff(events["tt_second"]) >= 0).all()
    for run in runs:
        seconds = events["tt_second"][events["tt_run"] == run["run"]]
        assert run["start_s"] <= seconds.min()
        assert seconds.max() < run["stop_s"]
    assert records[0]["injected"] == {
        "electron": ELECTRON_2017.to_dict(),
        "proton": PROTON_2026.to_dict(),
    }
    assert events["tt_bgoTotalE_GeV"].min() >= 85
    assert records[0]["skim"]["complete_above_ecorr_gev"] < 100
    assert not events["tt_ekin"].any()
    assert (events["tt_evtPoid"] == 1).all()
    outside = (events["tt_selection_bits"] & 1).astype(bool)
    assert (outside == ~orbit.in_saa(events["tt_second"])).all()
    assert made.energies_of("proton") == pytest.approx((93.5, 1e5))


def test_rate_of_injected_electrons():
    # a flat efficiency near the geometry: counts of fiducial electrons = flux * A * livetime
    spectrum = Spectrum(0.1, 100.0, (3.0,))
    made = Sample(
        "data",
        9,
        livetime_s=4000.0,
        e_min_gev=130,
        e_max_gev=1000.0,
        min_deposit_gev=150,
        electron_spectrum=spectrum,
        proton_spectrum=Spectrum(1e-12, 100.0, (2.7,)),
    )
    runs = sample._runs(made)
    columns = sample.concatenate(simulate_block(made, b) for b in sample._blocks(made, runs))
    live = sum(r.to_dict()["livetime_s"] for r, _ in runs)
    bits = columns["tt_selection_bits"]
    energy = columns["tt_bgoTotalEcorr_GeV"]
    selected = ((bits & 5) == 5) & (energy > 180) & (energy < 900)
    expected = float(spectrum.integral(180.0, 900.0)) * 0.293 * live
    assert expected > 400
    assert selected.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    inside = ((bits & 5) == 4) & (energy > 180) & (energy < 900)
    assert inside.sum() / selected.sum() == pytest.approx(
        sum(orbit.in_saa(np.arange(runs[0][0].start_s, runs[-1][0].stop_s)))
        * orbit.LIVE_SHARE
        / live,
        abs=0.03,
    )


def test_difference_changes_variables_and_not_hits():
    settings = {"livetime_s": 300.0, "e_min_gev": 80.0, "min_deposit_gev": 85.0}
    plain = Sample("data", 4, **settings)
    other = Sample("data", 4, data_mc_difference=True, **settings)
    block = sample._blocks(plain, sample._runs(plain))[0]
    a, b = simulate_block(plain, block), simulate_block(other, block)
    assert np.array_equal(a["hit_mev"], b["hit_mev"])
    assert (b["tt_Rms0"] <= a["tt_Rms0"]).all()
    assert np.median(a["tt_Rms0"] - b["tt_Rms0"]) > 2.4
    rms = np.stack([b[f"tt_Rms{i}"] for i in LAYERS], axis=1)
    fraction = np.stack([b[f"tt_F{i}"] for i in LAYERS], axis=1)
    assert b["tt_Xtrl"] == pytest.approx(zeta(rms, f_last(fraction)))
    assert fraction.sum(axis=1) == pytest.approx(1.0)


def test_triggered_only_and_weights():
    settings = {"n_events": 20_000, "e_min_gev": 300.0, "e_max_gev": 600.0}
    block = sample.Block(0, 0, thrown=20_000)
    everything = simulate_block(Sample("proton", 2, **settings), block)
    some = simulate_block(Sample("proton", 2, triggered_only=True, **settings), block)
    fired = (everything["tt_selection_bits"] & 2) > 0
    assert 0.02 < fired.mean() < 0.7
    # the same showers; gains and noise differ, since fewer events are digitised
    assert abs(len(some["tt_ekin"]) - fired.sum()) <= 5
    same = np.intersect1d(some["tt_ekin"], everything["tt_ekin"][fired], return_indices=True)
    assert len(same[0]) >= fired.sum() - 5
    energy = some["tt_bgoTotalE_GeV"][same[1]] / everything["tt_bgoTotalE_GeV"][fired][same[2]]
    assert energy.std() < 0.02
    assert (some["tt_selection_bits"] & 2).all()
    # protons that cross without an interaction: some tens of MeV per layer
    assert (everything["tt_bgoTotalE_GeV"] < 0.8).mean() > 0.05
    tail = simulate_block(Sample("proton", 2, tail_sampling=True, **settings), block)
    assert (tail["tt_evtPoid"] >= 1).all()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_fiducial_events_do_not_depend_on_the_share_outside(share):
    settings = {"n_events": 60_000, "e_min_gev": 300.0, "e_max_gev": 600.0}
    block = sample.Block(0, 0, thrown=60_000)
    whole = simulate_block(Sample("electron", 2, **settings), block)
    thin = simulate_block(Sample("electron", 2, outside_share=share, **settings), block)
    fiducial = [(c["tt_selection_bits"] & 4) > 0 for c in (whole, thin)]
    # before other cuts, about 1 % of what is reconstructed as fiducial comes from outside
    number = fiducial[0].sum()
    kept = thin["tt_evtPoid"][fiducial[1]]
    assert abs(kept.sum() - number) < 4 * np.sqrt(number) + 0.02 * number
    assert (kept == 1).mean() > 0.98
    total = thin["tt_evtPoid"].sum()
    if share:
        assert total == pytest.approx(len(whole["tt_ekin"]), rel=0.1)
    else:
        assert total < 0.5 * len(whole["tt_ekin"])


def test_existing_files_are_kept(tmp_path):
    made = Sample("electron", 1, n_events=100)
    (path,) = simulate(made, tmp_path, workers=1)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        simulate(made, tmp_path, workers=1)
    assert path.read_bytes() == before
    simulate(made, tmp_path, workers=1, overwrite=True)
    with pytest.raises(ValueError, match="must contain 'synthetic'"):
        simulate(made, tmp_path, prefix="DmlNtup", workers=1)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        simulate(made, tmp_path / "x", workers=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "helium"}, "kind must be one of ('data', 'electron', 'proton'), got 'helium'"),
        ({"reconstruction": "mid"}, "reconstruction must be one of"),
        ({"hadronic_model": "c"}, "hadronic_model must be one of"),
        ({"n_events": None}, "Monte Carlo needs n_events"),
        ({"livetime_s": 5.0}, "Monte Carlo needs n_events and no livetime_s"),
        ({"kind": "data"}, "data need livetime_s and no n_events"),
        ({"n_files": 200}, "n_events must be at least n_files"),
        ({"e_min_gev": 2e4}, "energies must be"),
        ({"e_max_gev": float("nan")}, "energies must be"),
        ({"min_deposit_gev": -1.0}, "min_deposit_gev must not be negative"),
        ({"min_deposit_gev": float("nan")}, "min_deposit_gev must not be negative"),
        ({"tail_sampling": True}, "tail_sampling is for proton"),
        ({"data_mc_difference": True}, "data_mc_difference is for data"),
        ({"outside_share": 1.5}, "outside_share must be from 0 to 1"),
        (
            {"kind": "data", "n_events": None, "livetime_s": 1.0, "outside_share": 0.5}
            | {"min_deposit_gev": 200.0},
            "and 0 or 1 in data",
        ),
        ({"seed": -1}, "seed not negative"),
        ({"n_files": 0}, "n_files, run_s must be at least 1"),
        ({"kind": "data", "n_events": None, "livetime_s": -1.0}, "livetime_s must be positive"),
        (
            {"kind": "data", "n_events": None, "livetime_s": 1.0, "min_deposit_gev": 85.0},
            "e_min_gev must not exceed min_deposit_gev",
        ),
    ],
)
def test_senseless_samples_are_refused(settings, message):
    values = {"kind": "electron", "seed": 1, "n_events": 100} | settings
    with pytest.raises(ValueError, match=re.escape(message)):
        Sample(**values)
