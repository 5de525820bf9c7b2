"""Figures of a combination show the numbers of its tables and of the test of consistency."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis.combination import combine
from analysis.flux import flux
from analysis.plots import PlotError, plot_flux
from analysis.plots.combination import plot_combination, plot_gain
from analysis.plots.systematics import plot_systematics, systematics_table

LABEL = "DAMPE-like synthetic data"
EDGES = 10 ** (1.38 + 0.06 * np.arange(24, 38))


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were when they were written."""
    seen = []
    write = Figure.savefig

    def savefig(self, *args, **kwargs):
        if self not in seen:
            seen.append(self)
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


def texts(figure):
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def bars(ax, label):
    """Points of an errorbar and the ends of its vertical bars."""
    found = [
        c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label() == label
    ]
    line, _, collections = found[0]
    ends = np.array([s for s in collections[-1].get_segments() if len(s)])[:, :, 1]
    return line.get_xdata(), line.get_ydata(), ends[:, 0], ends[:, 1]


def one(region, share, seed, *, nothing=()):
    e = np.sqrt(EDGES[1:] * EDGES[:-1])
    n = np.random.default_rng(seed).poisson(2000 * share * (e / 1000) ** -3).astype(float)
    n[list(nothing)] = 0
    made = flux(
        n, np.where(n > 0, 0.05, np.nan), np.where(n > 0, 0.01, np.nan), 0.9, 0.005, share * 0.3,
        0.002 * share, 2e8, EDGES[:-1], EDGES[1:], meta={"flux": {"region": region}, "synthetic": True},
    )  # fmt: skip
    return made.with_systematic("energy_scale", 0.02 * share * made.dnde, 0.03 * share * made.dnde)


@pytest.fixture(scope="module")
def found():
    return combine([one("fiducial", 1.0, 1), one("topfiducial", 0.75, 2)], e_min_gev=1000.0)


def test_fluxes_and_ratio(found, tmp_path, drawn):
    energies = np.geomspace(600, 5000, 30)
    paths = plot_combination(
        found, tmp_path / "c", synthetic=True, curve=(energies, 3e-8 * (energies / 1e3) ** -3)
    )
    assert [p.suffix for p in paths] == [".png", ".pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    words = texts(drawn[0])
    assert LABEL in words
    for word in ("fiducial", "top-fiducial", "injected", "DAMPE 2017"):
        assert any(word in text for text in words), word
    main, low = drawn[0].axes
    table = found.table
    x, y, bottom, top = bars(main, "combination, fiducial + top-fiducial")
    several = found.used.all(axis=0)
    e = table.e_ref[several]
    assert x == pytest.approx(e)
    assert y == pytest.approx(e**3 * table.dnde[several])
    assert top - y == pytest.approx(e**3 * table.dnde_errp[several])
    assert y - bottom == pytest.approx(e**3 * table.dnde_errn[several])
    points = [bars(main, name)[0] for name in found.regions]
    assert (points[1] / points[0] > 1.01).all()  # beside each other, inside their bins
    assert (points[0] > table.e_min).all()
    assert (points[1] < table.e_max).all()
    test = found.consistency
    said = next(text for text in words if "χ²/dof" in text)
    assert f"{test.chi2:.1f}/{test.ndf}" in said
    assert f"{test.total_ratio[0]:.3f}" in said
    ratios = [c for c in low.containers if isinstance(c, ErrorbarContainer)]
    np.testing.assert_allclose(ratios[0][0].get_ydata(), found.below.ratio[0])
    np.testing.assert_allclose(ratios[1][0].get_ydata(), test.ratio[0])


def test_gain(found, tmp_path, drawn):
    plot_gain(found, tmp_path / "g", synthetic=False, title="a title")
    words = texts(drawn[0])
    assert LABEL not in words
    assert "a title" in words
    main, low = drawn[0].axes
    several = found.used.all(axis=0)
    table, first = found.table, found.parts[0]
    y = bars(main, "fiducial alone")[1]
    assert y == pytest.approx(50 * ((first.dnde_errn + first.dnde_errp) / table.dnde)[several])
    y = bars(low, "found")[1]
    assert y == pytest.approx(found.gain[several])
    steps = low.patches[0].get_data().values
    assert steps[several] == pytest.approx(np.sqrt(1 / 1.75))
    assert np.isnan(steps[~several]).all()


def test_bins_without_counts_show_their_limit(tmp_path, drawn):
    parts = [one(r, s, 3, nothing=[12]) for r, s in (("fiducial", 1.0), ("topfiducial", 0.75))]
    both = combine(parts)
    plot_combination(both, tmp_path / "c", synthetic=True)
    main = drawn[0].axes[0]
    limit = next(c for c in main.containers if c.get_label() == "upper limit of the combination")
    assert limit[0].get_ydata() == pytest.approx([(both.table.e_ref**3 * both.table.dnde_ul)[12]])
    assert limit[0].get_ydata()[0] < main.get_ylim()[1]


def test_other_figures_take_the_table(found, tmp_path, drawn):
    plot_flux(found.table, tmp_path / "f", synthetic=True)
    assert LABEL in texts(drawn[0])
    plot_systematics(found.table, tmp_path / "s", synthetic=True)
    assert "energy scale (%)" in systematics_table(found.table)


def test_too_few_events_to_compare(tmp_path, drawn):
    few = combine([one(r, 5e-5, 4) for r in ("fiducial", "topfiducial")])
    assert few.consistency is None
    plot_combination(few, tmp_path / "c", synthetic=True)
    assert "too few events to compare" in texts(drawn[0])


def test_what_cannot_be_drawn(found, tmp_path):
    empty = replace(found, table=replace(found.table, success=found.table.success & False))
    with pytest.raises(PlotError, match="no bin of the combined flux is positive"):
        plot_combination(empty, tmp_path / "c", synthetic=True)
    with pytest.raises(PlotError, match="give as many of both"):
        plot_combination(found, tmp_path / "c", synthetic=True, curve=([1.0, 2.0], [1.0]))
    alone = combine(found.parts, e_min_gev=1e5)
    with pytest.raises(PlotError, match="no gain to draw"):
        plot_gain(alone, tmp_path / "g", synthetic=True)
    assert not list(tmp_path.iterdir())
    plot_combination(alone, tmp_path / "c", synthetic=True)
    with pytest.raises(FileExistsError):
        plot_combination(found, tmp_path / "c", synthetic=True)
