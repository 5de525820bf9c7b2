"""The flux month by month: exact for expected counts, uniform without a drift, (γ - 1) δ with one."""

import json
from types import SimpleNamespace

import hist
import numpy as np
import pytest
from scipy import stats

from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.plots.stability import plot_stability
from analysis.stability import can_follow, stability
from analysis.stabilityfile import stability_json, stability_table

EDGES = 10.0 ** (1.38 + 0.06 * np.arange(28))  # 24 GeV to 1 TeV
COARSE = EDGES[::3]
GAMMA, NORM = 3.0, 1.62e-4  # flux at 100 GeV
ACCEPTANCE, EFFICIENCY, TRANSFER = 0.3, 0.8, 0.05
MONTHS = [f"20{16 + m // 12}-{m % 12 + 1:02d}" for m in range(36)]
LIVETIME = 1.9e6 * (1 + 0.2 * np.sin(np.arange(36)))
MEAN_S = (1093 + 1 + 30.4 * (np.arange(36) + 0.5)) * 86_400.0
YEARS = (MEAN_S - MEAN_S[0]) / (365.25 * 86_400)
SCORES = np.linspace(-6, 2, 81)


def integral(low, high, gain=1.0):
    """Flux between measured energies if the calorimeter reads gain times the energy."""
    k = GAMMA - 1
    return NORM * 100.0 / k * ((low / gain / 100) ** -k - (high / gain / 100) ** -k)


def category(names, name):
    return hist.axis.StrCategory(names, name=name)


def build(rng=None, delta=0.0, protons=2e-3):
    """A file of 36 months: electrons at 0.0 (80 % of them) and -2.0, protons at -2.0 and a few at 0.0."""
    regions = category(["fiducial", "topfiducial"], "region")
    monthly = hist.Hist(
        regions, category(["new"], "bgo"),
        hist.axis.Regular(36, 36, 72, name="month"),
        hist.axis.Variable(COARSE, name="energy"),
        hist.axis.Regular(80, -6, 2, name="omega", label="score"),
        storage=hist.storage.Weight(),
    )  # fmt: skip
    gain = 1.0 + delta * YEARS
    electrons = np.array([integral(COARSE[:-1], COARSE[1:], g) for g in gain])
    electrons *= ACCEPTANCE * LIVETIME[:, None]
    background = protons * (COARSE[:-1] / 50) ** -1.7 * LIVETIME[:, None] / 10
    above = EFFICIENCY * electrons + TRANSFER * background
    low = background
    if rng is not None:
        above, low = rng.poisson(above), rng.poisson(low)
    axis = monthly.axes["omega"]
    here = monthly.view()
    for counts, at in ((above, axis.index(0.01)), (low, axis.index(-1.95))):
        here.value[0, 0, :, :, at] = counts
        here.variance[0, 0, :, :, at] = counts
    cuts = hist.Hist(
        regions, category(["new"], "bgo"), category(["selected", "saa", "track"], "cut"),
        monthly.axes["month"], monthly.axes["energy"], storage=hist.storage.Weight(),
    )  # fmt: skip
    failed = 0.1 * (above + low) if rng is None else rng.poisson(0.1 * (above + low + 1e-9))
    for i, values in enumerate((above + low, 2 * (above + low), above + low + failed)):
        cuts.view().value[0, 0, i] = values
    score = hist.Hist(
        category(["data", "electron", "proton"], "kind"), regions, category(["new"], "bgo"),
        category(["pass", "fail"], "edge"), hist.axis.Variable(EDGES, name="energy"),
        hist.axis.Regular(800, -6, 2, name="omega"), storage=hist.storage.Weight(),
    )  # fmt: skip
    rate = ACCEPTANCE * integral(EDGES[:-1], EDGES[1:])
    fine = score.axes["omega"]
    score.view().value[1, 0, 0, 0, :, fine.index(0.01)] = EFFICIENCY * rate
    score.view().value[1, 0, 0, 0, :, fine.index(-1.0)] = (1 - EFFICIENCY) * rate
    score.view().value[2, 0, 0, 0, :, fine.index(-1.95)] = 7.0
    score.view().value[2, 0, 0, 0, :, fine.index(0.01)] = 7.0 * TRANSFER
    months = {
        name: {"livetime_s": LIVETIME[i], "runs": 30, "mean_s": MEAN_S[i]}
        for i, name in enumerate(MONTHS)
    }
    own = {"livetime_s": LIVETIME.sum(), "planned_livetime_s": LIVETIME.sum(), "months": months}
    meta = {
        "complete": True, "synthetic": True, "bgo_reconstruction": "new", **own,
        "by_bgo": {"new": own}, "ledger": {"missing": []},
        "target_flux_integral": {"electron": integral(EDGES[:-1], EDGES[1:]).tolist()},
        "score": {"name": "zeta", "cut": -0.93, "control": [-2.03, -1.3]},
        "complete_above_gev": 0.0,
    }  # fmt: skip
    return SimpleNamespace(
        hists={"score": score, "monthly": monthly, "monthly_cuts": cuts}, meta=meta
    )


def follow(sample, **options):
    chosen = {"region": "fiducial", "e_min_gev": 54.0, "e_max_gev": 1000.1, **options}
    return stability(sample.hists, sample.meta, **chosen)


def test_expected_counts_give_the_flux_exactly():
    sample = build()
    found = follow(sample)
    assert found.months == tuple(MONTHS)
    truth = integral(COARSE[2], COARSE[9])
    assert (found.notes["e_min_gev"], found.notes["e_max_gev"]) == (COARSE[2], COARSE[9])
    assert found.flux.value == pytest.approx(np.full(36, truth), rel=1e-9)
    assert found.flux.test.mean == pytest.approx(truth, rel=1e-6)
    assert found.flux.test.chi2 == pytest.approx(0.0, abs=1e-6)
    assert found.notes["transfer"] == pytest.approx(TRANSFER)
    # the coarse edges nearest to -0.93, -2.03 and -1.3
    assert found.notes["cut"] == pytest.approx([-0.9] * 7)
    assert np.array(found.notes["control"]) == pytest.approx(np.array([[-2.0] * 7, [-1.3] * 7]))
    # 10 % more events fail the track; the SAA is no efficiency
    assert found.efficiency.value == pytest.approx(np.full(36, 1 / 1.1))
    assert list(found.cuts) == ["track"]
    assert found.cut_efficiency["track"] == pytest.approx(np.full(36, 1 / 1.1))
    assert follow(sample, efficiency_correction=0.5).flux.test.mean == pytest.approx(2 * truth)


def test_without_a_drift_the_p_values_are_uniform():
    tests = [follow(build(np.random.default_rng(seed))) for seed in range(80)]
    for name in ("rate", "control_rate", "efficiency", "flux"):
        found = [getattr(t, name).test for t in tests]
        assert stats.kstest([f.p_value for f in found], "uniform").pvalue > 0.005, name
        ratio = np.mean([f.chi2 / f.ndf for f in found])
        assert ratio == pytest.approx(1.0, abs=4 * np.sqrt(2 / 35 / 80)), name
        pulls = [f.drift_per_year / f.drift_error for f in found]
        assert np.mean(pulls) == pytest.approx(0.0, abs=4 / np.sqrt(80)), name
    truth = integral(COARSE[2], COARSE[9])
    pulls = [
        (t.flux.value - truth) / np.where(t.flux.value > truth, t.flux.lower, t.flux.upper)
        for t in tests
    ]
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.15)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("delta", [0.01, -0.02])
def test_a_gain_drift_shows_as_index_less_one_times_the_drift(delta):
    gain = 1 + delta * np.average(YEARS, weights=LIVETIME)
    expected = (GAMMA - 1) * delta / gain
    found = [
        follow(build(np.random.default_rng(100 + seed), delta=delta)).flux.test
        for seed in range(30)
    ]
    pulls = [(f.drift_per_year - expected) / f.drift_error for f in found]
    assert np.mean(pulls) == pytest.approx(0.0, abs=4 / np.sqrt(30))
    assert np.std(pulls) == pytest.approx(1.0, abs=0.4)
    assert np.mean([f.drift_error for f in found]) < abs(expected) / 3  # it would be seen


def test_a_cut_that_is_a_rule_follows_the_efficiency():
    sample = build()
    sample.meta["score"]["cut"] = {"efficiency": 0.8, "best": False}
    found = follow(sample)
    assert all(-0.91 < cut < 0.01 for cut in found.notes["cut"])
    assert found.flux.value == pytest.approx(np.full(36, integral(COARSE[2], COARSE[9])), rel=1e-9)


def test_events_of_no_month_are_told():
    sample = build()
    sample.hists["monthly"].view(flow=True).value[0, 0, 0, 3, 40] = 17.0
    sample.meta["by_bgo"]["new"]["months"]["unknown"] = {
        "livetime_s": 5.0, "runs": 1, "mean_s": None,
    }  # fmt: skip
    notes = follow(sample).notes
    assert (notes["events_of_no_month"], notes["livetime_of_no_month_s"]) == (17.0, 5.0)


def test_what_cannot_be_followed():
    sample = build()
    assert can_follow(sample.hists, sample.meta)
    assert not can_follow({"score": sample.hists["score"]}, sample.meta)
    with pytest.raises(AnalysisError, match="no energy bin lies inside 54 to 60 GeV"):
        follow(sample, e_max_gev=60.0)
    with pytest.raises(HistogramMismatchError, match="no counts per month"):
        follow(SimpleNamespace(hists={"score": sample.hists["score"]}, meta=sample.meta))
    with pytest.raises(IncompleteDataError, match="no simulated electron"):
        follow(sample, region="topfiducial")
    sample.meta["complete"] = False
    with pytest.raises(IncompleteDataError, match="--partial"):
        follow(sample)
    skimmed = build()
    skimmed.meta["complete_above_gev"] = 200.0
    assert follow(skimmed).notes["e_min_gev"] == COARSE[6]


def test_table_json_and_figure(tmp_path):
    found = follow(build(np.random.default_rng(1), delta=0.02))
    lines = stability_table(found, "a label").splitlines()
    assert lines[0] == "# a label"
    rows = np.genfromtxt(lines[2:], delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert rows["month"].tolist() == MONTHS
    assert rows["flux"] == pytest.approx(found.flux.value, rel=1e-8)
    assert rows["efficiency_track"] == pytest.approx(found.cut_efficiency["track"], rel=1e-8)
    content = json.loads(stability_json(found, {"synthetic": True}))
    assert content["schema"] == "cre-stability/1"
    assert content["tests"]["flux"]["chi2"] == found.flux.test.chi2
    assert content["months"][3]["above"] == found.above[3]
    paths = plot_stability(found, tmp_path / "stability", synthetic=True, overwrite=False)
    assert [p.suffix for p in paths] == [".png", ".pdf"]
    assert paths[0].stat().st_size > 30_000
    with pytest.raises(FileExistsError):
        plot_stability(found, tmp_path / "stability", synthetic=True, overwrite=False)
    one = build()
    one.meta["by_bgo"]["new"]["months"] = {"2016-05": one.meta["months"]["2016-05"]}
    single = follow(one)
    assert (single.months, single.flux.test) == (("2016-05",), None)
    assert single.flux.value == pytest.approx([integral(COARSE[2], COARSE[9])], rel=1e-9)
    assert not can_follow(one.hists, one.meta)
    plot_stability(single, tmp_path / "single", synthetic=True, overwrite=False)
    json.loads(stability_json(single, {}))
