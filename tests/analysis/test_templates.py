import hist
import numpy as np
import pytest

from analysis.exceptions import CutNotOnEdgeError, HistogramMismatchError
from analysis.templates import template


def score_histogram(*, flow=True, storage=None):
    histogram = hist.Hist(
        hist.axis.StrCategory(["data", "electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.Variable([10.0, 20.0, 40.0], name="energy"),
        hist.axis.Regular(1200, -8.0, 4.0, name="omega", flow=flow),
        storage=storage or hist.storage.Weight(),
    )
    omega = np.array([-9.0, -8.0, -0.935, -0.93, -0.925, 3.995, 4.0, 7.0])
    histogram.fill(
        kind="proton", region="fiducial", energy=15.0, omega=omega, weight=np.arange(1.0, 9.0)
    )
    histogram.fill(kind="proton", region="fiducial", energy=[5.0, 40.0, 99.0], omega=0.0)
    return histogram


def test_sums_by_hand():
    protons = template(score_histogram(), "proton", "fiducial")
    assert protons.values.shape == (2, 1202)
    assert protons.total().value.tolist() == [36.0, 0.0]  # energy outside the axis is left out
    above = protons.above(-0.93)
    assert above.value.tolist() == [4 + 5 + 6 + 7 + 8, 0]  # overflow included
    assert above.variance.tolist() == [16 + 25 + 36 + 49 + 64, 0]
    assert protons.between(-8.0, -0.93).value[0] == 2 + 3
    assert protons.between(-np.inf, -0.93).value[0] == 1 + 2 + 3
    assert protons.between(-0.94, -0.92).value[0] == 3 + 4 + 5


def test_every_two_decimal_value_is_an_edge():
    protons = template(score_histogram(), "proton", "fiducial")
    for text in np.arange(-800, 401, 7) / 100:
        part = protons.above(float(text)).value + protons.between(-np.inf, float(text)).value
        assert part[0] == 36.0


def test_axis_without_flow_bins():
    protons = template(score_histogram(flow=False), "proton", "fiducial")
    assert protons.values.shape == (2, 1202)
    assert protons.values[0, 0] == protons.values[0, -1] == 0.0
    # without an overflow bin the upper edge, 4.0, belongs to the last bin
    assert protons.above(-0.93).value[0] == 4 + 5 + 6 + 7
    assert protons.total().value[0] == 2 + 3 + 4 + 5 + 6 + 7


def test_axes_in_another_order():
    plain = score_histogram()
    turned = plain.project("omega", "region", "energy", "kind")
    assert template(turned, "proton", "fiducial").values == pytest.approx(
        template(plain, "proton", "fiducial").values
    )


def test_cut_inside_a_bin_names_its_neighbours():
    protons = template(score_histogram(), "proton", "fiducial")
    with pytest.raises(CutNotOnEdgeError, match=r"-0\.929 is not on .* edges: -0\.93, -0\.92"):
        protons.above(-0.929)
    with pytest.raises(CutNotOnEdgeError, match=r"nearest edges: 4$"):
        protons.above(9.5)
    with pytest.raises(CutNotOnEdgeError, match="empty"):
        protons.between(1.0, -1.0)


def test_missing_parts_are_named():
    histogram = score_histogram()
    with pytest.raises(HistogramMismatchError, match=r"no kind 'helium'; it has 'data', 'elec"):
        template(histogram, "helium", "fiducial")
    with pytest.raises(HistogramMismatchError, match=r"has axes \['energy', 'kind', 'omega'\]"):
        template(histogram.project("kind", "energy", "omega"), "data", "fiducial")
    with pytest.raises(HistogramMismatchError, match="Weight storage"):
        template(score_histogram(storage=hist.storage.Double()), "proton", "fiducial")
