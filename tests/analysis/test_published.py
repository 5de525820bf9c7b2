import numpy as np
import pytest

from analysis.exceptions import UnknownSpectrumError
from analysis.published import electron_positron_sets, load, names


def test_all_sets_are_there():
    sizes = {name: len(load(name).dnde) for name in names()}
    assert sizes == {
        "ams02_2014_electron_positron": 74,
        "ams02_2019_electron_positron": 74,
        "ams02_2021_electron": 75,
        "ams02_2021_electron_positron": 76,
        "ams02_2021_positron": 74,
        "calet_2017_electron_positron": 39,
        "calet_2018_dampebins_electron_positron": 44,
        "calet_2018_electron_positron_partial": 21,
        "calet_2023_electron_positron": 41,
        "dampe_2017_electron_positron": 38,
        "dampe_2019_proton": 17,
        "dampe_2026_proton": 18,
        "fermilat_2017_he_electron_positron": 27,
        "fermilat_2017_le_electron_positron": 22,
        "hess_2008_electron_positron": 8,
        "hess_2009_electron_positron": 9,
        "hess_2017_prelim_electron_positron": 19,
        "veritas_2018_electron_positron": 15,
    }


@pytest.mark.parametrize("name", names())
def test_every_set_is_sound(name):
    spectrum = load(name)
    assert "@" in spectrum.source  # repository and commit of the numbers
    assert str(spectrum.year) in spectrum.source.splitlines()[0] + name
    assert np.all(spectrum.dnde > 0)
    assert np.all(np.diff(spectrum.e_ref()) > 0)
    binned = np.isfinite(spectrum.e_min)
    assert np.all(spectrum.e_min[binned] < spectrum.e_ref()[binned])
    assert np.all(spectrum.e_ref()[binned] < spectrum.e_max[binned])
    low, high = spectrum.total_error()
    assert np.isfinite(low).all()
    assert np.all(high >= 0)
    assert spectrum.units["dnde"] == "GeV-1 m-2 s-1 sr-1"
    assert set(spectrum.extra) <= set(spectrum.units)
    with pytest.raises(ValueError, match="read-only"):
        spectrum.dnde[0] = 0.0


def test_dampe_2017_by_hand():
    spectrum = load("dampe_2017_electron_positron")
    assert spectrum.label == "DAMPE 2017"
    assert spectrum.species == "electron_positron"
    assert (spectrum.e_min[30], spectrum.e_max[30], spectrum.dnde[30]) == (1513.6, 1737.8, 1.52e-8)
    assert spectrum.extra["counts"][[0, 30, 37]].tolist() == [377469, 33, 3]
    assert spectrum.extra["bkg_fraction"][30] == 0.05
    assert spectrum.units["acceptance_m2sr"] == "m2 sr"
    assert spectrum.units["counts"] == ""
    low, high = spectrum.total_error()
    assert low[30] == high[30] == pytest.approx(np.hypot(2.8e-9, 6e-10))


def test_names_are_read_right():
    assert load("fermilat_2017_he_electron_positron").label == "Fermi-LAT 2017 (he)"
    assert load("calet_2018_electron_positron_partial").variant == "partial"
    assert load("ams02_2021_positron").species == "positron"
    assert load("ams02_2021_electron").species == "electron"
    assert load("dampe_2026_proton").species == "proton"
    assert load("hess_2008_electron_positron").experiment == "H.E.S.S."


def test_electron_positron_sets():
    sets = electron_positron_sets()
    assert len(sets) == 14
    assert "dampe_2017_electron_positron" in sets
    assert "ams02_2021_electron" not in sets
    assert "ams02_2021_positron" not in sets


def test_empty_fields_are_nan():
    veritas = load("veritas_2018_electron_positron")
    assert np.isnan(veritas.sys_n).all()
    assert veritas.total_error()[0] == pytest.approx(veritas.stat_n)
    hess = load("hess_2008_electron_positron")
    assert np.isnan(hess.e_min).all()
    assert hess.e_ref()[0] == 714.713
    fermi = load("fermilat_2017_he_electron_positron")
    assert np.isnan(fermi.e_mean).all()
    low, high = 86.5964, 100.0
    expected = (2 * low**2 * high**2 / (low + high)) ** (1 / 3)  # E^-3 at its bin average
    assert fermi.e_ref()[5] == pytest.approx(expected, rel=1e-12)


def test_spectra_agree_with_the_noted_levels():
    # E^3 J at 100 GeV in GeV^2 m^-2 s^-1 sr^-1, as the survey of these sets states
    for name, level in [
        ("dampe_2017_electron_positron", 162),
        ("fermilat_2017_he_electron_positron", 154),
        ("calet_2023_electron_positron", 147),
        ("ams02_2021_electron_positron", 146),
    ]:
        spectrum = load(name)
        scaled = np.interp(100.0, spectrum.e_ref(), spectrum.e_ref() ** 3 * spectrum.dnde)
        assert scaled == pytest.approx(level, rel=0.015)


def test_unknown_name():
    with pytest.raises(UnknownSpectrumError, match="'pamela'; there are: ams02_2014"):
        load("pamela")
