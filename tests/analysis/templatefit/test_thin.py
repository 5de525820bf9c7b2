"""Simulation too thin to see a shift: the order is lowered and said, the yields are still found."""

import numpy as np
import pytest

from analysis.templatefit import FitSettings, fit_templates
from analysis.templates import Template

ENERGY = np.geomspace(100.0, 1000.0, 6)
OMEGA = np.linspace(-10.0, 10.0, 41)


def make(kind, place, events, weight=1.0):
    rng = np.random.default_rng(len(kind))
    values = np.zeros((5, 42))
    for i in range(5):
        values[i, 1:-1] = np.histogram(rng.normal(place, 0.8, events), OMEGA)[0]
    return Template(kind, "fiducial", ENERGY, OMEGA, values * weight, values * weight**2)


@pytest.mark.parametrize("order", [1, 2])
def test_order_is_lowered_until_the_data_fix_it(order):
    rng = np.random.default_rng(3)
    protons = make("proton", -5.0, 12)
    electrons = make("electron", 5.0, 2000)
    values = np.zeros((5, 42))
    for i in range(5):
        both = np.concatenate([rng.normal(-5.0, 0.8, 300), rng.normal(5.0, 0.8, 60)])
        values[i, 1:-1] = np.histogram(both, OMEGA)[0]
    data = Template("data", "fiducial", ENERGY, OMEGA, values, values)
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=order), cut=0.0)
    assert result.success.all()
    assert result.settings["shift_order_lowered_from"] == order
    assert result.settings["shift_order"] is None
    assert result.electrons[0] == pytest.approx(np.full(5, 60.0), abs=3.0)
    assert result.protons[0] == pytest.approx(np.full(5, 300.0), abs=3.0)


def test_enough_simulation_keeps_the_order():
    protons, electrons = make("proton", -5.0, 3000), make("electron", 5.0, 3000)
    data = Template(
        "data", "fiducial", ENERGY, OMEGA, protons.values + electrons.values, protons.values
    )
    result = fit_templates(data, electrons, protons, FitSettings(shift_order=1), cut=0.0)
    assert "shift_order_lowered_from" not in result.settings
    assert result.coefficients["s0"][0] == pytest.approx(0.0, abs=0.05)
