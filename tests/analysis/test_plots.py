"""Figures show the numbers that they are given, say when these are synthetic, and refuse the rest."""

from dataclasses import replace
from pathlib import Path

import hist
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis import plots
from analysis.acceptance import Acceptance
from analysis.background import proton_background
from analysis.compare import compare_to_spectrum
from analysis.efficiency import signal_efficiency
from analysis.exceptions import HistogramMismatchError
from analysis.flux import flux
from analysis.plots import PlotError, scores
from analysis.plots.panels import merge_factor
from analysis.published import load
from analysis.templates import Template

EDGES = np.array([25.0, 50.0, 100.0, 200.0])
OMEGA = np.linspace(-4, 2, 121)
LABEL = "DAMPE-like synthetic data"


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
    """All texts of a figure."""
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def bars(ax, number=0):
    """Points and vertical error ends of an errorbar: x, y, lower, upper."""
    container = [c for c in ax.containers if isinstance(c, ErrorbarContainer)][number]
    line, _, collections = container
    segments = [s if len(s) else np.full((2, 2), np.nan) for s in collections[-1].get_segments()]
    ends = np.array(segments)[:, :, 1]
    return line.get_xdata(), line.get_ydata(), ends[:, 0], ends[:, 1]


def check(paths, figure, *, synthetic):
    assert [p.suffix for p in paths] == [".png", ".pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert not [p for p in paths[0].parent.iterdir() if p.name.startswith(".")]
    assert (LABEL in texts(figure)) is synthetic
    labelled = [ax for ax in figure.axes if ax.get_xlabel()]
    assert labelled


def one_template(kind, shape, scale):
    values = np.zeros((3, OMEGA.size + 1))
    centres = (OMEGA[1:] + OMEGA[:-1]) / 2
    values[:, 1:-1] = scale * np.exp(-0.5 * ((centres - shape) / 0.4) ** 2)
    if kind == "data":
        values = np.floor(values)
    return Template(kind, "fiducial", EDGES, OMEGA, values, values.copy())


@pytest.fixture
def templates():
    electron = one_template("electron", 0.3, 40.0)
    proton = one_template("proton", -2.0, 300.0)
    both = electron.values + proton.values
    data = Template("data", "fiducial", EDGES, OMEGA, np.floor(both), np.floor(both))
    return data, electron, proton


SCORE = {"electron_scale": 1.0, "proton_scale": 1.0, "cut": -0.9, "control": (-2.0, -1.3)}


def test_score_overview(templates, tmp_path, drawn):
    paths = plots.plot_score_overview(*templates, tmp_path / "s", **SCORE, synthetic=True)
    check(paths, drawn[0], synthetic=True)
    assert len(drawn[0].axes) == 6
    words = texts(drawn[0])
    for word in ("data", "electrons (MC)", "protons (MC, scaled)", "sum of MC", "control region"):
        assert word in words
    assert "cut, Ω ≥ −0.9" in words
    assert "fiducial, 25.0–50.0 GeV" in words
    assert "100–200 GeV" in words
    main = drawn[0].axes[0]
    assert main.get_yscale() == "log"


def test_score_points_are_the_counts_with_garwood_errors(templates, tmp_path, drawn):
    data, electron, proton = templates
    data.values[1] = data.variances[1] = 0.0
    data.values[1, 1:3] = data.variances[1, 1:3] = [1.0, 3.0]  # merged two by two: 4 counts
    options = SCORE | {"electron_scale": [1.0, 2.0, 1.0], "proton_scale": [1.0, np.nan, 1.0]}
    plots.plot_score_overview(
        data, electron, proton, tmp_path / "s", **options, synthetic=True, bins=[1]
    )
    main, ratio = drawn[0].axes
    _, y, low, high = bars(main)
    assert y[0] == 4.0
    assert np.isnan(y[1:]).all()
    assert low[0] == pytest.approx(4 - 1.9143, abs=2e-4)  # Garwood, as in the tables
    assert high[0] == pytest.approx(4 + 3.1628, abs=2e-4)
    expected = 2.0 * electron.values[1, 1:3].sum()  # protons: no scale, not drawn
    assert bars(ratio)[1][0] == pytest.approx(4.0 / expected)


def test_data_out_of_range_is_told(templates, tmp_path, drawn):
    data, electron, proton = templates
    data.values[0, 0], data.values[0, -1] = 3.0, 4.0
    plots.plot_score_overview(
        data, electron, proton, tmp_path / "s", **SCORE, synthetic=True, bins=[0]
    )
    assert "data beyond the axis: 7" in texts(drawn[0])


def test_score_bins_are_one_file_each(templates, tmp_path, drawn):
    paths = plots.plot_score_bins(*templates, tmp_path / "bins", **SCORE, synthetic=False)
    assert [p.name for p in paths] == [
        f"bin_0{i}_{name}_gev.{suffix}"
        for i, name in enumerate(["25_50", "50_100", "100_200"])
        for suffix in ("png", "pdf")
    ]
    check(paths[:2], drawn[0], synthetic=False)


def test_at_most_nine_bins_in_the_overview():
    values = np.ones((20, OMEGA.size + 1))
    values[0] = values[7] = 0.0
    data = Template("data", "fiducial", np.geomspace(25, 1000, 21), OMEGA, values, values)
    assert scores._chosen(data, None, most=9) == [1, 3, 5, 8, 10, 13, 15, 17, 19]
    assert len(scores._chosen(data, None, most=None)) == 18


@pytest.mark.parametrize(("n", "factor"), [(60, 1), (1200, 20), (64, 1), (65, 5), (127, 127)])
def test_merging_cuts_no_bin_off(n, factor):
    assert merge_factor(n) == factor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bins": []}, "no energy bins were asked for"),
        ({"bins": [7]}, "no energy bin 7: bins are numbered 0 to 2"),
        ({"electron_scale": [1.0, 2.0]}, r"electron scale has shape \(2,\): give one number"),
        ({"proton_scale": np.ones((3, 1))}, r"proton scale has shape \(3, 1\)"),
    ],
)
def test_bad_score_options(templates, tmp_path, change, message):
    with pytest.raises(PlotError, match=message):
        plots.plot_score_overview(*templates, tmp_path / "s", **(SCORE | change), synthetic=True)
    assert not list(tmp_path.iterdir())


def test_bad_score_templates(templates, tmp_path):
    data, electron, proton = templates
    other = replace(proton, omega_edges=OMEGA + 0.1)
    with pytest.raises(HistogramMismatchError, match="omega_edges of 'proton' and 'data' differ"):
        plots.plot_score_overview(data, electron, other, tmp_path / "s", **SCORE, synthetic=True)
    empty = replace(data, values=0 * data.values, variances=0 * data.values)
    with pytest.raises(PlotError, match="no energy bin has data in region 'fiducial'"):
        plots.plot_score_overview(empty, electron, proton, tmp_path / "s", **SCORE, synthetic=True)
    # asked for by number, an empty bin is drawn empty
    plots.plot_score_overview(
        empty, electron, proton, tmp_path / "e", **SCORE, synthetic=True, bins=[0]
    )


def test_existing_figure_is_kept(templates, tmp_path):
    (tmp_path / "s.pdf").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"s\.pdf exists"):
        plots.plot_score_overview(*templates, tmp_path / "s", **SCORE, synthetic=True)
    assert (tmp_path / "s.pdf").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1
    plots.plot_score_overview(
        *templates, tmp_path / "s", **SCORE, synthetic=True, bins=[0], overwrite=True
    )
    assert (tmp_path / "s.pdf").read_bytes() != b"mine"


def test_failed_write_leaves_nothing(templates, tmp_path, monkeypatch):
    write = Figure.savefig

    def second_fails(self, path, **kwargs):
        if kwargs["format"] == "pdf":
            msg = "no space left"
            raise OSError(msg)
        write(self, path, **kwargs)

    monkeypatch.setattr(Figure, "savefig", second_fails)
    with pytest.raises(OSError, match="no space"):
        plots.plot_score_overview(*templates, tmp_path / "s", **SCORE, synthetic=True, bins=[0])
    assert not list(tmp_path.iterdir())


def test_figures_repeat_to_the_byte(templates, tmp_path):
    one = plots.plot_score_overview(*templates, tmp_path / "a", **SCORE, synthetic=True, bins=[0])
    two = plots.plot_score_overview(*templates, tmp_path / "b", **SCORE, synthetic=True, bins=[0])
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


def test_efficiency_and_background(templates, tmp_path, drawn):
    data, electron, proton = templates
    efficiency = signal_efficiency(electron, -0.9)
    background = proton_background(data, proton, -0.9, (-2.0, -1.3))
    background = replace(
        background,
        fraction=np.array([0.1, 0.0, np.nan]),
        fraction_error=np.array([0.02, 0.04, np.nan]),
        mc_limited=np.array([False, True, False]),
        success=np.array([True, True, False]),
    )
    paths = plots.plot_efficiency_and_background(
        efficiency, background, tmp_path / "e", synthetic=True, title="fiducial"
    )
    check(paths, drawn[0], synthetic=True)
    top, bottom = drawn[0].axes
    x, y, low, high = bars(top)
    assert np.allclose(x, np.sqrt(EDGES[1:] * EDGES[:-1]))
    assert np.allclose(y, efficiency.value)
    assert np.allclose(low, efficiency.lower)
    assert np.allclose(high, efficiency.upper)
    _, y, low, high = bars(bottom)
    assert (y.tolist(), low.tolist(), high.tolist()) == (
        [0.1],
        pytest.approx([0.08]),
        pytest.approx([0.12]),
    )
    _, y, *_ = bars(bottom, 1)
    assert y.tolist() == [0.04]
    assert "upper limit, no simulated proton above the cut" in texts(drawn[0])
    assert bottom.get_xlabel() == "Energy (GeV)"


def test_efficiency_and_background_of_other_bins(templates, tmp_path):
    data, electron, proton = templates
    efficiency = signal_efficiency(electron, -0.9)
    background = proton_background(data, proton, -0.9, (-2.0, -1.3))
    with pytest.raises(PlotError, match="different energy bins"):
        plots.plot_efficiency_and_background(
            efficiency, replace(background, e_min=EDGES[:-1] + 1), tmp_path / "e", synthetic=True
        )
    none = np.zeros(3, bool)
    with pytest.raises(PlotError, match="no energy bin of efficiency or background"):
        plots.plot_efficiency_and_background(
            replace(efficiency, success=none),
            replace(background, success=none),
            tmp_path / "e",
            synthetic=True,
        )


def some_acceptance():
    return Acceptance(
        e_min=EDGES[:-1],
        e_max=EDGES[1:],
        value=np.array([0.25, np.nan, 0.28]),
        error=np.array([0.01, np.nan, 0.02]),
        effective_counts=np.array([625.0, 0.0, 196.0]),
        success=np.array([True, False, True]),
    )


def test_acceptance(tmp_path, drawn):
    paths = plots.plot_acceptance({"electrons": some_acceptance()}, tmp_path / "a", synthetic=True)
    check(paths, drawn[0], synthetic=True)
    (ax,) = drawn[0].axes
    _, y, low, high = bars(ax)
    assert y.tolist() == [0.25, 0.28]
    assert np.allclose(low, [0.24, 0.26])
    assert np.allclose(high, [0.26, 0.30])
    assert [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1][
        -1
    ] == 0.2918
    assert ax.get_ylabel() == "Acceptance (m² sr)"
    assert ax.get_xlabel() == "True energy (GeV)"
    with pytest.raises(PlotError, match="no acceptance was given"):
        plots.plot_acceptance({}, tmp_path / "b", synthetic=True)
    with pytest.raises(PlotError, match="error bars must not be negative"):
        plots.plot_acceptance(
            {"x": replace(some_acceptance(), error=-np.ones(3))}, tmp_path / "b", synthetic=True
        )
    assert not (tmp_path / "b.png").exists()


def a_cutflow():
    h = hist.Hist(
        hist.axis.StrCategory(["data", "electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.StrCategory(["trigger", "track"], name="cut"),
        hist.axis.StrCategory(["evaluated", "passed", "cumulative", "n_minus_1"], name="stat"),
        hist.axis.Variable(EDGES, name="energy", label="Energy (GeV)"),
        storage=hist.storage.Weight(),
    )
    # 100 events: 80 pass the trigger, 50 the track, 40 both
    numbers = {"trigger": (100, 80, 80, 50), "track": (100, 50, 40, 80)}
    for cut, counts in numbers.items():
        for stat, n in zip(h.axes["stat"], counts, strict=True):
            h.fill(kind="data", region="fiducial", cut=cut, stat=stat, energy=np.full(n, 60.0))
    return h


def test_cut_flow(tmp_path, drawn):
    paths = plots.plot_cut_flow(
        a_cutflow(), tmp_path / "c", kind="data", region="fiducial", synthetic=True
    )
    check(paths, drawn[0], synthetic=True)
    left, right = drawn[0].axes
    assert [bars(left, i)[1].tolist() for i in (0, 1)] == [[0.8], [0.4]]
    assert [bars(right, i)[1].tolist() for i in (0, 1)] == [[0.8], [0.5]]
    _, _, low, high = bars(right, 0)  # 40 of 50, Clopper-Pearson at 68.27 %
    assert low[0] == pytest.approx(0.7253, abs=2e-3)
    assert high[0] == pytest.approx(0.8602, abs=2e-3)
    assert {"trigger", "track", "data, fiducial"} <= set(texts(drawn[0]))
    with pytest.raises(PlotError, match="no energy bin of proton, fiducial has a value"):
        plots.plot_cut_flow(
            a_cutflow(), tmp_path / "d", kind="proton", region="fiducial", synthetic=True
        )
    with pytest.raises(HistogramMismatchError, match="has no kind 'muon'"):
        plots.plot_cut_flow(
            a_cutflow(), tmp_path / "d", kind="muon", region="fiducial", synthetic=True
        )


def a_table(**options):
    inputs = {
        "n_data": [400.0, 100.0, 0.0],
        "background_fraction": [0.02, 0.1, np.nan],
        "background_fraction_err": [0.005, 0.02, np.nan],
        "efficiency": 0.9,
        "efficiency_err": 0.01,
        "acceptance": 0.3,
        "acceptance_err": 0.01,
        "livetime_s": 1e6,
        "e_min": [100.0, 200.0, 400.0],
        "e_max": [200.0, 400.0, 800.0],
    }
    return flux(**(inputs | options))


def test_flux(tmp_path, drawn):
    table = a_table().with_systematic("energy", [1e-8, 1e-9, 0.0], [2e-8, 2e-9, 0.0])
    e = np.geomspace(50, 1000, 50)
    comparison = compare_to_spectrum(table, table.dnde * 0.8 + 1e-12, e_max_gev=400.0)
    paths = plots.plot_flux(
        table, tmp_path / "f", synthetic=True, curve=(e, 1e2 * e**-3.0), comparison=comparison
    )
    check(paths, drawn[0], synthetic=True)
    main, below = drawn[0].axes
    assert main.get_ylabel() == "E³ dN/dE (GeV² m⁻² s⁻¹ sr⁻¹)"
    assert below.get_xlabel() == "Energy (GeV)"
    words = texts(drawn[0])
    for word in (
        "this analysis",
        "injected",
        "systematic errors",
        "upper limit, 95 % CL",
        "DAMPE 2017",
        "CALET 2023",
        "AMS-02 2021",
        "Fermi-LAT 2017 (he)",
        "H.E.S.S. 2008",
        "H.E.S.S. 2009",
        "VERITAS 2018",
        f"χ²/dof = {comparison.chi2:.1f}/2",
        "Ratio to\ninjected",
    ):
        assert word in words
    # the seven published spectra are drawn first, then the table, then its limit
    spectrum = load("dampe_2017_electron_positron")
    x, y, low, high = bars(main, 0)
    down, up = spectrum.total_error()
    assert np.allclose(y, x**3 * spectrum.dnde)
    assert np.allclose(low, x**3 * (spectrum.dnde - down))
    assert np.allclose(high, x**3 * (spectrum.dnde + up))
    x, y, low, high = bars(main, 7)
    weight = table.e_ref[:2] ** 3
    assert np.allclose(x, table.e_ref[:2])
    assert np.allclose(y, weight * table.dnde[:2])
    assert np.allclose(low, weight * (table.dnde - table.dnde_errn)[:2])
    assert np.allclose(high, weight * (table.dnde + table.dnde_errp)[:2])
    limit = [c for c in main.containers if isinstance(c, ErrorbarContainer)][8]
    assert limit[0].get_ydata()[0] == pytest.approx(table.e_ref[2] ** 3 * table.dnde_ul[2])
    assert limit.lines[1]  # arrow heads
    boxes = next(c for c in main.containers if not isinstance(c, ErrorbarContainer))
    down, up = table.total_systematic()
    assert [b.get_height() for b in boxes] == pytest.approx((weight * (down + up)[:2]).tolist())
    markers = {line.get_marker() for line in main.lines if line.get_marker() in set("os^Dv<>pXh")}
    assert len(markers) >= 8


def test_flux_alone(tmp_path, drawn):
    table = replace(
        a_table(
            n_data=[400.0, 100.0, 5.0],
            background_fraction=0.1,
            background_fraction_err=0.0,
            acceptance_err=0.0,
        ),
        meta={},
    )
    paths = plots.plot_flux(table, tmp_path / "f", synthetic=False, published=[])
    check(paths, drawn[0], synthetic=False)
    assert len(drawn[0].axes) == 1
    assert not {"systematic errors", "injected"} & set(texts(drawn[0]))
    limited = replace(a_table(), meta={})
    plots.plot_flux(limited, tmp_path / "g", synthetic=False, published=[])
    assert "upper limit, see table" in texts(drawn[1])


def test_limits_far_above_the_points_are_marked_on_the_frame(tmp_path, drawn):
    table = a_table(n_data=[400.0, 100.0, 0.0])
    far = replace(table, dnde_ul=table.dnde_ul * [1, 1, 1e4])
    plots.plot_flux(far, tmp_path / "f", synthetic=True, published=[])
    (ax,) = drawn[0].axes
    assert ax.get_ylim()[1] < (far.e_ref**3 * far.dnde_ul)[2]
    (marker,) = [line for line in ax.lines if line.get_marker() == "^"]
    assert marker.get_xdata().tolist() == [far.e_ref[2]]
    nothing = a_table(n_data=0.0)
    plots.plot_flux(nothing, tmp_path / "g", synthetic=True, published=[])
    low, high = drawn[1].axes[0].get_ylim()
    assert ((nothing.e_ref**3 * nothing.dnde_ul > low) & (nothing.dnde_ul < high)).all()


def test_bad_flux(tmp_path):
    with pytest.raises(PlotError, match="no bin of the flux table has success"):
        plots.plot_flux(a_table(efficiency=np.nan), tmp_path / "f", synthetic=True)
    with pytest.raises(PlotError, match=r"\(3,\) energies and \(2,\) fluxes"):
        plots.plot_flux(
            a_table(), tmp_path / "f", synthetic=True, published=[], curve=([1, 2, 3], [1, 2])
        )
    assert not list(tmp_path.iterdir())


U = (np.arange(22) - 10.5) * 27.5
Z = 58.5 + 29.0 * np.arange(14)
EVENT = {"bar_u_mm": U, "layer_z_mm": Z, "e_corr_gev": 1634.2, "zeta": 3.214}


def test_event_display(tmp_path, drawn):
    image = np.zeros((14, 22))
    image[3, 5], image[5, 6], image[4, 20] = 100.0, 2000.0, 30.0
    paths = plots.plot_event(
        image,
        tmp_path / "e",
        **EVENT,
        slope=(0.1, 0.0),
        intercept_mm=(-20.0, 0.0),
        synthetic=True,
        title="event 7",
    )
    check(paths, drawn[0], synthetic=True)
    left, right, bar = drawn[0].axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("x (mm)", "y (mm)")
    assert bar.get_ylabel() == "Energy in the bar (MeV)"
    # odd layers 3 and 5 in x, even layer 4 in y, at their true places
    fired = left.collections[1]
    assert fired.get_array().tolist() == [100.0, 2000.0]
    boxes = [path.get_extents() for path in fired.get_paths()]
    assert [(b.x0 + b.x1) / 2 for b in boxes] == pytest.approx([U[5], U[6]])
    assert [(b.y0 + b.y1) / 2 for b in boxes] == pytest.approx([Z[3], Z[5]])
    assert boxes[0].width == pytest.approx(25.0)
    assert right.collections[1].get_array().tolist() == [30.0]
    assert len(left.collections[0].get_paths()) == 7 * 22
    (axis,) = left.lines
    assert np.allclose(axis.get_xdata(), -20.0 + 0.1 * axis.get_ydata())
    low, high = left.get_ylim()
    assert low > high  # z grows downwards
    words = texts(drawn[0])
    assert "event 7, E$_{corr}$ = 1634 GeV, ζ = 3.21" in words
    assert "no axis in y" in words
    assert "line: reconstructed axis" in words


def test_event_display_without_label(tmp_path, drawn):
    paths = plots.plot_event(
        np.ones((14, 22)),
        tmp_path / "e",
        **EVENT,
        slope=(0.0, 0.2),
        intercept_mm=(0.0, 3.0),
        synthetic=False,
    )
    check(paths, drawn[0], synthetic=False)
    assert "no axis in x" in texts(drawn[0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((22, 14)), r"got \(22, 14\)"),
        (np.full((14, 22), np.nan), "finite and not negative"),
        (np.full((14, 22), -999.0), "finite and not negative"),
        (np.zeros((14, 22)), "no bar of the event has energy"),
    ],
)
def test_bad_event(tmp_path, image, message):
    with pytest.raises(PlotError, match=message):
        plots.plot_event(
            image, tmp_path / "e", **EVENT, slope=(0, 0), intercept_mm=(0, 0), synthetic=True
        )


def a_control(*, underflow=True, label="sum of layer RMS (mm)"):
    h = hist.Hist(
        hist.axis.StrCategory(["data", "electron", "proton"], name="kind"),
        hist.axis.StrCategory(["fiducial", "topfiducial"], name="region"),
        hist.axis.Variable(EDGES, name="energy", label="Energy (GeV)"),
        hist.axis.Regular(10, 0, 1000, name="value", label=label, underflow=underflow),
        storage=hist.storage.Weight(),
    )
    at = {"region": "fiducial", "energy": [30.0, 30.0, 60.0]}
    h.fill(kind="data", value=[350.0, 350.0, 1500.0], **at)
    h.fill(kind="electron", value=[350.0] * 3, weight=0.5, **at)
    h.fill(kind="proton", value=[750.0] * 3, weight=0.25, **at)
    return h


CONTROL = {"region": "fiducial", "electron_scale": 2.0, "proton_scale": [4.0, np.nan, 1.0]}


@pytest.mark.parametrize("underflow", [True, False])
def test_control(tmp_path, drawn, underflow):
    paths = plots.plot_control(
        a_control(underflow=underflow),
        tmp_path / "c",
        **CONTROL,
        synthetic=True,
        ranges_gev=[(25.0, 100.0)],
    )
    check(paths, drawn[0], synthetic=True)
    main, ratio = drawn[0].axes
    assert ratio.get_xlabel() == "sum of layer RMS (mm)"
    assert np.nanmax(bars(main)[1]) == 2.0
    assert np.nanmax(bars(ratio)[1]) == pytest.approx(2.0 / 3.0)  # electrons: 3 events, 0.5 * 2
    assert "data beyond the axis: 1" in texts(drawn[0])
    assert "fiducial, 25.0–100.0 GeV" in texts(drawn[0])


def test_control_default_ranges_and_bad_input(tmp_path, drawn):
    plots.plot_control(a_control(label=""), tmp_path / "c", **CONTROL, synthetic=False)
    assert len(drawn[0].axes) == 4  # two energy bins with data
    assert drawn[0].axes[1].get_xlabel() == "value"
    with pytest.raises(PlotError, match="no energy bin lies between 30"):
        plots.plot_control(
            a_control(), tmp_path / "d", **CONTROL, synthetic=True, ranges_gev=[(30.0, 40.0)]
        )
    with pytest.raises(PlotError, match="'control' has no data in region 'topfiducial'"):
        plots.plot_control(
            a_control(), tmp_path / "d", **(CONTROL | {"region": "topfiducial"}), synthetic=True
        )


def test_only_this_package_imports_matplotlib():
    root = Path(plots.__file__).parents[1]
    users = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if "import matplotlib" in (text := path.read_text()) or "from matplotlib" in text
    }
    assert users == {"plots"}
