"""Weights: acceptance from weighted events equals what geometry says, whatever the samples."""

import numpy as np
import pytest
from pydantic import ValidationError

from processors.binning import energy_edges_gev
from processors.score import SCORES, zeta_omega
from processors.spectrum import ELECTRON_2017, PROTON_2026, parse
from processors.weights import Generated, exposure_density, rate_weights


def test_energy_bins_of_the_contract() -> None:
    edges = energy_edges_gev()
    assert edges.shape == (42,)
    np.testing.assert_allclose(
        edges[[0, 30, 31, 38]], [23.9883, 1513.56, 1737.80, 4570.88], rtol=2e-5
    )
    np.testing.assert_allclose(edges[-3:], [6025.6, 7943.3, 10471.3], rtol=1e-5)
    np.testing.assert_allclose(energy_edges_gev(extended=True)[-2:], [13803.8, 18197.0], rtol=1e-5)


def test_omega_of_zeta() -> None:
    omega = zeta_omega(np.array([8.5, 20.0, 100.0, 0.0, np.nan, -1.0]))
    np.testing.assert_allclose(omega[:3], [-0.929419, -1.30103, -2.0], atol=1e-6)
    assert omega[3] < SCORES["zeta"].high
    assert omega[3] == pytest.approx(2.0)
    assert np.isnan(omega[4:]).all()


def test_etendue_and_density_of_an_inverse_spectrum() -> None:
    sample = Generated(events=1000, e_min_gev=10.0, e_max_gev=1000.0)
    assert sample.etendue_m2sr == pytest.approx(2 * np.pi * 6.0)  # pi R^2 = 6 m^2
    # E^-1 over two decades: dN/dE = N / (E ln 100)
    density = exposure_density(np.array([100.0, 9.0, 1001.0]), [sample])
    assert density[0] == pytest.approx(1000 / (37.6991 * 100.0 * np.log(100.0)), rel=1e-5)
    assert density[1:].tolist() == [0.0, 0.0]


def test_another_index_integrates_to_the_generated_number() -> None:
    sample = Generated(events=500, e_min_gev=20.0, e_max_gev=400.0, index=-2.0)
    e = np.linspace(20.0, 400.0, 200_001)
    total = np.trapezoid(exposure_density(e, [sample]) * sample.etendue_m2sr, e)
    assert total == pytest.approx(500, rel=1e-6)


def test_rates_of_overlapping_samples_give_the_acceptance() -> None:
    """Two samples with other ranges and sizes, one true acceptance of 0.3 m² sr."""
    rng = np.random.default_rng(5)
    samples = [
        Generated(events=400_000, e_min_gev=20.0, e_max_gev=500.0),
        Generated(events=250_000, e_min_gev=200.0, e_max_gev=5000.0, index=-1.5),
    ]
    energies = []
    for sample in samples:
        u = rng.random(sample.events)
        low, high, g = sample.e_min_gev, sample.e_max_gev, sample.index + 1
        e = low * (high / low) ** u if g == 0 else (low**g + u * (high**g - low**g)) ** (1 / g)
        energies.append(e[rng.random(e.size) < 0.3 / sample.etendue_m2sr])
    e = np.concatenate(energies)
    rates = rate_weights(e, np.ones(e.size), samples, ELECTRON_2017)
    edges = np.array([30.0, 150.0, 400.0, 1000.0, 4000.0])
    rate, _ = np.histogram(e, edges, weights=rates)
    variance, _ = np.histogram(e, edges, weights=rates**2)
    integral = ELECTRON_2017.integral(edges[:-1], edges[1:])
    pull = (rate / integral - 0.3) / (np.sqrt(variance) / integral)
    assert np.abs(pull).max() < 3.0
    assert (np.sqrt(variance) / rate).max() < 0.06


def test_energy_outside_every_sample_is_nan() -> None:
    sample = Generated(events=10, e_min_gev=100.0, e_max_gev=200.0)
    w = rate_weights(np.array([50.0, 150.0]), np.ones(2), [sample], parse(PROTON_2026.to_dict()))
    assert np.isnan(w[0])
    assert w[1] > 0


def test_swapped_energies_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"must be above e_min_gev"):
        Generated(events=1, e_min_gev=200.0, e_max_gev=100.0)
