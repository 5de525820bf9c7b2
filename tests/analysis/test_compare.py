import numpy as np
import pytest

from analysis.compare import compare_to_published, compare_to_spectrum
from analysis.exceptions import AnalysisError
from analysis.flux import flux
from analysis.published import load

EDGES = 10 ** (1.38 + 0.06 * np.arange(39))


@pytest.fixture(scope="module")
def table():
    """A measurement with the published counts, in exact instead of printed bins."""
    paper = load("dampe_2017_electron_positron")
    column = paper.extra
    return flux(
        column["counts"],
        column["bkg_fraction"],
        0.0,
        1.0,
        0.0,
        column["acceptance_m2sr"],
        column["acceptance_err"],
        3.4916e7,
        EDGES[:-1],
        EDGES[1:],
    )


def test_same_bins_are_taken_as_printed(table):
    paper = load("dampe_2017_electron_positron")
    result = compare_to_published(table, paper, systematics=False)
    assert result.name == "dampe_2017_electron_positron"
    assert result.reference.tolist() == paper.dnde.tolist()
    assert not result.interpolated.any()
    assert result.ratio == pytest.approx(np.ones(38), abs=0.015)
    assert result.ndf == 38
    assert result.chi2_per_ndf < 0.5  # one measurement against itself


def test_pulls_use_the_facing_sides(table):
    up, down = table.dnde * 1.3, table.dnde * 0.7
    above = compare_to_spectrum(table, up)
    assert above.pull == pytest.approx((table.dnde - up) / table.dnde_errp)
    below = compare_to_spectrum(table, down)
    assert below.pull == pytest.approx((table.dnde - down) / table.dnde_errn)
    assert below.ratio == pytest.approx(np.full(38, 1 / 0.7))
    assert below.ratio_errp == pytest.approx(table.dnde_errp / down)
    assert below.ratio_errn == pytest.approx(table.dnde_errn / down)
    assert below.chi2 == pytest.approx(np.sum(below.pull**2))


def test_reference_errors_face_the_measurement(table):
    hess = load("hess_2009_electron_positron")
    result = compare_to_published(table, hess, systematics=False)
    inside = np.flatnonzero(result.used)
    assert (table.e_ref[inside] > 373.11).all()
    assert (table.e_ref[inside] < 1591.62).all()
    i = inside[0]
    sides = [
        np.interp(np.log(table.e_ref[i]), np.log(hess.e_mean), x / hess.dnde)
        for x in (hess.stat_n, hess.stat_p)
    ]
    above = table.dnde[i] > result.reference[i]
    error = np.hypot(
        (table.dnde_errn if above else table.dnde_errp)[i], result.reference[i] * sides[int(above)]
    )
    assert result.pull[i] == pytest.approx((table.dnde[i] - result.reference[i]) / error)


def test_interpolation_is_exact_for_a_power_law(table):
    fermi = load("fermilat_2017_he_electron_positron")
    index = np.log(fermi.dnde[8] / fermi.dnde[7]) / np.log(fermi.e_ref()[8] / fermi.e_ref()[7])
    result = compare_to_published(table, fermi)
    i = int(np.searchsorted(table.e_ref, fermi.e_ref()[7]))
    assert fermi.e_ref()[7] < table.e_ref[i] < fermi.e_ref()[8]
    expected = fermi.dnde[7] * (table.e_ref[i] / fermi.e_ref()[7]) ** index
    assert result.reference[i] == pytest.approx(expected, rel=1e-12)
    assert result.interpolated[i]
    assert np.isnan(result.reference[0])  # no extrapolation below 42 GeV
    assert not result.used[0]
    assert not result.interpolated[0]


def test_dampe_and_calet_differ_as_published(table):
    calet = load("calet_2018_dampebins_electron_positron")
    result = compare_to_published(table, calet, e_min_gev=300, e_max_gev=1000)
    assert not result.interpolated[result.used].any()
    assert result.ndf == 8
    assert 1.2 < np.mean(result.ratio[result.used]) < 1.3  # DAMPE above CALET there
    statistical = compare_to_published(
        table, calet, e_min_gev=300, e_max_gev=1000, systematics=False
    )
    assert statistical.chi2 > result.chi2 > 8


def test_energy_range_admits_printed_edges(table):
    reference = table.dnde * 1.01
    assert compare_to_spectrum(table, reference, e_min_gev=24.0, e_max_gev=27.5).ndf == 1
    assert compare_to_spectrum(table, reference, e_max_gev=1000.0).ndf == 27
    assert compare_to_spectrum(table, reference, e_min_gev=55.0, e_max_gev=2630.3).ndf == 28
    empty = compare_to_spectrum(table, reference, e_min_gev=1e6)
    assert (empty.ndf, empty.chi2) == (0, 0.0)
    assert np.isnan(empty.chi2_per_ndf)


def test_systematics_shrink_pulls(table):
    reference = table.dnde * 1.1
    one = compare_to_spectrum(table, reference)
    other = compare_to_spectrum(table, reference, systematics=True)
    sigma = np.hypot(table.dnde_errp, table.systematics["acceptance"][1])
    assert other.pull == pytest.approx((table.dnde - reference) / sigma)
    assert other.chi2 < one.chi2
    assert other.ratio_errp == pytest.approx(sigma / reference)


def test_toys_of_the_injected_spectrum_have_chi2_of_one_per_bin():
    rng = np.random.default_rng(3)
    truth = 1.62e-4 * np.diff(EDGES**-2.1) / -2.1 / np.diff(EDGES) * 100**3.1
    expected = truth * 0.3 * 3e7 * np.diff(EDGES)
    assert expected[:27].min() > 150
    chi2 = []
    for _ in range(200):
        toy = flux(rng.poisson(expected), 0.0, 0.0, 1.0, 0.0, 0.3, 0.0, 3e7, EDGES[:-1], EDGES[1:])
        chi2.append(compare_to_spectrum(toy, truth, e_max_gev=1000).chi2_per_ndf)
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.06)


def test_failed_and_unknown_bins_are_left_out():
    table = flux([10, 10, 0], 0.0, 0.0, [1.0, 0.0, 1.0], 0.0, 0.3, 0.0, 1e6, [1, 2, 3], [2, 3, 4])
    result = compare_to_spectrum(table, table.acceptance)
    assert result.used.tolist() == [True, False, True]
    assert np.isnan(result.pull[1])
    assert result.pull[2] < 0  # no counts: the upward error faces the reference
    result = compare_to_spectrum(table, [np.nan, 1.0, 0.0])
    assert result.ndf == 0


def test_wrong_length(table):
    with pytest.raises(AnalysisError, match=r"shape \(3,\); the table has 38 bins"):
        compare_to_spectrum(table, [1.0, 2.0, 3.0])
