"""A whole evaluation on toy scores with known answers, and its tables."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from models.evaluation import EvaluationError
from models.holdout import Attention, EnergyEstimates, Holdout
from models.performance import BINS_GEV, RANGES, Range, energy_quality, evaluate
from models.tables import performance_tables
from processors.score import score_axis

N = 60_000
AXES = {"zeta": score_axis("zeta", "logistic"), "hamf": score_axis("hamf", "logistic")}
FEW = (Range("0.1-10 TeV", 100.0, 10_000.0), Range("0.1-1 TeV", 100.0, 1000.0))


def toy(*, rate=True, data=False):
    """Gaussian scores: zeta 2, hamf 3 widths apart; protons of three sampling weights."""
    rng = np.random.default_rng(1)
    electron = np.arange(N) % 2 == 0
    energy = np.exp(rng.uniform(np.log(100), np.log(10_000), N))
    noise = rng.normal(size=N)
    scores = {
        "zeta": np.where(electron, 0.2, -1.8) + noise,
        "hamf": np.where(electron, 4.0, -5.0) + 3.0 * noise,
    }
    sampling = np.where(electron, 1.0, rng.choice([1.0, 2.0, 4.0], N))
    per_second = sampling * energy**-2.0 * np.where(electron, 1.0, 10.0)
    none = np.zeros(0, np.float32)
    chosen = rng.choice(N, 5000, p=per_second / per_second.sum())
    a = rng.dirichlet([3.0, 2.0, 1.0], 1000).astype(np.float32)
    estimates = EnergyEstimates(
        np.full(4000, 500.0), np.full(4000, 400.0), np.full(4000, 0.1),
        math.log(1.25) + 0.02 * rng.normal(size=4000), np.full(4000, math.log(0.02)), np.ones(4000),
    )  # fmt: skip
    return Holdout(
        scores={n: s.astype(np.float32) for n, s in scores.items()},
        electron=electron,
        e_corr_gev=energy.astype(np.float32),
        e_true_gev=energy.astype(np.float32),
        sampling=sampling,
        rate=per_second if rate else None,
        data={n: s[chosen].astype(np.float32) if data else none for n, s in scores.items()},
        data_e_corr_gev=energy[chosen].astype(np.float32) if data else none,
        unscored=7,
        attention=Attention(
            ("variables", "image", "stk"), a, electron[:1000],
            energy[:1000].astype(np.float32), np.ones(1000),
        ),
        energy=estimates,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return evaluate(toy(data=True), AXES, ranges=(*FEW, RANGES[1]), replicas=40)


def test_areas_and_their_paired_difference(result):
    assert [r.name for r in result.ranges] == ["0.1-10 TeV", "0.1-1 TeV"]  # nothing below 100 GeV
    for r in result.ranges:
        a = result.auc[r.name]
        assert a.of("zeta") == pytest.approx(norm.cdf(2 / math.sqrt(2)), abs=0.006)
        assert a.of("hamf") == pytest.approx(norm.cdf(3 / math.sqrt(2)), abs=0.003)
        _, low, _ = a.difference("hamf", "zeta")
        assert low > 0
    assert result.unscored == 7
    assert result.counts["0.1-10 TeV"]["electrons"] == N // 2
    sampling = toy().sampling[1::2]
    effective = sampling.sum() ** 2 / (sampling**2).sum()
    assert result.counts["0.1-10 TeV"]["effective_protons"] == pytest.approx(effective)


def test_rejection_and_its_ratio_to_zeta(result):
    number = int(np.flatnonzero((BINS_GEV[:-1] <= 1000) & (BINS_GEV[1:] > 1000))[0])
    z = norm.ppf(0.9)
    for name, distance in (("zeta", 2.0), ("hamf", 3.0)):
        r = result.rejections[name, 0.9]
        expected = 1 / norm.sf(distance - z)
        assert r.value[number] == pytest.approx(expected, rel=0.25)
        assert np.isnan(r.value[0])  # no event below 42 GeV
    ratio = result.ratios["hamf"][number]
    assert ratio.lower < norm.sf(2 - z) / norm.sf(3 - z) * 1.15
    assert ratio.upper > norm.sf(2 - z) / norm.sf(3 - z) * 0.85
    assert result.ratios["hamf"][0] is None
    assert "zeta" not in result.ratios
    r = result.rejections["zeta", 0.9]
    # ten protons per electron and per unit of sampling weight (mean 7/3)
    background = 10 * 7 / 3 * r.proton_efficiency[number]
    assert r.background_fraction[number] == pytest.approx(background / (background + 0.9), rel=0.05)


def test_data_agree_with_the_templates_they_were_drawn_from(result):
    for scores in result.agreement.values():
        for name in ("zeta", "hamf"):
            assert scores[name].p_value > 1e-4
    d = result.distributions["0.1-10 TeV"]["zeta"]
    assert d.data.sum() == 5000
    assert d.electrons.sum() == pytest.approx(toy().rate[::2].sum(), rel=1e-6)


def test_without_rates_or_data():
    result = evaluate(toy(rate=False), AXES, ranges=FEW[1:], efficiencies=(0.9,), replicas=20)
    assert result.agreement == {}
    assert np.isnan(result.rejections["zeta", 0.9].background_fraction).all()
    tables = performance_tables(result)
    assert "agreement" not in tables
    assert tables["rejection"][0]["background_fraction"] is None


def test_attention_of_both_classes(result):
    mean = result.attention["protons"].mean
    good = np.isfinite(mean[:, 0])
    assert mean[good].sum(axis=1) == pytest.approx(np.ones(good.sum()), abs=1e-6)
    assert np.average(mean[good], axis=0, weights=result.attention["protons"].events[good]) == (
        pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.03)
    )


def test_energy_before_and_after(result):
    quality = result.energy
    number = int(np.flatnonzero(quality.before["true energy"].events)[0])
    assert quality.before["true energy"].bias[number] == pytest.approx(-0.2)
    assert quality.after["true energy"].bias[number] == pytest.approx(0.0, abs=0.002)
    assert quality.after["true energy"].half_width_68[number] == pytest.approx(0.02, rel=0.06)
    assert quality.pulls.width == pytest.approx(1.0, abs=0.06)
    assert set(quality.before) == {"true energy", "leakage"}
    narrow = energy_quality(toy().energy, true_gev=[400.0, 600.0], leakage=[0.0, 0.2])
    assert narrow.after["leakage"].events.tolist() == [4000]


def test_tables_hold_plain_values(result):
    tables = performance_tables(result)
    assert set(tables) == {
        "counts", "auc", "auc_difference", "rejection", "rejection_over_zeta", "agreement",
        "attention", "energy", "energy_pulls",
    }  # fmt: skip
    for rows in tables.values():
        assert len({tuple(row) for row in rows}) == 1
        for row in rows:
            for value in row.values():
                assert value is None or isinstance(value, str | int | float | bool)
                assert not isinstance(value, float) or math.isfinite(value)
    whole = [row for row in tables["auc"] if row["range"] == "0.1-10 TeV"]
    assert [row["score"] for row in whole] == ["zeta", "hamf"]
    assert whole[1]["lower"] < whole[1]["auc"] < whole[1]["upper"]
    first = tables["auc_difference"][0]
    assert (first["score"], first["minus"]) == ("hamf", "zeta")
    assert first["lower_95"] < first["lower"] < first["difference"] < first["upper"]
    assert len(tables["rejection"]) == 2 * 4 * (BINS_GEV.size - 1)


def test_too_few_events():
    with pytest.raises(EvaluationError, match="20 electrons and 20 protons"):
        evaluate(toy(), AXES, ranges=RANGES[1:2])
