"""Scores at equal efficiency: closed forms of two Gaussian scores, limits without protons, exact interpolation."""

import math

import hist
import numpy as np
import pytest
from scipy.stats import binom, norm, poisson

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.scoregain import (
    LIMIT_LEVEL,
    ScoreBackground,
    either_side,
    equal_efficiency,
    gain,
    gain_table,
    score_templates,
    thirds_of_decades,
)
from analysis.templates import Template

EDGES = 10 ** np.array([1.38, 1.44, 1.5])
OMEGA = np.linspace(-20.0, 20.0, 401)
WITH_FLOW = np.concatenate([[-np.inf], OMEGA, [np.inf]])


def made(kind, rows, weight=1.0, edges=EDGES):
    values = np.array(rows, np.float64)
    return Template(kind, "topfiducial", edges, OMEGA, values * weight, values * weight**2)


def smooth(electrons, protons, weight=1.0):
    """Score with Gaussian electrons at +4 and Gaussian protons at a mean, in two energy bins of 1 and 3 shares."""
    rows = [
        [n * share * np.diff(norm.cdf(WITH_FLOW, mean, 2.0)) for share in (0.25, 0.75)]
        for n, mean in (electrons, protons)
    ]
    return made("electron", rows[0]), made("proton", rows[1], weight)


ALL = [np.array([0, 1])]


def test_analytic_scores_at_equal_efficiency():
    scores = {"omega": smooth((4e6, 4.0), (1e6, -4.0)), "cnn": smooth((4e6, 4.0), (1e6, -2.0))}
    efficiencies = (0.8, 0.9, 0.95)
    found = equal_efficiency(scores, ALL, efficiencies=efficiencies)
    for name, mean in (("omega", -4.0), ("cnn", -2.0)):
        cut = 4.0 + 2.0 * norm.isf(efficiencies)
        share = norm.sf(cut, mean, 2.0)
        b = found[name]
        assert b.share().value[0] == pytest.approx(
            share, rel=5e-3
        )  # straight inside bins of 1/20 σ
        fraction = 1e6 * share / (1e6 * share + 4e6 * np.array(efficiencies))
        assert b.background_fraction().value[0] == pytest.approx(fraction, rel=5e-3)
        # error: Poisson of the protons, and the electrons that fix the cut, as if they were protons
        slope = norm.pdf(cut, mean, 2.0) / norm.pdf(cut, 4.0, 2.0)  # d share / d efficiency
        eps = np.array(efficiencies)
        by_cut = [1e6 * s * slope * np.sqrt(eps * (1 - eps) / (4e6 * s)) for s in (0.25, 0.75)]
        variance = 1e6 * share + by_cut[0] ** 2 + by_cut[1] ** 2
        assert b.effective[0] == pytest.approx((1e6 * share) ** 2 / variance, rel=0.04)
    ratio = gain(found["omega"], found["cnn"])
    expected = norm.sf(cut, -2.0, 2.0) / norm.sf(cut, -4.0, 2.0)
    assert ratio.value[0] == pytest.approx(expected, rel=2e-3)
    n1, n2 = found["cnn"].effective[0], found["omega"].effective[0]
    width = np.log(ratio.upper / ratio.lower)[0] / 2
    assert width == pytest.approx(np.sqrt(1 / n1 + 1 / n2), rel=0.03)


def test_cut_inside_a_bin_is_interpolated_exactly():
    electrons, protons = np.zeros((2, 402)), np.zeros((2, 402))
    electrons[:, 301], electrons[:, 302] = 50.0, 50.0  # [10, 10.1) and [10.1, 10.2)
    protons[0, 301], protons[0, 302], protons[0, 100] = 8.0, 2.0, 90.0
    protons[1, 401] = 3.0  # overflow, above every cut
    b = equal_efficiency({"s": (made("electron", electrons), made("proton", protons, 0.5))}, ALL)[
        "s"
    ]
    # at 80 %: the upper bin and 3/5 of the lower one
    assert b.protons[0, 0] == pytest.approx(0.5 * (2 + 0.6 * 8 + 3))
    assert b.protons[0, 1] == pytest.approx(0.5 * (2 + 0.8 * 8 + 3))
    assert b.total[0] == pytest.approx(0.5 * 103)
    assert b.electrons[0] == 200.0
    # Σw² scaled like Σw, and the cut: its error from 100 electrons is 0.04, of 8 protons in half of them
    by_cut = 0.5 * 8 / 0.5 * 0.04
    assert b.effective[0, 0] == pytest.approx(4.9**2 / (0.25 * 9.8 + by_cut**2))


def test_no_proton_left_gives_limits():
    electrons, none, some = (np.zeros((2, 402)) for _ in range(3))
    electrons[:, 350] = 1000.0
    none[:, 100:104] = 25.0
    some[:, 100:104], some[0, 390] = 25.0, 4.0
    scores = {
        "omega": (made("electron", electrons), made("proton", none, 0.01)),
        "cnn": (made("electron", electrons), made("proton", some, 0.01)),
    }
    found = equal_efficiency(scores, ALL, efficiencies=(0.9,))
    share = found["omega"].share()
    assert share.value[0, 0] == share.lower[0, 0] == 0.0
    # 95 %: three events of the weight of the next ones
    assert share.upper[0, 0] == pytest.approx(-math.log(0.05) * 0.01 / found["omega"].total[0])
    assert poisson.pmf(0, share.upper[0, 0] * found["omega"].total[0] / 0.01) == pytest.approx(0.05)
    ratio = gain(found["omega"], found["cnn"])
    assert ratio.value[0, 0] == ratio.upper[0, 0] == np.inf
    # four against none: the ratio r for which that has 5 %
    r = ratio.lower[0, 0]
    assert binom.pmf(4, 4, r / (1 + r)) == pytest.approx(1 - LIMIT_LEVEL)
    other = gain(found["cnn"], found["omega"])
    assert (other.value[0, 0], other.lower[0, 0]) == (0.0, 0.0)
    assert other.upper[0, 0] == pytest.approx(1 / r)
    assert np.isnan(gain(found["omega"], found["omega"])).all()
    text = gain_table([found], "omega", note="made up").splitlines()
    assert text[0] == "# made up"
    rows = [dict(zip(text[3].split(","), line.split(","), strict=True)) for line in text[4:]]
    assert [(r["score"], r["gain"]) for r in rows] == [("omega", ""), ("cnn", "inf")]
    assert float(rows[1]["gain_low"]) == pytest.approx(r, rel=1e-3)


def test_coverage_of_the_gain_of_independent_scores():
    rng = np.random.default_rng(2)
    n1, n2 = rng.poisson(8.0, 4000).astype(float), rng.poisson(4.0, 4000).astype(float)
    common = {
        "e_min": np.zeros(4000), "e_max": np.ones(4000), "efficiency": np.array([0.9]),
        "electrons": np.ones(4000), "total": np.ones(4000),
    }  # fmt: skip
    a, b = (
        ScoreBackground(
            "x",
            **common,
            protons=n[:, None] * w,
            effective=n[:, None],
            weight=np.full((4000, 1), w),
        )
        for n, w in ((n2, 0.3), (n1, 0.1))
    )
    _, low, high = gain(a, b)
    truth = 8.0 * 0.1 / (4.0 * 0.3)
    inside = ((low <= truth) & (truth <= high))[:, 0]
    assert 0.683 < inside[(n1 > 0) & (n2 > 0)].mean() < 0.85  # Clopper and Pearson: not below


def test_events_without_a_score_fail_its_cut():
    electrons, protons = smooth((1e4, 4.0), (1e4, -4.0))
    part = Template(
        "electron", "topfiducial", EDGES, OMEGA, electrons.values * 0.85, electrons.variances * 0.85
    )
    scores = {"omega": (electrons, protons), "cnn": (part, protons)}
    b = equal_efficiency(scores, ALL, efficiencies=(0.8, 0.9))["cnn"]
    # 80 % of all are 94.1 % of those with a score
    cut = 4.0 + 2.0 * norm.isf(0.8 / 0.85)
    assert b.share().value[0, 0] == pytest.approx(norm.sf(cut, -4.0, 2.0), rel=5e-3)
    assert np.isnan(
        [b.protons[0, 1], b.share().upper[0, 1], b.background_fraction().value[0, 1]]
    ).all()
    assert np.isnan(gain(b, b).value[0, 1])


def test_thin_bins_are_left_out_of_their_range():
    electrons, protons = smooth((1e4, 4.0), (1e4, -4.0))
    electrons.values[0] *= 1e-3
    electrons.variances[0] *= 1e-3  # 2.5 events
    b = equal_efficiency({"omega": (electrons, protons)}, [np.array([0]), np.array([0, 1])])[
        "omega"
    ]
    assert (b.e_min.tolist(), b.e_max.tolist()) == ([EDGES[1]], [EDGES[2]])
    nothing = made("proton", np.zeros((2, 402)))
    assert equal_efficiency({"omega": (electrons, nothing)}, ALL)["omega"].protons.shape == (0, 4)


def test_ranges_of_the_standard_bins():
    edges = np.concatenate([10 ** (1.38 + 0.06 * np.arange(39)), [6025.6, 7943.3, 10471.3]])
    below, above = either_side(edges)
    assert edges[[below[0], below[-1] + 1]] == pytest.approx([23.988, 1000.0], rel=1e-4)
    assert edges[[above[0], above[-1] + 1]] == pytest.approx([1000.0, 10471.3], rel=1e-4)
    borders = [edges[g[0]] for g in thirds_of_decades(edges)]
    assert borders == pytest.approx(
        [23.988, 47.863, 95.499, 218.776, 436.516, 1000.0, 2290.87, 4570.88], rel=1e-4
    )
    assert np.array_equal(np.concatenate(thirds_of_decades(edges)), np.arange(edges.size - 1))
    assert len(either_side(edges[:10])) == 1


def test_scores_of_a_file():
    def book(*names):
        axes = [hist.axis.StrCategory(c, name=n) for n, c in names]
        return hist.Hist(
            *axes,
            hist.axis.Variable(EDGES, name="energy"),
            hist.axis.Regular(4, 0, 1, name="omega"),
            storage=hist.storage.Weight(),
        )

    kinds = ("kind", ["data", "electron", "proton"])
    one = book(kinds, ("region", ["topfiducial"]))
    spectra = book(("spectrum", ["up"]), ("region", ["topfiducial"]))
    hists = {"score": one, "score_cnn": one, "score_spectra": spectra, "score_omega": one}
    found = score_templates(hists, {"score": {"name": "omega"}}, "topfiducial")
    assert list(found) == ["omega", "cnn"]
    assert found["cnn"][1].kind == "proton"
    with pytest.raises(HistogramMismatchError, match="has no region 'fiducial'"):
        score_templates(hists, {"score": {"name": "omega"}}, "fiducial")


def test_bad_input():
    pair = smooth((1e4, 4.0), (1e4, -4.0))
    with pytest.raises(AnalysisError, match="inside"):
        equal_efficiency({"omega": pair}, ALL, efficiencies=(1.0,))
    with pytest.raises(AnalysisError, match="for 0 scores"):
        equal_efficiency({}, ALL)
    other = tuple(Template(t.kind, t.region, EDGES * 2, OMEGA, t.values, t.variances) for t in pair)
    with pytest.raises(HistogramMismatchError, match="different energy bins"):
        equal_efficiency({"omega": pair, "cnn": other}, ALL)
    one, two = (equal_efficiency({"s": pair}, ALL, efficiencies=(e,))["s"] for e in (0.8, 0.9))
    with pytest.raises(HistogramMismatchError, match="same energy ranges"):
        gain(one, two)


def test_cuts_at_the_ends_of_the_axis_are_known_whatever_the_rounding():
    rng = np.random.default_rng(5)
    for _ in range(50):
        rows = [rng.poisson(0.3, (2, 402)) * rng.uniform(0.1, 1.0, (2, 402)) for _ in range(4)]
        electrons, protons = (
            (made("electron", r) for r in rows[:2]),
            (made("proton", r) for r in rows[2:]),
        )
        scores = dict(zip(("omega", "cnn"), zip(electrons, protons, strict=True), strict=True))
        found = equal_efficiency(scores, ALL, efficiencies=(0.9, 0.99, 0.995))
        for b in found.values():
            np.testing.assert_array_equal(np.isfinite(b.effective), np.isfinite(b.protons))
        gain(found["omega"], found["cnn"])
