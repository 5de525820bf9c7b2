"""Two-sample tests, template agreement, means, containment and pulls against known distributions."""

import numpy as np
import pytest
from scipy import stats

from models.agreement import mean_per_bin, template_agreement, two_sample_test
from models.containment import containment, pulls
from models.evaluation import EvaluationError


def test_distance_and_p_value_without_weights():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=700), rng.normal(0.1, 1.0, 900)
    result = two_sample_test(a, b)
    expected = stats.ks_2samp(a, b, method="exact")
    assert result.distance == pytest.approx(expected.statistic, rel=1e-12)
    assert result.p_value == pytest.approx(expected.pvalue, rel=0.05)
    assert (result.effective_first, result.effective_second) == (700.0, 900.0)


def test_weights_are_repetitions_for_the_distance():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 50).astype(float), rng.integers(0, 7, 60).astype(float)
    w = rng.integers(1, 4, 50)
    result = two_sample_test(a, b, w)
    assert result.distance == pytest.approx(stats.ks_2samp(np.repeat(a, w), b).statistic, rel=1e-12)
    assert result.effective_first < 50


def test_p_values_of_equal_weighted_samples_are_flat():
    rng = np.random.default_rng(3)
    p = []
    for _ in range(300):
        w = rng.choice([1.0, 4.0], 400)
        p.append(two_sample_test(rng.normal(size=400), rng.normal(size=300), w).p_value)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert two_sample_test(rng.normal(size=400), rng.normal(1, 1, 300)).p_value < 1e-10


def test_two_samples_are_needed():
    with pytest.raises(EvaluationError, match="two samples"):
        two_sample_test([], [1.0])


EDGES = np.linspace(-5, 5, 41)
ELECTRON = np.diff(stats.norm.cdf(EDGES, 2.5, 0.7))
PROTON = np.diff(stats.norm.cdf(EDGES, -2.0, 1.0))


def test_expected_data_agree_exactly():
    data = 300 * ELECTRON + 5000 * PROTON
    result = template_agreement(data, 0.1 * ELECTRON, 7 * PROTON, 0 * ELECTRON, 0 * PROTON, EDGES)
    assert result.electrons == pytest.approx(3000.0)
    assert result.protons == pytest.approx(5000 / 7)
    assert result.chi2 == pytest.approx(0.0, abs=1e-12)
    assert result.data.sum() == pytest.approx(data.sum())
    assert (result.expected >= 10 * (1 - 1e-9)).all()
    assert result.ndf == len(result.data) - 2
    assert result.edges[0] == -5
    assert result.edges[-1] == 5


def test_chi2_of_toys():
    """Data and templates fluctuate: chi2 has the mean ndf and the p-values are not piled up."""
    rng = np.random.default_rng(4)
    ratio, p = [], []
    for _ in range(200):
        data = rng.poisson(300 * ELECTRON + 3000 * PROTON)
        e, q = rng.poisson(2000 * ELECTRON), rng.poisson(9000 * PROTON)
        result = template_agreement(data, 0.2 * e, 3.0 * q, 0.04 * e, 9.0 * q, EDGES)
        ratio.append(result.chi2 / result.ndf)
        p.append(result.p_value)
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.07)
    assert 0.4 < np.mean(p) < 0.6


def test_a_shifted_template_does_not_agree():
    rng = np.random.default_rng(5)
    moved = np.diff(stats.norm.cdf(EDGES, -1.7, 1.0))
    data = rng.poisson(300 * ELECTRON + 3000 * moved)
    result = template_agreement(data, ELECTRON, PROTON, 0 * ELECTRON, 0 * PROTON, EDGES)
    assert result.p_value < 1e-10


def test_no_negative_norm():
    result = template_agreement(1000 * PROTON, ELECTRON, PROTON, 0 * ELECTRON, 0 * PROTON, EDGES)
    assert result.electrons == pytest.approx(0.0, abs=1e-9)
    assert result.protons == pytest.approx(1000.0)
    with pytest.raises(EvaluationError, match="must all hold"):
        template_agreement(0 * PROTON, ELECTRON, PROTON, ELECTRON, PROTON, EDGES)


def test_means_per_bin():
    values = np.array([[0.2, 0.8], [0.4, 0.6], [0.5, 0.5], [0.9, 0.1]])
    result = mean_per_bin(values, [1.0, 1.5, 2.5, 9.0], [1, 2, 3, 4], [1.0, 3.0, 1.0, 1.0])
    assert result.mean[0] == pytest.approx([0.35, 0.65])
    error = np.sqrt(0.15**2 + 9 * 0.05**2) / 4
    assert result.error[0] == pytest.approx([error, error])
    assert np.isnan(result.mean[2]).all()
    assert result.events.tolist() == [2, 1, 0]


def test_containment_of_gaussian_resolution():
    rng = np.random.default_rng(6)
    n = 60_000
    true = np.exp(rng.uniform(np.log(100), np.log(10_000), n))
    sigma = np.where(true < 1000, 0.05, 0.02)
    rec = true * (1 - 0.01 + sigma * rng.normal(size=n))
    result = containment(rec, true, true, [100, 1000, 10_000, 20_000], replicas=60)
    for i, width in enumerate((0.05, 0.02)):
        assert result.bias[i] == pytest.approx(-0.01, abs=5 * width * 1.253 / np.sqrt(n / 2))
        assert result.half_width_68[i] == pytest.approx(width, rel=0.03)
        assert result.half_width_95[i] == pytest.approx(2 * width, rel=0.03)
        # errors of quantiles of a Gaussian: median 1.2533 sigma/sqrt(n)
        error = 1.2533 * width / np.sqrt(result.events[i])
        assert result.bias_error[i] == pytest.approx(error, rel=0.3)
    assert np.isnan(result.bias[2])
    assert result.events[2] == 0


def test_energies_must_be_real():
    with pytest.raises(EvaluationError, match="true ones positive"):
        containment([1.0], [0.0], [1.0], [0, 2])


def test_pulls():
    rng = np.random.default_rng(7)
    truth = rng.normal(0.1, 0.05, 50_000)
    sigma = np.exp(rng.normal(-3, 0.3, truth.size))
    estimate = truth + sigma * rng.normal(size=truth.size)
    result = pulls(estimate, np.log(sigma), truth)
    assert result.median == pytest.approx(0.0, abs=0.03)
    assert result.width == pytest.approx(1.0, abs=0.02)
    assert result.within_one == pytest.approx(0.6827, abs=0.01)
    assert result.within_two == pytest.approx(0.9545, abs=0.005)
    assert pulls(estimate, np.log(sigma / 2), truth).width == pytest.approx(2.0, abs=0.04)
    with pytest.raises(EvaluationError, match="finite"):
        pulls([np.nan], [0.0], [0.0])
