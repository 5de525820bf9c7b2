import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.histfile import load, save
from analysis.measurement import flux_from_histograms
from analysis.selection import project
from analysis.templates import template
from analysis.toys.draw import draw_data, draw_simulation, expectation, truth_table
from analysis.toys.file import toy_histograms
from analysis.toys.model import ToyModelError, read_toy_model, shipped, toy_model, write_toy_model

LIVETIME = 2e7


@pytest.fixture(scope="module")
def model():
    return read_toy_model("synthetic_omega")


@pytest.fixture(scope="module")
def target(model):
    return model.target_flux_integral["electron"]


@pytest.fixture(scope="module")
def truth(model, target):
    return expectation(model, target, LIVETIME)


def test_shipped_model_is_what_its_simulation_was(model):
    assert shipped() == ["synthetic_omega", "synthetic_omega_topfiducial"]
    assert model.meta["synthetic"] is True
    assert "cre simulate" in model.meta["source"]
    assert model.energies.size == 41
    assert model.energy_edges[[0, 30, 31, -1]] == pytest.approx(
        [23.988, 1513.56, 1737.80, 10471.3], rel=1e-4
    )
    assert (model.score["cut"], list(model.score["control"])) == (5.0, [-40.0, -8.0])
    # below the geometric 0.2918 m² sr of the fiducial cut
    assert ((model.acceptance > 0.2) & (model.acceptance < 0.2918)).all()
    assert model.response.sum(axis=1) == pytest.approx(np.ones(41))
    assert (np.diagonal(model.response[:, 1:-1]) > 0.8).all()
    for kind in ("electron", "proton"):
        good = model.parametrisation.smooth(kind).goodness
        assert good.used.all()
        assert good.chi2.sum() / good.ndf.sum() < 1.25


def test_expected_counts_are_rates_times_livetime(model, target, truth):
    rate = model.acceptance * target
    by_hand = [sum(rate[i] * model.response[i, j + 1] for i in range(41)) for j in range(41)]
    by_hand[0] += rate[0] * (rate[0] / rate[1]) * model.response[0, 2]
    by_hand[40] += rate[40] * (rate[40] / rate[39]) * model.response[40, 39 + 1]
    by_hand = LIVETIME * np.array(by_hand)
    assert truth.electrons.sum(axis=1) == pytest.approx(by_hand)
    assert truth.protons.sum(axis=1) == pytest.approx(LIVETIME * model.proton_rate)
    assert truth.electrons.shape == (41, 642)
    double = expectation(model, 2 * target, LIVETIME, proton_scale=3.0)
    assert double.electrons == pytest.approx(2 * truth.electrons)
    assert double.protons == pytest.approx(3 * truth.protons)
    # a bin of bins: the share below a border is the cumulative
    f = model.parametrisation.cumulative("electron", model.energies, [5.0])[:, 0]
    above = truth.template("electron").above(5.0).value
    assert above / truth.electrons.sum(axis=1) == pytest.approx(1 - f)


def test_shift_and_width_move_the_protons_only(model, target, truth):
    moved = expectation(model, target, LIVETIME, shift=(1.0, 0.5), e0_gev=500.0, width=1.2)
    s = 1.0 + 0.5 * np.log10(model.energies / 500.0)
    assert moved.shift == pytest.approx(s)
    assert (moved.electrons == truth.electrons).all()
    assert moved.protons.sum(axis=1) == pytest.approx(truth.protons.sum(axis=1))
    inner = model.shapes["proton"].values[:, 1:-1]
    centres = 0.5 * (model.omega_edges[1:] + model.omega_edges[:-1])
    mean = np.average(np.tile(centres, (41, 1)), axis=1, weights=inner)[:, None]
    borders = np.array([-20.0, -8.0, 5.0])
    back = mean + (borders - s[:, None] - mean) / 1.2
    expected = model.parametrisation.cumulative("proton", model.energies, back)
    part = moved.template("proton")
    for i, border in enumerate(borders):
        share = part.between(-np.inf, border).value / part.total().value
        assert share == pytest.approx(expected[:, i], abs=1e-12)


def test_whole_bins_of_shift_shift_bins(model, target, truth):
    moved = expectation(model, target, LIVETIME, shift=(0.3, 0.0)).protons
    assert moved[:, 10:600] == pytest.approx(truth.protons[:, 7:597], rel=1e-6, abs=1e-6)


def test_truth_table_follows_from_the_expectation(truth):
    table = json.loads(json.dumps(truth_table(truth, 5.0)))
    share = truth.background_fraction(5.0)
    assert table["background_fraction"] == pytest.approx(share)
    n_e, n_p = np.array(table["n_electron"]), np.array(table["n_proton"])
    assert np.array(table["n_data"]) == pytest.approx(n_e + n_p)
    assert n_p / (n_e + n_p) == pytest.approx(share)
    none = expectation(truth.model, 0 * truth.model.acceptance, 1.0, proton_scale=0.0)
    assert truth_table(none, 5.0)["efficiency"] == [None] * 41


def test_data_are_poisson(truth):
    rng = np.random.default_rng(8)
    draws = [draw_data(truth, rng) for _ in range(60)]
    sample = np.array([d.values for d in draws])
    assert (draws[0].variances == draws[0].values).all()
    mean = truth.electrons + truth.protons
    filled = mean > 5
    z = (sample.mean(axis=0) - mean)[filled] / np.sqrt(mean[filled] / 60)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    ratio = sample.var(axis=0, ddof=1)[filled] / mean[filled]
    assert ratio.mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / 59 / filled.sum()))


def test_simulation_has_mean_and_variance_of_weighted_poisson(model, target):
    rng = np.random.default_rng(9)
    events = np.linspace(100.0, 900.0, 41)
    pairs = [
        draw_simulation(
            model, rng, electron_events=events, proton_events=400.0, proton_bulk_weight=8.0
        )
        for _ in range(80)
    ]
    rates = {"electron": model.electron_rate(target), "proton": model.proton_rate}
    for i, (kind, rate) in enumerate(rates.items()):
        values = np.array([p[i].values for p in pairs])
        variances = np.array([p[i].variances for p in pairs])
        expected = rate[:, None] * model.shapes[kind].values
        groups = np.arange(0, 642, 6)
        pooled = np.add.reduceat(values, groups, axis=2)
        pooled2 = np.add.reduceat(variances, groups, axis=2).mean(axis=0)
        mean = np.add.reduceat(expected, groups, axis=1)
        seen = mean**2 * 80 > 400 * pooled2  # events in all draws: Σw² must not follow Σw
        seen &= pooled2 > 0
        z = (pooled.mean(axis=0) - mean)[seen] / np.sqrt(pooled2[seen] / 80)
        assert abs(z.mean()) < 5 / np.sqrt(seen.sum())
        assert z.std() == pytest.approx(1.0, abs=0.2)
        # Σw² is the variance of Σw
        spread = values.sum(axis=2).var(axis=0, ddof=1)
        assert (spread / variances.sum(axis=2).mean(axis=0)).mean() == pytest.approx(1.0, abs=0.12)
    electron = pairs[0][0]
    weight = rates["electron"] / events
    assert electron.variances == pytest.approx(electron.values * weight[:, None])
    counts = np.array([p[0].total().value / weight for p in pairs])
    assert counts.mean(axis=0) == pytest.approx(events, rel=5 / np.sqrt(80 * 100))


def test_two_weight_classes(model):
    rng = np.random.default_rng(10)
    protons = draw_simulation(model, rng, proton_events=3000.0, proton_bulk_weight=10.0)[1]
    filled = protons.values > 0
    per_event = np.where(filled, protons.variances / np.where(filled, protons.values, 1.0), np.nan)
    below = np.cumsum(model.shapes["proton"].values, axis=1) - model.shapes["proton"].values
    events = np.zeros(41)
    for i in range(41):
        tail = below[i] >= 0.9
        weights = per_event[i]
        assert np.nanmin(weights) == pytest.approx(np.nanmax(weights) / 10)
        assert weights[tail & filled[i]] == pytest.approx(np.nanmin(weights))
        events[i] = np.nansum(protons.values[i] / weights)
    # both classes together have the events that were asked for
    assert events.mean() == pytest.approx(3000.0, abs=5 * np.sqrt(3000 / 41))


def test_flux_of_a_large_toy_is_the_injected_one(model, target):
    truth = expectation(model, target, 2e8)
    rng = np.random.default_rng(3)
    spectrum = {"electron": model.target_spectrum["electron"]}
    hists, meta = toy_histograms(truth, rng, spectrum, electron_events=1e6, proton_events=1e6)
    table = flux_from_histograms(hists, meta)
    assert table.success.all()
    injected = target / np.diff(model.energy_edges)
    error = 0.5 * (table.dnde_errn + table.dnde_errp)
    statistical = np.hypot(error, table.systematics["acceptance"][0])
    # cut and count does not unfold: what migrates is a bias of the method, known here
    migrated = model.electron_rate(target) / (model.acceptance * target)
    pull = (table.dnde / migrated - injected) / statistical
    few = table.n_data < 50  # errors of few counts are not symmetric
    assert np.abs(pull[~few]).max() < 4.0
    assert abs(np.sum(pull[~few] ** 2) - (~few).sum()) < 4 * np.sqrt(2 * (~few).sum())
    assert np.abs(migrated - 1).max() < 0.005
    found = table.background_fraction - truth.background_fraction(5.0)
    assert np.abs(found / np.hypot(table.background_fraction_err, 1e-9))[~few].max() < 5.0


def test_file_has_the_form_of_a_run(tmp_path, truth):
    spectrum = {"electron": truth.model.target_spectrum["electron"], "proton": None}
    paths = []
    for name in ("a", "b"):
        made = toy_histograms(truth, np.random.default_rng(1), spectrum, notes={"seed": 1})
        paths.append(save(tmp_path / name, *made))
    for one, two in zip(*paths, strict=True):
        if one.suffix != ".root":  # uproot writes its file name and the time
            assert one.read_bytes() == two.read_bytes()
    content = load(paths[0][2])
    meta = content.meta
    assert meta["synthetic"] is True
    assert meta["complete"] is True
    assert meta["toy"]["model"] == "synthetic_omega"
    assert meta["toy"]["seed"] == 1
    assert meta["livetime_s"] == meta["by_bgo"]["new"]["livetime_s"] == LIVETIME
    assert set(meta["injected"]) == {"electron"}
    axes = [a.name for a in content.hists["score"].axes]
    assert axes == ["kind", "region", "bgo", "edge", "energy", "omega"]
    hists, chosen = project(content.hists, meta)
    data = template(hists["score"], "data", "fiducial")
    again = draw_data(truth, np.random.default_rng(1))
    assert (data.values == again.values).all()
    assert (data.energy_edges == truth.model.energy_edges).all()
    assert data.omega_edges == pytest.approx(truth.model.omega_edges)
    assert meta["events"]["data"] == again.values.sum()
    cut = content.hists["cutflow"]["data", "fiducial", "new", "toy", "cumulative", :]
    assert cut.values() == pytest.approx(data.total().value)
    assert chosen["edge_cut"] == "on"
    # 2000 events at 0.25 m² sr of 37.7 m² sr: 41 bins throw 12 million
    assert meta["generated"]["electron"][0]["events"] == pytest.approx(1.23e7, rel=0.03)


def test_model_made_from_a_toy_is_the_model(tmp_path, model, truth):
    made = toy_histograms(
        truth, np.random.default_rng(4), {}, electron_events=50_000.0, proton_events=50_000.0
    )
    hists, meta = project(*made)
    again = toy_model(hists, meta, model.parametrisation, name="again", source={"source": "toy"})
    assert again.acceptance == pytest.approx(model.acceptance, rel=0.01)
    assert again.proton_rate == pytest.approx(model.proton_rate, rel=0.02)
    assert again.response == pytest.approx(model.response, abs=0.002)
    path = tmp_path / "again.json"
    write_toy_model(again, path)
    back = read_toy_model(path)
    assert back.acceptance == pytest.approx(again.acceptance, rel=1e-6)
    assert back.response == pytest.approx(again.response, abs=1e-6)
    for kind in ("electron", "proton"):
        assert back.shapes[kind].values == pytest.approx(again.shapes[kind].values, abs=1e-12)
    write_toy_model(back, path, overwrite=True)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_toy_model(back, path)
    with pytest.raises(ToyModelError, match="cut and the control region"):
        toy_model(hists, {**meta, "score": {"name": "zeta"}}, model.parametrisation, name="x")
    empty = {**hists, "passed": hists["passed"] * 0.0}
    with pytest.raises(ToyModelError, match="only 0 energy bins"):
        toy_model(empty, meta, model.parametrisation, name="x")


def test_models_that_cannot_be_read(tmp_path, model):
    with pytest.raises(ToyModelError, match="no toy model 'mars'; shipped are synthetic_omega"):
        read_toy_model("mars")
    path = tmp_path / "m.json"
    with pytest.raises(ToyModelError, match="no such file"):
        read_toy_model(path)
    path.write_text("[1", "utf-8")
    with pytest.raises(ToyModelError, match="not a JSON file"):
        read_toy_model(path)
    write_toy_model(model, path, overwrite=True)
    whole = json.loads(path.read_text("utf-8"))
    for message, change in {
        "schema 'x'": {"schema": "x"},
        "schema 'cre-x'": {"parametrisation": {"schema": "cre-x"}},
        "acceptance needs 41 positive": {"acceptance_m2sr": [0.0] * 41},
        "proton_rate needs 41 positive": {"proton_rate_per_s": [1.0]},
        "malformed": {"response_rows": [[0, 1.0]]},
        "no entry": {"omega": {}},
    }.items():
        path.write_text(json.dumps({**whole, **change}), "utf-8")
        with pytest.raises(ToyModelError, match=message):
            read_toy_model(path)


def test_numbers_out_of_range(model, target):
    rng = np.random.default_rng(0)
    for kwargs, message in (
        ({"width": 0.0}, "width must be positive"),
        ({"e0_gev": -1.0}, "e0_gev must be positive"),
        ({"proton_scale": -1.0}, "proton_scale must be >= 0"),
        ({"shift": (np.nan, 0.0)}, "shift finite"),
    ):
        with pytest.raises(ToyModelError, match=message):
            expectation(model, target, LIVETIME, **kwargs)
    with pytest.raises(ToyModelError, match="livetime_s must be positive"):
        expectation(model, target, 0.0)
    with pytest.raises(ToyModelError, match="41 energy bins, got shape"):
        expectation(model, target[1:], LIVETIME)
    for kwargs, message in (
        ({"electron_events": -1.0}, "electron events: one number >= 0"),
        ({"proton_events": [1.0, 2.0]}, "proton events: one number >= 0, or one for each of 41"),
        ({"proton_bulk_weight": 0.0}, "proton_bulk_weight must be positive"),
        ({"proton_tail_share": 2.0}, "proton_tail_share from 0 to 1"),
    ):
        with pytest.raises(ToyModelError, match=message):
            draw_simulation(model, rng, **kwargs)


def test_no_simulated_events_is_an_empty_template(model):
    electrons, protons = draw_simulation(
        model, np.random.default_rng(0), electron_events=0.0, proton_events=0.0
    )
    assert not electrons.values.any()
    assert not protons.variances.any()


def test_template_error_moves_the_truth(model, target):
    moved = replace(model, parametrisation=model.parametrisation.varied("proton", 0, 2.0))
    one, two = (expectation(m, target, LIVETIME).background_fraction(5.0) for m in (model, moved))
    assert (one != two).any()
