from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum, parse


def test_electron_spectrum_gives_the_published_fluxes():
    # Nature 552, 63: 1.52e-4 in 95.5-109.7 GeV and 6.13e-7 in 575.4-660.7 GeV
    low, high = np.array([95.5, 575.4]), np.array([109.7, 660.7])
    mean = ELECTRON_2017.integral(low, high) / (high - low)
    assert mean == pytest.approx([1.52e-4, 6.13e-7], rel=0.05)


def test_electron_spectrum_is_the_published_formula():
    e = np.array([50.0, 914.0, 5000.0])
    formula = 1.62e-4 * (e / 100) ** -3.09 * (1 + (e / 914) ** (-(3.09 - 3.92) / 0.1)) ** -0.1
    assert ELECTRON_2017.flux(e) == pytest.approx(formula, rel=1e-12)


def test_proton_spectrum_describes_the_published_table():
    table = pd.read_csv(str(files("analysis.published") / "dampe_2026_proton.csv"), comment="#")
    low, high = table["E_lo"].to_numpy(), table["E_hi"].to_numpy()
    assert low[0] == pytest.approx(39.8)
    assert high[-1] > 1.58e5
    mean = PROTON_2026.integral(low, high) / (high - low)
    assert np.abs(mean / table["flux"].to_numpy() - 1).max() < 0.03


def test_indices_far_from_the_breaks():
    for spectrum in (ELECTRON_2017, PROTON_2026):
        for e, index in ((1.0, spectrum.indices[0]), (1e9, spectrum.indices[-1])):
            slope = np.log(spectrum.flux(e * 1.01) / spectrum.flux(e)) / np.log(1.01)
            assert slope == pytest.approx(-index, abs=1e-4)


@given(
    index=st.floats(0.5, 4.5).filter(lambda g: abs(g - 1) > 1e-3),
    low=st.floats(1, 1e4),
    ratio=st.floats(1.0001, 1e5),
)
def test_power_law_integral_is_the_closed_form(index, low, ratio):
    spectrum = Spectrum(2.0, 10.0, (index,))
    # (r^(1-g) - 1) / (1-g) with expm1: the plain difference cancels for narrow intervals
    exact = 2.0 * 10 * (low / 10) ** (1 - index) * np.expm1((1 - index) * np.log(ratio))
    assert spectrum.integral(low, low * ratio) == pytest.approx(exact / (1 - index), rel=1e-10)


def test_integral_agrees_with_adaptive_quadrature_and_adds_up():
    for spectrum in (ELECTRON_2017, PROTON_2026):
        edges = np.geomspace(40, 1.5e5, 7)
        parts = spectrum.integral(edges[:-1], edges[1:])
        for low, high, part in zip(edges, edges[1:], parts, strict=False):
            exact, _ = quad(
                lambda t, s=spectrum: float(s.flux(np.exp(t))) * np.exp(t),
                np.log(low),
                np.log(high),
                epsabs=0,
                epsrel=1e-11,
                limit=500,
            )
            assert part == pytest.approx(exact, rel=1e-9)
        assert spectrum.integral(edges[0], edges[-1]) == pytest.approx(parts.sum(), rel=1e-9)
        assert spectrum.integral(edges[1], edges[0]) == pytest.approx(-parts[0], rel=1e-9)
    assert ELECTRON_2017.integral(np.zeros(0), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    "spectrum", [ELECTRON_2017, PROTON_2026, Spectrum(1.0, 1.0, (2.7,))], ids=["e", "p", "pl"]
)
def test_dict_round_trip(spectrum):
    assert parse(spectrum.to_dict()) == spectrum


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"type": "log_parabola"}, "unknown spectrum type 'log_parabola'"),
        ({"norm": 1.0}, "unknown spectrum type None"),
        ({"type": "power_law", "norm": 1, "index": 3}, r"missing keys \['e0_gev'\]"),
        (
            {"type": "power_law", "norm": 1, "index": 3, "e0_gev": 1, "breaks": 2},
            r"unknown keys \['breaks'\]",
        ),
        ({"type": "power_law", "norm": "x", "index": 3, "e0_gev": 1}, "norm must be a number"),
        ({"type": "power_law", "norm": True, "index": 3, "e0_gev": 1}, "norm must be a number"),
        ({"type": "power_law", "norm": -1, "index": 3, "e0_gev": 1}, "must be positive"),
        (
            {"type": "power_law", "norm": 1, "index": float("nan"), "e0_gev": 1},
            "must be finite",
        ),
        (
            {
                "type": "multiply_broken_power_law",
                "norm": 1,
                "e0_gev": 1,
                "indices": [1, 2, 3],
                "breaks_gev": [10],
                "smoothness": [0.1],
            },
            "one smoothness per break",
        ),
        (
            {
                "type": "multiply_broken_power_law",
                "norm": 1,
                "e0_gev": 1,
                "indices": [1, 2, 3],
                "breaks_gev": [10, 5],
                "smoothness": [0.1, 0.1],
            },
            "must ascend",
        ),
        (
            {
                "type": "multiply_broken_power_law",
                "norm": 1,
                "e0_gev": 1,
                "indices": 3,
                "breaks_gev": [10, 5],
                "smoothness": [0.1, 0.1],
            },
            "indices must be a list",
        ),
    ],
)
def test_bad_cards_are_refused(card, message):
    with pytest.raises(ValueError, match=message):
        parse(card)


def test_a_cut_off_multiplies_any_type():
    base = {"type": "power_law", "norm": 2e-4, "index": 3.0, "e0_gev": 100.0}
    cut = parse(base | {"cutoff_gev": 2000.0, "cutoff_power": 4.0})
    plain = parse(base)
    e = np.array([100.0, 1000.0, 2000.0, 5000.0, 1e6])
    assert cut.flux(e) == pytest.approx(plain.flux(e) * np.exp(-((e / 2000.0) ** 4)), rel=1e-12)
    assert parse(base | {"cutoff_gev": 2000.0}).flux(2000.0) == pytest.approx(
        plain.flux(2000.0) / np.e
    )
    for low, high in ((1000.0, 1150.0), (1900.0, 2200.0), (100.0, 10_000.0)):
        expected = quad(lambda x: float(cut.flux(x)), low, high, epsrel=1e-10, limit=200)[0]
        assert cut.integral(low, high) == pytest.approx(expected, rel=1e-6)
    assert parse(cut.to_dict()) == cut
    assert "cutoff_gev" not in plain.to_dict()
    broken = ELECTRON_2017.to_dict() | {"cutoff_gev": 3000.0, "cutoff_power": 2.0}
    assert parse(broken).to_dict() == broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff_power": 2.0}, r"unknown keys \['cutoff_power'\]"),
        ({"cutoff_gev": 0.0}, "must be positive"),
        ({"cutoff_gev": 1000.0, "cutoff_power": -1.0}, "must be positive"),
    ],
)
def test_bad_cut_offs_are_refused(change, message):
    base = {"type": "power_law", "norm": 1.0, "index": 3.0, "e0_gev": 1.0}
    with pytest.raises(ValueError, match=message):
        parse(base | change)
