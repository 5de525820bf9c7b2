from functools import partial
from types import SimpleNamespace

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.exceptions import (
    AnalysisError,
    CutNotOnEdgeError,
    HistogramMismatchError,
    IncompleteDataError,
)
from analysis.flux import flux
from analysis.intervals import garwood
from analysis.measurement import flux_from_histograms as measured
from analysis.published import load
from analysis.usable import partial_text

LIVETIME_2017 = 3.4916e7


@pytest.fixture(scope="module")
def paper():
    return load("dampe_2017_electron_positron")


@pytest.fixture(scope="module")
def paper_flux(paper):
    column = paper.extra
    return flux(
        column["counts"],
        column["bkg_fraction"],
        column["bkg_fraction_err"],
        1.0,  # the published acceptance contains the efficiency of the score cut
        0.0,
        column["acceptance_m2sr"],
        column["acceptance_err"],
        LIVETIME_2017,
        paper.e_min,
        paper.e_max,
    )


flux_from_histograms = partial(measured, method="sideband", migration="none")


def rounding(paper):
    """Relative spread of the flux from the rounding of every printed number, uniform ± half ulp."""
    uniform = 1 / np.sqrt(12)
    last_digit = 10.0 ** (np.floor(np.log10(paper.dnde * 1.000001)) - 2)  # three digits printed
    terms = (
        0.1 / (paper.e_max - paper.e_min),  # two edges, printed to 0.1 GeV
        0.1 / (paper.e_max - paper.e_min),
        0.001 / paper.extra["acceptance_m2sr"],
        0.001 / (1 - paper.extra["bkg_fraction"]),  # printed as percent with one decimal
        last_digit / paper.dnde,
    )
    return uniform * np.sqrt(sum(term**2 for term in terms))


def test_rounding_of_the_printed_table(paper):
    sigma = rounding(paper)
    assert sigma[[0, 1, 8, 22, 34, 37]] == pytest.approx(
        [0.0120, 0.0100, 0.0040, 0.0012, 0.0031, 0.0015], abs=6e-5
    )


def test_published_fluxes_follow_from_the_published_counts(paper, paper_flux):
    assert paper_flux.success.all()
    pull = (paper_flux.dnde / paper.dnde - 1) / rounding(paper)
    assert np.abs(pull).max() < 2
    assert 29 < np.sum(pull**2) < 33  # one livetime fitted: 37 degrees of freedom
    assert pull[[0, 8, 15, 37]] == pytest.approx([1.09, -1.64, 1.48, -0.42], abs=0.01)


def test_without_background_the_published_fluxes_do_not_follow(paper, paper_flux):
    ratio = paper_flux.n_data / paper_flux.counts * paper_flux.dnde / paper.dnde
    assert np.std(ratio) > 0.04


def test_published_systematic_error_is_acceptance_and_background(paper, paper_flux):
    share = paper.extra["bkg_fraction_err"] / (1 - paper.extra["bkg_fraction"])
    error = np.hypot(paper_flux.systematics["acceptance"][0], share * paper_flux.dnde)
    ratio = error / paper.sys_n  # both sides printed with one or two digits
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.count_nonzero(np.abs(ratio - 1) < 0.13) >= 35


def test_published_statistical_error_is_sqrt_n(paper, paper_flux):
    # bins with 74 to 650 events: printed with two or three digits, Garwood close to sqrt(N)
    few = slice(22, 29)
    half = (paper_flux.dnde_errn + paper_flux.dnde_errp) / 2
    assert half[few] / paper.stat_n[few] == pytest.approx(np.ones(7), abs=0.07)


def one_bin(**changes):
    inputs = {
        "n_data": 100.0,
        "background_fraction": 0.1,
        "background_fraction_err": 0.02,
        "efficiency": 0.9,
        "efficiency_err": 0.01,
        "acceptance": 0.3,
        "acceptance_err": 0.006,
        "livetime_s": 1e6,
        "e_min": 100.0,
        "e_max": 120.0,
    }
    return flux(**(inputs | changes))


def test_by_hand():
    table = one_bin()
    assert table.counts == pytest.approx([100.0])
    assert table.dnde == pytest.approx([100 / (0.3 * 1e6 * 20)])
    other = (100 * 0.02) ** 2 + (90 * 0.01 / 0.9) ** 2
    lower, upper = garwood(100)
    exposure = 0.9 * 0.3 * 1e6 * 20
    assert table.dnde_errn == pytest.approx([np.sqrt((100 - lower) ** 2 + other) / exposure])
    assert table.dnde_errp == pytest.approx([np.sqrt((upper - 100) ** 2 + other) / exposure])
    assert table.systematics["acceptance"][0] == pytest.approx(0.02 * table.dnde)
    assert table.systematics["acceptance"][1] == pytest.approx(0.02 * table.dnde)
    assert table.e_ref == pytest.approx([109.396], abs=1e-2)
    assert table.livetime.tolist() == [1e6]
    assert table.meta["e_ref"] == {"rule": "Lafferty-Wyatt", "index": -3.0}
    assert table.meta["failed_bins"] == []


def test_no_counts_give_zero_an_upward_error_and_a_limit():
    table = one_bin(n_data=0, background_fraction=np.nan, background_fraction_err=np.nan)
    exposure = 0.9 * 0.3 * 1e6 * 20
    assert table.success.all()
    assert table.dnde.tolist() == [0.0]
    assert table.dnde_errn.tolist() == [0.0]
    assert table.dnde_errp == pytest.approx([1.8410 / exposure], rel=1e-4)
    assert table.dnde_ul == pytest.approx([2.99573 / exposure], rel=1e-5)


def test_background_above_the_counts_gives_a_negative_flux_with_a_limit():
    table = one_bin(n_data=3, background_fraction=1.5)
    assert table.success.all()
    assert table.dnde[0] < 0
    # 3 counts over 4.5: CLs limit between the ones of b = 4 and b = 5
    assert 4.2 < table.dnde_ul[0] * 0.9 * 0.3 * 1e6 * 20 < 5.1
    assert table.systematics["acceptance"][0][0] > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_data": np.nan}, "counts are not finite"),
        ({"acceptance": 0.0}, "no acceptance"),
        ({"acceptance": np.nan}, "no acceptance"),
        ({"acceptance_err": np.nan}, "acceptance error"),
        ({"efficiency": 0.0}, "no efficiency"),
        ({"efficiency": np.inf}, "no efficiency"),
        ({"efficiency_err": -1.0}, "efficiency error"),
        ({"background_fraction": np.nan}, "no background"),
        ({"background_fraction_err": np.nan}, "background error"),
    ],
)
def test_a_failed_bin_fails_alone(change, reason):
    name, value = next(iter(change.items()))
    good = {"n_data": 100.0, "background_fraction": 0.1, "background_fraction_err": 0.02}
    good |= {"efficiency": 0.9, "efficiency_err": 0.01, "acceptance": 0.3, "acceptance_err": 0.006}
    edges = np.array([100.0, 120.0, 140.0, 170.0])
    table = one_bin(
        e_min=edges[:-1],
        e_max=edges[1:],
        **{
            name: np.array([1, 0, 1]) * good[name]
            if value == 0
            else np.array([good[name], value, good[name]])
        },
    )
    assert table.success.tolist() == [True, False, True]
    for column in ("dnde", "dnde_errn", "dnde_errp", "dnde_ul", "counts"):
        assert np.isnan(getattr(table, column)).tolist() == [False, True, False]
    assert np.isnan(table.systematics["acceptance"][0]).tolist() == [False, True, False]
    (failed,) = table.meta["failed_bins"]
    assert failed["bin"] == 1
    assert failed["e_min_gev"] == 120.0
    assert reason in failed["reason"]


def test_useless_exposure_stops_everything():
    with pytest.raises(AnalysisError, match=r"livetime must be positive and finite, got 0\.0 s"):
        one_bin(livetime_s=0.0)
    with pytest.raises(AnalysisError, match="must not be negative, got"):
        one_bin(n_data=-1.0)


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_flux_falls_with_livetime_and_acceptance(factor, count):
    one = one_bin(n_data=count)
    longer = one_bin(n_data=count, livetime_s=1e6 * factor)
    larger = one_bin(n_data=count, acceptance=0.3 * factor, acceptance_err=0.006 * factor)
    for column in ("dnde", "dnde_errn", "dnde_errp", "dnde_ul"):
        assert getattr(longer, column) * factor == pytest.approx(getattr(one, column))
        assert getattr(larger, column) * factor == pytest.approx(getattr(one, column))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.05, 1))
def test_errors_and_limit_enclose_the_flux(count, bkg, efficiency):
    table = one_bin(n_data=count, background_fraction=bkg, efficiency=efficiency)
    assert table.dnde_errn >= 0
    assert table.dnde_errp > 0
    assert table.dnde_ul > table.dnde


# ---- from histograms -------------------------------------------------------------------------

EDGES = 10 ** (1.38 + 0.06 * np.arange(10, 19))  # 95.5 to 288.4 GeV
CUT, CONTROL = -0.9, (-2.0, -1.3)
ACCEPTANCE = 0.29
OMEGA = hist.axis.Regular(50, -4.0, 1.0, name="omega")


def shape(mean, sigma):
    """Share of a Gaussian score in each omega bin, the tails in the outermost bins."""
    borders = np.concatenate([[-np.inf], OMEGA.edges[1:-1], [np.inf]])
    return np.diff(stats.norm.cdf(borders, mean, sigma))


def bin_average(index=-3.1, norm=1.62e-4):
    integral = np.diff(EDGES ** (index + 1)) / (index + 1) * norm * 100.0**-index
    return integral / np.diff(EDGES)


ELECTRON = shape(-0.2, 0.4)
PROTON = shape(-1.8, 0.45)
TRUTH = bin_average()


BGO = hist.axis.StrCategory(["new"], name="bgo")
EDGE = hist.axis.StrCategory(["pass", "fail"], name="edge")


def fill(histogram, kind, value, variance):
    index = {"data": 0, "electron": 1, "proton": 2}[kind]
    view = histogram.view()
    view.value[index, 0, 0, 0] = value
    view.variance[index, 0, 0, 0] = variance


def build(livetime=2e7, electron=ELECTRON, proton=PROTON, proton_ratio=5.0, rng=None):
    """Histograms of the file contract; without ``rng`` every content is its expectation."""
    width = np.diff(EDGES)
    rate = TRUTH * ACCEPTANCE * width  # electrons per second
    score = hist.Hist(
        hist.axis.StrCategory(["data", "electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        BGO,
        EDGE,
        hist.axis.Variable(EDGES, name="energy"),
        OMEGA,
        storage=hist.storage.Weight(),
    )
    expected = np.outer(rate, electron + proton_ratio * proton) * livetime
    counts = expected if rng is None else rng.poisson(expected).astype(float)
    fill(score, "data", counts, counts)
    for kind, density, norm in (
        ("electron", electron, rate),
        ("proton", proton, rate * proton_ratio),
    ):
        # two samples of 2000 events per bin with weights 0.5 and 1.5 times the mean
        mean = np.outer(np.full(EDGES.size - 1, 2000.0), density)
        drawn = [mean if rng is None else rng.poisson(mean) for _ in range(2)]
        weight = (norm / 4000)[:, None]
        fill(
            score,
            kind,
            weight * (0.5 * drawn[0] + 1.5 * drawn[1]),
            weight**2 * (0.25 * drawn[0] + 2.25 * drawn[1]),
        )
    passed = hist.Hist(
        hist.axis.StrCategory(["electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        BGO,
        EDGE,
        hist.axis.Variable(EDGES, name="energy_true"),
        storage=hist.storage.Weight(),
    )
    passed.view().value[0, 0, 0, 0] = rate
    passed.view().variance[0, 0, 0, 0] = rate**2 / 40000
    meta = {
        "livetime_s": livetime,
        "target_flux_integral": {"electron": list(TRUTH * width), "proton": []},
        "score": {"name": "zeta", "cut": CUT, "control": list(CONTROL)},
        "ledger": {"planned": 4, "processed": 4, "missing": []},
        "complete": True,
        "synthetic": True,
        "inputs": [{"path": "a.root", "uuid": "u"}],
        "card": {"left": "out"},
    }
    return SimpleNamespace(hists={"score": score, "passed": passed}, meta=meta)


def test_expected_contents_close_exactly():
    # no electrons in the control region: the letter of the formula is exact
    clean = np.where(OMEGA.centers > -1.3, ELECTRON, 0.0)
    sample = build(electron=clean / clean.sum())
    table = flux_from_histograms(sample.hists, sample.meta)
    assert table.success.all()
    assert table.dnde == pytest.approx(TRUTH, rel=1e-12)
    assert table.acceptance == pytest.approx(np.full(8, ACCEPTANCE))
    assert table.acceptance_err == pytest.approx(np.full(8, ACCEPTANCE / 200))
    assert table.efficiency == pytest.approx(np.full(8, (clean / clean.sum())[31:].sum()))
    passing = PROTON[31:].sum() * 5
    assert table.background_fraction == pytest.approx(
        np.full(8, passing / (passing + (clean / clean.sum())[31:].sum()))
    )


def test_electrons_in_control_are_solved_for():
    sample = build(proton_ratio=0.1)
    letter = flux_from_histograms(sample.hists, sample.meta)
    solved = flux_from_histograms(sample.hists, sample.meta, electrons_in_control=True)
    assert np.all(letter.dnde < TRUTH * 0.9999)
    assert solved.dnde == pytest.approx(TRUTH, rel=1e-12)
    assert solved.meta["flux"]["electrons_in_control"] is True


def test_metadata_travels():
    sample = build()
    meta = flux_from_histograms(sample.hists, sample.meta).meta
    assert meta["inputs"] == [{"path": "a.root", "uuid": "u"}]
    assert meta["synthetic"] is True
    assert meta["flux"]["cut"] == CUT
    assert meta["flux"]["control"] == [-2.0, -1.3]
    assert meta["flux"]["background_mc_limited_bins"] == []
    assert "card" not in meta


def test_toys_close():
    rng = np.random.default_rng(1711)
    pulls = []
    for _ in range(300):
        sample = build(rng=rng)
        table = flux_from_histograms(sample.hists, sample.meta)
        assert table.success.all()
        sigma = np.where(table.dnde > TRUTH, table.dnde_errn, table.dnde_errp)
        pulls.append((table.dnde - TRUTH) / sigma)
    pulls = np.array(pulls)
    assert table.n_data.min() > 1000
    assert abs(pulls.mean()) < 0.1
    assert 0.9 < pulls.std() < 1.1
    assert np.abs(pulls.mean(axis=0)).max() < 0.2
    assert 0.85 < pulls.std(axis=0).min() < pulls.std(axis=0).max() < 1.15


def test_toys_with_few_counts_stay_usable():
    rng = np.random.default_rng(538)
    covered, total = 0, 0
    for _ in range(100):
        sample = build(livetime=8e3, rng=rng)
        table = flux_from_histograms(sample.hists, sample.meta)
        inside = (table.dnde - table.dnde_errn <= TRUTH) & (table.dnde + table.dnde_errp >= TRUTH)
        covered += np.count_nonzero(inside & table.success)
        total += np.count_nonzero(table.success)
        empty = table.success & (table.n_data == 0)
        assert np.all(table.dnde[empty] == 0)
        assert np.all(table.dnde_ul[table.success] > 0)
        assert len(table.meta["failed_bins"]) == np.count_nonzero(~table.success)
    assert total > 600
    assert 0.70 < covered / total < 0.92  # Garwood covers at least 68 %, 80 to 90 % near 1 count


def test_a_bin_without_simulation_fails_alone():
    sample = build()
    sample.hists["score"].view().value[2, 0, 0, 0, 3] = 0.0  # protons
    sample.hists["score"].view().value[1, 0, 0, 0, 5, 31:] = 0.0  # electrons above the cut
    sample.hists["score"].view().variance[1, 0, 0, 0, 5, 31:] = 0.0
    sample.hists["passed"].view().value[0, 0, 0, 0, 7] = 0.0
    table = flux_from_histograms(sample.hists, sample.meta)
    assert np.flatnonzero(~table.success).tolist() == [3, 5, 7]
    words = [entry["reason"].split(":")[0] for entry in table.meta["failed_bins"]]
    assert words == ["no background", "no efficiency", "no acceptance"]


def test_another_cut_and_region():
    sample = build()
    loose = flux_from_histograms(sample.hists, sample.meta, cut=-1.2, control=(-3.0, -1.5))
    assert np.all(loose.efficiency > flux_from_histograms(sample.hists, sample.meta).efficiency)
    assert loose.meta["flux"]["control"] == [-3.0, -1.5]
    with pytest.raises(CutNotOnEdgeError, match="nearest edges"):
        flux_from_histograms(sample.hists, sample.meta, cut=-0.929)
    empty = flux_from_histograms(sample.hists, sample.meta, region="topfiducial")
    assert not empty.success.any()
    with pytest.raises(HistogramMismatchError, match="no region 'side'"):
        flux_from_histograms(sample.hists, sample.meta, region="side")


def test_bins_outside_the_data_or_the_simulation_fail():
    sample = build()
    edges = sample.hists["score"].axes["energy"].edges
    generated = {"electron": [{"events": 5, "e_min_gev": edges[1], "e_max_gev": edges[-2]}]}
    meta = sample.meta | {"complete_above_gev": edges[2] * 0.999, "generated": generated}
    table = flux_from_histograms(sample.hists, meta)
    assert table.success.tolist() == [False] * 2 + [True] * (len(edges) - 4) + [False]
    assert "outside the energy range" in table.meta["failed_bins"][0]["reason"]
    narrow = flux_from_histograms(sample.hists, meta, e_min_gev=edges[3], e_max_gev=edges[4])
    assert np.flatnonzero(narrow.success).tolist() == [3]


def test_a_gap_between_electron_samples_fails_its_bins():
    sample = build()
    edges = sample.hists["score"].axes["energy"].edges
    ranges = [(edges[0], edges[2] * 1.02), (edges[4] * 0.98, edges[-1]), (edges[4], edges[-1])]
    generated = [{"events": 5, "e_min_gev": a, "e_max_gev": b} for a, b in ranges]
    table = flux_from_histograms(sample.hists, sample.meta | {"generated": {"electron": generated}})
    assert np.flatnonzero(~table.success).tolist() == [2, 3]


def test_fiducial_skims_give_no_other_flux():
    sample = build()
    meta = sample.meta | {"only_regions": ["fiducial"]}
    assert flux_from_histograms(sample.hists, meta).success.any()
    with pytest.raises(IncompleteDataError, match="fiducial events only"):
        flux_from_histograms(sample.hists, meta, region="topfiducial")


def test_incomplete_histograms_stop_the_flux():
    sample = build()
    meta = sample.meta | {"complete": False, "ledger": {"missing": ["a", "b"]}}
    with pytest.raises(IncompleteDataError, match="2 chunks missing"):
        flux_from_histograms(sample.hists, meta)
    with pytest.raises(
        IncompleteDataError, match="of an earlier version"
    ):  # whose livetime is of all files
        flux_from_histograms(sample.hists, meta, allow_incomplete=True)


def partial_meta(meta, electron_files=2, **change):
    """Two of three data files read: 3/4 of the livetime."""
    planned = {"data": {"files": 3}, "electron": {"files": 2}, "proton": {"files": 2}}
    read = {"data": {"files": 2}, "electron": {"files": electron_files}, "proton": {"files": 2}}
    livetime = meta["livetime_s"]
    inputs = [
        {"path": name, "kind": "data", "bgo_reconstruction": "new", "livetime_s": share * livetime}
        for name, share in (("a", 0.25), ("b", 0.75))
    ]
    return meta | {
        "complete": False,
        "ledger": {"missing": ["c [0:9]"], "planned_files": planned, "files": read},
        "planned_livetime_s": livetime / 0.75,
        "inputs": inputs,
        "bgo_reconstruction": "new",
    } | change  # fmt: skip


def test_partial_flux_is_that_of_the_livetime_read():
    sample = build()
    meta = partial_meta(sample.meta)
    with pytest.raises(IncompleteDataError, match="--partial"):
        flux_from_histograms(sample.hists, meta)
    table = flux_from_histograms(sample.hists, meta, allow_incomplete=True)
    assert table.livetime == pytest.approx(np.full(8, sample.meta["livetime_s"]))
    assert table.meta["complete"] is False
    assert table.meta["partial"]["share"] == pytest.approx(0.75)
    assert partial_text(table.meta) == "partial: 75.0 % of the livetime"
    assert partial_text(sample.meta) == ""
    assert partial_text(sample.meta, meta) == "partial: 75.0 % of the livetime"
    assert partial_text({"complete": False}) == "partial: the run is incomplete"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"electron_files": 1}, "1 of 2 files of simulated electrons are missing"),
        ({"not_finite": "9 of 10 events have a NaN"}, "for missing data only"),
        ({"livetime_s": 1.0}, "the files that were read have"),
    ],
)
def test_partial_is_refused_where_the_flux_would_be_wrong(change, text):
    sample = build()
    with pytest.raises(IncompleteDataError, match=text):
        flux_from_histograms(
            sample.hists, partial_meta(sample.meta, **change), allow_incomplete=True
        )


@pytest.mark.parametrize("livetime", [0, -1.0, None, float("nan"), float("inf")])
def test_unusable_livetime(livetime):
    sample = build()
    with pytest.raises(IncompleteDataError, match="livetime_s is"):
        flux_from_histograms(sample.hists, sample.meta | {"livetime_s": livetime})


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        ("complete", "'complete'"),
        ("livetime_s", "'livetime_s'"),
        ("score", "'score'"),
        ("target_flux_integral", "'target_fl"),
    ],
)
def test_missing_metadata(drop, text):
    sample = build()
    meta = {key: value for key, value in sample.meta.items() if key != drop}
    with pytest.raises(HistogramMismatchError, match=text):
        flux_from_histograms(sample.hists, meta)


def test_missing_parts_of_the_file():
    sample = build()
    with pytest.raises(HistogramMismatchError, match="no 'passed'"):
        flux_from_histograms({"score": sample.hists["score"]}, sample.meta)
    with pytest.raises(HistogramMismatchError, match=r"no 'score\.cut'"):
        flux_from_histograms(sample.hists, sample.meta | {"score": {"name": "zeta"}})


def test_true_and_measured_energy_need_the_same_bins():
    sample = build()
    passed = hist.Hist(
        hist.axis.StrCategory(["electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.Variable(EDGES * 1.01, name="energy_true"),
        storage=hist.storage.Weight(),
    )
    with pytest.raises(HistogramMismatchError, match="bins of true energy"):
        flux_from_histograms(sample.hists | {"passed": passed}, sample.meta)
