"""Reference events against simulated ones: shares, intervals, counts by hand."""

import numpy as np
import pytest
from scipy.stats import beta

from models.evaluation import EvaluationError
from models.holdout import EnergyEstimates, Holdout
from models.reference import (
    EnergyCut,
    compare_reference,
    energy_rows,
    reference_energy,
    reference_rows,
)
from models.rejection import rejection


def holdout(zeta, hamf, energy=300.0, *, electron=True):
    n = len(zeta)
    scores = {"zeta": np.array(zeta, np.float32), "hamf": np.array(hamf, np.float32)}
    e = np.full(n, energy, np.float32)
    none = {"zeta": np.zeros(0, np.float32), "hamf": np.zeros(0, np.float32)}
    return Holdout(scores, np.full(n, electron), e, e, np.ones(n), None, none, e[:0])


def test_cut_between_the_middles_of_the_bins():
    cut = EnergyCut(np.array([100.0, 1000.0]), np.array([2.0, 4.0]))
    assert cut.at([10.0, 100.0, 10**2.5, 1000.0, 1e5]) == pytest.approx([2.0, 2.0, 3.0, 4.0, 4.0])
    s = np.concatenate([np.arange(10.0), np.zeros(5)])
    electron = np.arange(15) < 10
    r = rejection(s, electron, np.full(15, 300.0), [100, 1000, 10_000], efficiency=0.9)
    made = EnergyCut.of(r)
    assert made.energy_gev == pytest.approx([np.sqrt(1e5)])
    assert made.at([50.0]).tolist() == [r.cut[0]]
    with pytest.raises(EvaluationError, match="no energy bin"):
        EnergyCut.of(rejection([1.0], [True], [300.0], [100, 1000], efficiency=0.9))


def test_comparison_by_hand():
    there = holdout([1.0, 1.0, -1.0, -1.0], [5.0, 5.0, 5.0, -5.0])
    here = holdout([1.0] * 9 + [-1.0], [5.0] * 8 + [-5.0] * 2)
    flat = np.array([300.0])
    cuts = {"zeta": EnergyCut(flat, np.zeros(1)), "hamf": EnergyCut(flat, np.zeros(1))}
    zeta, hamf = compare_reference(there, here, cuts, "proton", "full")
    assert (zeta.reference_efficiency, zeta.simulated_efficiency) == (0.5, 0.9)
    assert (hamf.reference_efficiency, hamf.simulated_efficiency) == (0.75, 0.8)
    tail = (1 - 0.6826894921) / 2
    assert hamf.reference_lower == pytest.approx(beta.ppf(tail, 3, 2), rel=1e-6)
    assert hamf.reference_upper == pytest.approx(beta.isf(tail, 4, 1), rel=1e-6)
    assert (zeta.above, zeta.above_zeta_rejected) == (2, 0)
    assert (hamf.above, hamf.above_zeta_rejected) == (3, 1)  # one that zeta would have rejected
    assert hamf.test.distance == pytest.approx(0.05)
    rows = reference_rows([zeta, hamf])
    assert rows[1]["score"] == "hamf"
    assert rows[1]["ks_distance"] == pytest.approx(0.05)
    assert "test" not in rows[1]


def test_nothing_above_the_cut():
    there = holdout([1.0, 2.0], [-5.0, -6.0], electron=False)
    flat = np.array([300.0])
    (only,) = compare_reference(
        there, there, {"hamf": EnergyCut(flat, np.zeros(1))}, "proton", "all"
    )
    assert (only.above, only.reference_efficiency, only.reference_lower) == (0, 0.0, 0.0)
    assert only.above_zeta_rejected is None
    assert only.test.p_value == pytest.approx(1.0)


def test_energies_by_leakage():
    """ln(E/E_true) = -1 % ± 2 % below 10 % of leakage, and 5 % wide above; the stated error is 2 %."""
    rng = np.random.default_rng(4)
    n = 20_000
    leaks = np.arange(n) % 2 == 1
    off = -0.01 + np.where(leaks, 0.05, 0.02) * rng.standard_normal(n)
    true, corrected = np.full(n, 700.0), np.full(n, 630.0)
    estimates = EnergyEstimates(
        true,
        corrected,
        np.where(leaks, 0.3, 0.05),
        np.log(true / corrected) + off,
        np.full(n, np.log(0.02)),
        np.ones(n),
    )
    found = reference_energy(estimates, "full", "Geant4")
    rows = energy_rows([found])
    assert len(rows) == 2 * (4 + 1)
    by = {(r["energy"], r["leakage_low"]): r for r in rows}
    assert by["corrected", 0.0]["bias"] == pytest.approx(-0.1)
    assert by["corrected", 0.0]["half_width_68"] == pytest.approx(0.0, abs=1e-12)
    for low, width, events in ((0.0, 0.02, n // 2), (0.2, 0.05, n // 2)):
        row = by["network", low]
        assert row["events"] == events
        assert row["bias"] == pytest.approx(np.expm1(-0.01), abs=4 * row["bias_error"])
        assert row["half_width_68"] == pytest.approx(width * np.exp(-0.01), rel=0.05)
        assert row["half_width_95"] == pytest.approx(2 * row["half_width_68"], rel=0.05)
        assert row["pull_width"] is None
    empty = by["network", 0.4]
    assert (empty["events"], empty["bias"]) == (0, None)
    every = by["network", None]
    assert every["events"] == n
    assert every["pull_median"] == pytest.approx(0.5, abs=0.05)
    assert 1.0 < every["pull_width"] < 2.5
    assert {r["sample"] for r in rows} == {"Geant4"}
