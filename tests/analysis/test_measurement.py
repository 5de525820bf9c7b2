"""The whole measurement on toys of the shipped model, whose truth is known."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.fluxsettings import FluxSettings
from analysis.measurement import flux_from_histograms, measure
from analysis.migration.correction import migrated
from analysis.selection import project
from analysis.systematics import Sources, with_systematics
from analysis.templatefit import FitSettings
from analysis.toys.draw import expectation, read_toy_model
from analysis.toys.file import toy_histograms
from processors.spectrum import ELECTRON_2017

LIVETIME = 3e7
LIGHT = Sources(template_shape=0, shift_model=False, cut_efficiency=0.0)


@cache
def toy(shift=(0.8, 0.4), seed=3, scale=1.0):
    model = read_toy_model("synthetic_omega")
    low, high = model.energy_edges[:-1], model.energy_edges[1:]
    truth = expectation(
        model, ELECTRON_2017.integral(low, high), LIVETIME, shift=shift, proton_scale=scale
    )
    hists, meta = toy_histograms(
        truth,
        np.random.default_rng(seed),
        {"electron": ELECTRON_2017.to_dict()},
        electron_events=30_000.0,
        proton_events=30_000.0,
        proton_bulk_weight=10.0,
    )
    return truth, hists, meta


def settings(**other: Any) -> FluxSettings:
    return replace(FluxSettings(), **other)


def test_fit_finds_the_shift_and_the_flux():
    truth, hists, meta = toy()
    found = measure(hists, meta, settings())
    assert found.fit is not None
    s0, s1 = found.fit.coefficients["s0"], found.fit.coefficients["s1"]
    assert abs(s0[0] - 0.8) < 4 * s0[1] < 0.01
    assert abs(s1[0] - 0.4) < 4 * s1[1] < 0.02
    table = found.table
    assert table.success.all()
    injected = ELECTRON_2017.integral(table.e_min, table.e_max) / (table.e_max - table.e_min)
    error = np.where(table.dnde > injected, table.dnde_errn, table.dnde_errp)
    total = np.hypot(error, np.mean(table.total_systematic(), axis=0))
    pull = ((table.dnde - injected) / total)[table.n_data > 8]
    assert 0.6 < pull.std() < 1.4
    assert abs(pull.mean()) < 0.5
    assert set(table.systematics) == {"acceptance", "migration", "shift"}
    assert table.meta["flux"]["method"] == "fit"
    assert table.meta["flux"]["fit"]["coefficients"]["s0"] == list(s0)
    assert table.meta["flux"]["migration"]["method"] == "bin_by_bin"
    expected = truth.background_fraction(5.0)
    pulls = (found.background.fraction - expected) / found.background.fraction_error
    assert np.nanstd(pulls) < 1.5


def test_ignoring_the_shift_biases_the_background():
    truth, hists, meta = toy(shift=(2.5, 0.0))
    true = truth.background_fraction(5.0)
    wanted = truth.protons[:, -191:].sum(axis=1) > 20  # Ω from 5 on, and overflow
    ratios = {}
    for name, s in {
        "fit": settings(),
        "sideband": settings(method="sideband"),
    }.items():
        found = measure(hists, meta, s).background.fraction
        ratios[name] = np.average((found / true)[wanted])
    assert ratios["fit"] == pytest.approx(1.0, abs=0.1)
    assert ratios["sideband"] < 0.8
    still = measure(hists, meta, settings(fit=FitSettings(shift_order=None))).fit
    moved = measure(hists, meta, settings()).fit
    assert still is not None
    assert moved is not None
    assert np.nansum(moved.deviance) < 1.2 * moved.ndf
    assert np.nansum(still.deviance) > 100 * still.ndf


def test_flux_identity_and_parts_of_the_error():
    _, hists, meta = toy()
    found = measure(hists, meta, settings())
    t, b = found.table, found.background
    factor = np.array(t.meta["flux"]["migration"]["factor"])
    exposure = t.efficiency * t.acceptance * t.livetime * (t.e_max - t.e_min)
    counts = np.where(t.n_data > 0, (1 - b.fraction) * t.n_data, 0.0)
    assert t.dnde == pytest.approx(counts / exposure / factor)
    parts = b.parts
    some = t.n_data > 0
    squares = sum(p**2 for p in parts.values())
    assert b.fraction_error[some] ** 2 == pytest.approx(squares[some])
    shift = t.systematics["shift"][0]
    assert shift[some] == pytest.approx((t.n_data * parts["shift"] / exposure / factor)[some])
    raw = measure(hists, meta, settings(migration="none")).table
    assert raw.dnde == pytest.approx(t.dnde * factor)
    assert raw.dnde_ul == pytest.approx(t.dnde_ul * factor)


def test_folding_equals_bin_by_bin_for_the_spectrum_of_the_simulation():
    _, hists, meta = toy()
    one, two = (
        measure(hists, meta, settings(migration=way)).table for way in ("bin_by_bin", "folding")
    )
    good = one.n_data > 20
    assert two.dnde[good] == pytest.approx(one.dnde[good], rel=5e-3)
    assert two.meta["flux"]["migration"]["valid"]


def test_a_cut_by_rule_is_made_from_the_simulation_alone():
    _, hists, meta = toy()
    _, others, _ = toy(seed=4)
    mixed = {**hists, "score": hists["score"].copy()}
    view, other = mixed["score"].view(flow=True), others["score"].view(flow=True)
    at = hists["score"].axes["kind"].index("data")
    view[at] = other[at]
    first, second = (measure(h, meta, settings(cut_efficiency=0.9)).cut for h in (hists, mixed))
    assert np.array_equal(first, second)
    found = measure(hists, meta, settings(cut_efficiency=0.9))
    assert found.efficiency.value == pytest.approx(np.full(41, 0.9), abs=0.05)
    assert np.all(np.abs(np.diff(found.cut)) < 1.5)
    best = measure(hists, meta, settings(cut_efficiency="best"))
    assert best.table.success.all()
    by_card = measure(
        hists, meta | {"score": meta["score"] | {"cut": {"efficiency": 0.9}}}, settings()
    )
    assert np.array_equal(by_card.cut, found.cut)


def test_cut_and_correction_per_energy():
    _, hists, meta = toy()
    found = measure(
        hists, meta, settings(cut=[[24.0, 4.0], [1000.0, 6.0]], efficiency_correction=0.9)
    )
    assert set(found.cut[found.table.e_min < 999.0]) == {4.0}
    assert set(found.cut[found.table.e_min > 999.0]) == {6.0}
    assert isinstance(found.table.meta["flux"]["cut"], list)
    plain = measure(hists, meta, settings(cut=[[24.0, 4.0], [1000.0, 6.0]]))
    assert found.efficiency.value == pytest.approx(0.9 * plain.efficiency.value)
    assert found.table.dnde == pytest.approx(plain.table.dnde / 0.9)
    with pytest.raises(AnalysisError, match="efficiency correction must be positive"):
        measure(hists, meta, settings(efficiency_correction=0.0))


def test_energies_of_the_fit_are_those_of_the_measurement():
    _, hists, meta = toy()
    found = measure(hists, meta, settings(e_min_gev=95.0, e_max_gev=1000.1))
    assert found.fit is not None
    assert found.fit.e_min[found.fit.used].min() == pytest.approx(95.499, abs=0.01)
    assert found.fit.e_max[found.fit.used].max() == pytest.approx(1000.0)
    assert found.table.success.sum() == found.fit.used.size == 17
    with pytest.raises(IncompleteDataError, match="no energy bin lies inside"):
        measure(hists, meta, settings(e_min_gev=20_000.0))


def test_simulation_of_another_file():
    _, hists, meta = toy()
    _, others, other_meta = toy(seed=5)
    same = measure(hists, meta, settings(), simulation=(hists, meta))
    assert same.table.dnde == pytest.approx(measure(hists, meta, settings()).table.dnde)
    other = measure(hists, meta, settings(), simulation=(others, other_meta))
    assert np.array_equal(other.data.values, same.data.values)
    assert not np.array_equal(other.protons.values, same.protons.values)
    wrong = other_meta | {"models": [{"name": "hamf"}]}
    with pytest.raises(HistogramMismatchError, match="filled with other networks"):
        measure(hists, meta, settings(), simulation=(others, wrong))
    empty = {**others, "score": others["score"] * 0.0}
    with pytest.raises(HistogramMismatchError, match="no simulated events in region"):
        measure(hists, meta, settings(), simulation=(empty, other_meta))


def test_constant_and_energy_scale_errors():
    _, hists, meta = toy()
    sources = replace(LIGHT, acceptance=0.02, livetime=0.003, energy_scale=0.01)
    table = with_systematics(hists, meta, settings(), sources).table
    assert table.systematics["acceptance_scale"][0] == pytest.approx(0.02 * table.dnde)
    assert table.systematics["livetime"][1] == pytest.approx(0.003 * table.dnde)
    steep = (table.e_min > 50) & (table.e_max < 500)  # index 3.09
    low, high = (x[steep] / table.dnde[steep] for x in table.systematics["energy_scale"])
    assert low == pytest.approx(np.full(low.size, 1 - 0.99**2.09), rel=0.06)
    assert high == pytest.approx(np.full(high.size, 1.01**2.09 - 1), rel=0.06)


def test_variations_and_what_is_noted():
    _, hists, meta = toy()
    told: list[str] = []
    sources = replace(LIGHT, cut_efficiency=0.1, shift_model=True, template_shape=2)
    found = with_systematics(hists, meta, settings(), sources, tell=told.append)
    assert told == ["cut", "shift_model", "template_shape", "edge"]
    table = found.table
    few = table.n_data > 100
    for name in ("shift_model", "template_shape"):
        assert np.all(table.systematics[name][0][few] < 0.05 * table.dnde[few])
    assert np.any(table.systematics["template_shape"][0] > 0)
    # toys have no events that fail the edge cut: a zero would look like a result
    assert "edge" not in table.systematics
    assert table.meta["systematics"]["left_out"] == {"edge": "the data are the same with edge off"}
    again = with_systematics(hists, meta, settings(), sources).table
    for name, pair in table.systematics.items():
        assert np.array_equal(pair[1], again.systematics[name][1], equal_nan=True)


def test_another_hadronic_model_is_a_difference_beyond_noise():
    _, hists, meta = toy()
    _, same, same_meta = toy(seed=6)
    sources = replace(LIGHT, files={"hadronic_model": (same, same_meta)})
    table = with_systematics(hists, meta, settings(), sources).table
    low, high = table.systematics["hadronic_model"]
    few = table.n_data > 300
    assert np.all(np.maximum(low, high)[few] < 0.03 * table.dnde[few])
    # twenty times the protons above the cut
    heavier = {**same, "score": same["score"].copy()}
    axes = heavier["score"].axes
    at = [axes["kind"].index("proton"), axes["omega"].index(5.0)]
    view = heavier["score"].view(flow=True)
    view[at[0], ..., at[1] + 1 :].value *= 20.0
    view[at[0], ..., at[1] + 1 :].variance *= 400.0
    sources = replace(LIGHT, files={"hadronic_model": (heavier, same_meta)})
    table = with_systematics(hists, meta, settings(), sources).table
    above = (table.background_fraction > 0.005) & few
    change = table.systematics["hadronic_model"][0][above] / table.dnde[above]
    assert change.sum() == pytest.approx(19 * table.background_fraction[above].sum(), rel=0.3)


def test_sideband_and_fit_agree_without_a_shift():
    _, hists, meta = toy(shift=(0.0, 0.0))
    fit = flux_from_histograms(hists, meta)
    side = flux_from_histograms(hists, meta, method="sideband")
    few = fit.n_data > 20
    assert fit.dnde[few] == pytest.approx(side.dnde[few], rel=0.01)


def test_failed_bins_say_what_the_fit_says():
    _, hists, meta = toy()
    cut_off = {**hists, "score": hists["score"].copy()}
    axes = cut_off["score"].axes
    kind = axes["kind"].index("proton")
    energy = [a.name for a in axes].index("energy")
    view = np.moveaxis(cut_off["score"].view(flow=True)[kind], energy - 1, 0)
    for part in ("value", "variance"):
        view[part][1 + 12] = 0.0  # underflow first
    found = measure(cut_off, meta, settings(e_min_gev=95.0))
    reasons = {f["bin"]: f["reason"] for f in found.table.meta["failed_bins"]}
    assert reasons[12] == "no proton simulation in the window"
    assert "outside the energy range" in reasons[3]
    assert found.table.success[[11, 13]].all()


def test_folding_leaves_the_error_of_the_shift_to_its_own_column():
    _, hists, meta = toy()
    found = measure(hists, meta, settings(migration="none"))
    n = found.background.n_data
    moved = 3.0 * np.sqrt(n)  # an error of the shift that would rule the statistical one
    uncertain = replace(
        found.background,
        error=np.hypot(found.background.error, moved),
        parts={
            **found.background.parts,
            "shift": np.hypot(found.background.parts["shift"], moved / np.maximum(n, 1.0)),
        },
    )
    own, other = (
        migrated(found.table, b, found.efficiency, *project(hists, meta), "fiducial", "folding")
        for b in (found.background, uncertain)
    )
    assert other.dnde_errn == pytest.approx(own.dnde_errn, rel=1e-6, nan_ok=True)
    assert other.dnde == pytest.approx(own.dnde, rel=1e-6, nan_ok=True)
