import hist
import numpy as np
import pytest

from analysis.acceptance import acceptance, acceptance_from_histogram
from analysis.exceptions import HistogramMismatchError

G_TOTAL = 2 * np.pi**2 * 1.381976597885**2  # m2 sr


def power_law_integral(edges, index, norm=1.0):
    power = edges ** (index + 1) / (index + 1)
    return norm * np.diff(power)


def test_by_hand_with_an_empty_bin():
    result = acceptance([3.0, 0.0, 8.0], [1.0, 0.0, 4.0], [10.0, 5.0, 0.0], [1.0, 2.0, 4.0, 8.0])
    assert result.success.tolist() == [True, False, False]
    assert result.value[0] == pytest.approx(0.3)
    assert result.error[0] == pytest.approx(0.1)
    assert result.effective_counts.tolist() == [9.0, 0.0, 0.0]
    assert np.isnan(result.value[1:]).all()
    assert np.isnan(result.error[1:]).all()
    assert result.e_max.tolist() == [2.0, 4.0, 8.0]


def test_generated_sample_gives_back_its_acceptance():
    # E^-1 between 20 and 200 GeV, 60 % of 0.7 % of the events pass: A = 0.0042 G
    rng = np.random.default_rng(7)
    n_generated, probability = 2_000_000, 0.0042
    n_passed = rng.binomial(n_generated, probability)
    energy = 20.0 * 10.0 ** rng.random(n_passed)
    edges = 10 ** (1.38 + 0.06 * np.arange(13))
    density = n_generated / (energy * np.log(10.0))
    weight = G_TOTAL / density * energy**-3.0
    passed = hist.Hist(
        hist.axis.StrCategory(["electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.Variable(edges, name="energy_true"),
        storage=hist.storage.Weight(),
    )
    passed.fill(kind="electron", region="topfiducial", energy_true=energy, weight=weight)
    result = acceptance_from_histogram(
        passed, power_law_integral(edges, -3.0), region="topfiducial"
    )
    truth = G_TOTAL * probability
    assert truth == pytest.approx(0.15834, abs=1e-5)
    pull = (result.value - truth) / result.error
    assert np.abs(pull).max() < 3.5
    assert np.sum(pull**2) == pytest.approx(12, abs=12)
    # about 500 events per bin, weights E^-2 inside the bin
    assert result.error / result.value == pytest.approx(np.full(12, 1 / np.sqrt(504)), rel=0.15)
    empty = acceptance_from_histogram(passed, power_law_integral(edges, -3.0))
    assert not empty.success.any()


def test_lengths_must_fit():
    with pytest.raises(HistogramMismatchError, match=r"shapes \(2,\), \(2,\), \(3,\) for 2 bins"):
        acceptance([1, 2], [1, 2], [1, 2, 3], [1, 2, 3])
