import numpy as np
import pytest

from simulation.material import upstream_depths
from simulation.stkplanes import CLUSTER_ADC, PAIR_SHARE, STK_PLANE_Z_MM, plane_signals

N = 40_000


def signals(species, energy=100.0, cosine=1.0, splash=0.0, first=np.inf, seed=1):
    return plane_signals(
        species,
        np.full(N, energy),
        np.full(N, cosine),
        np.ones((N, 12), bool),
        np.full(N, splash),
        np.full(N, first),
        np.random.default_rng(seed),
    )


def test_depths_count_the_sheets_above_each_plane():
    depths = upstream_depths(STK_PLANE_Z_MM)
    assert depths == pytest.approx([0.068, 0.374, 0.680, 0.986, 1.006, 1.026])


def test_single_particle_signal():
    lone = signals("proton")
    # the Moyal numbers peak at 1 and have the mean 1 + 0.12 (gamma + ln 2)
    assert lone.energy_adc.mean() / CLUSTER_ADC == pytest.approx(
        1 + 0.12 * 1.2704 + 0.014, abs=0.01
    )
    assert lone.clusters.mean() == pytest.approx(1.02, abs=0.005)


@pytest.mark.parametrize(("energy", "cosine"), [(100.0, 1.0), (5000.0, 0.6)])
def test_pairs_of_electrons_follow_the_closed_form(energy, cosine):
    extra = signals("electron", energy, cosine).energy_adc - signals("proton").energy_adc
    depth = upstream_depths(STK_PLANE_Z_MM) / cosine
    pairs = PAIR_SHARE * 7 / 9 * 4 / 3 * np.log(energy / 0.02) * depth**2 / 2
    seen = 0.95 * 2 * np.repeat(pairs, 2)
    # the floor on the fluctuation of few particles adds a little
    assert extra.mean(axis=0) / CLUSTER_ADC == pytest.approx(seen, rel=0.03, abs=0.02)


def test_pairs_stay_from_plane_to_plane():
    many = signals("electron", 1000.0)
    x_view = many.energy_adc[:, ::2]
    steps = np.diff(x_view, axis=1).mean(axis=0)
    assert (steps > 0).all()
    assert np.corrcoef(x_view[:, 4], x_view[:, 5])[0, 1] > 0.8


def test_secondaries_appear_below_the_vertex():
    inside = signals("proton", first=-150.0)
    lone = signals("proton")
    planes = inside.energy_adc[:, ::2].mean(axis=0) / lone.energy_adc.mean()
    assert planes[:2] == pytest.approx([1.0, 1.0], abs=0.02)
    # 5 particles at 100 GeV, of which 95 % are seen
    assert planes[2:] == pytest.approx(np.full(4, 1 + 4.75 / 1.166), rel=0.04)


def test_backsplash_grows_towards_the_calorimeter():
    splash = signals("proton", splash=2.0).energy_adc - signals("proton").energy_adc
    assert splash.mean(axis=0)[::2] / CLUSTER_ADC == pytest.approx(
        0.95 * 2 * np.linspace(0.3, 1.2, 6), rel=0.06
    )
