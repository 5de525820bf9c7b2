"""Figures of classifiers show the numbers that they are given, and refuse what cannot be drawn."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis.plots import PlotError
from analysis.plots.classifiers import (
    Curve,
    draw_training,
    plot_auc,
    plot_comparison,
    plot_rejection,
    plot_roc,
    score_style,
    score_text,
)
from analysis.plots.networks import (
    Distribution,
    EnergyCurve,
    plot_attention,
    plot_distributions,
    plot_efficiencies,
    plot_energy_quality,
)
from analysis.plots.style import SYNTHETIC_LABEL, grid

E = np.array([20.0, 100.0, 1000.0, 10_000.0])


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


def check(paths, figure, *, synthetic=True):
    assert [p.suffix for p in paths] == [".png", ".pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert (SYNTHETIC_LABEL in texts(figure)) is synthetic


def curve(value, lower=None, upper=None):
    v = np.array(value, float)
    low = 0.9 * v if lower is None else np.array(lower, float)
    high = 1.1 * v if upper is None else np.array(upper, float)
    return Curve(E[:-1], E[1:], v, low, high)


def test_training_curves_share_a_panel_by_quantity(tmp_path, drawn):
    history = {
        "epoch": [1, 2, 3],
        "train_loss": [0.3, 0.2, 0.1],
        "val_loss": [0.31, 0.22, 0.15],
        "validation_auc": [0.9, 0.95, np.nan],
        "lr": [1e-3, 1e-4, 1e-5],
    }
    paths = draw_training(history, "hamf, fiducial", tmp_path / "curves.png", best=2)
    check(paths, drawn[0])
    assert paths[0].name == "curves.png"
    loss, auc, rate = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation", "kept"]
    assert loss.lines[0].get_ydata().tolist() == history["train_loss"]
    assert loss.lines[1].get_ydata().tolist() == history["val_loss"]
    assert loss.lines[2].get_xdata()[0] == 2
    assert [a.get_ylabel() for a in (loss, auc, rate)] == ["Loss", "AUC", "Learning rate"]
    assert auc.lines[0].get_label() == "validation"
    assert rate.get_yscale() == "log"
    assert "hamf, fiducial" in texts(drawn[0])
    draw_training({"loss": [1.0]}, "again", tmp_path / "curves")  # replaced, as training goes on
    assert drawn[1].axes[0].lines[0].get_xdata().tolist() == [1]


def test_training_curves_that_cannot_be_drawn(tmp_path):
    with pytest.raises(PlotError, match="different shapes"):
        draw_training({"loss": [1.0, 2.0], "val_loss": [1.0]}, "", tmp_path / "x")
    for empty in ({}, {"epoch": [1.0]}, {"loss": []}):
        with pytest.raises(PlotError, match="no training curve"):
            draw_training(empty, "", tmp_path / "x")


def test_names_colours_and_pages():
    assert score_text("zeta") == "ζ"
    assert score_text("mine") == "mine"
    assert (
        len({score_style(n, i) for i, n in enumerate(("zeta", "dnn", "cnn", "hamf", "omega"))}) == 5
    )
    assert score_style("a", 0) != score_style("b", 1)
    assert [grid(n) for n in (1, 2, 3, 4, 5, 7)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]


def test_roc(tmp_path, drawn):
    eff = np.array([1.0, 0.9, 0.5])
    panels = {
        "0.1-1 TeV": {"zeta": (eff, [1.0, 1e-2, 1e-3]), "hamf": (eff, [1.0, 1e-4, 0.0])},
        "1-10 TeV": {"zeta": (eff, [1.0, 0.1, 0.01])},
    }
    paths = plot_roc(panels, tmp_path / "roc", synthetic=True, title="fiducial")
    check(paths, drawn[0])
    first = drawn[0].axes[0]
    assert first.lines[0].get_ydata() == pytest.approx([1.0, 100.0, 1000.0])
    assert first.lines[1].get_ydata() == pytest.approx([1.0, 1e4])  # ends where nothing is left
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["ζ", "HAMF"]
    with pytest.raises(FileExistsError):
        plot_roc(panels, tmp_path / "roc", synthetic=True)
    with pytest.raises(PlotError, match="both electrons and protons"):
        plot_roc({}, tmp_path / "none", synthetic=True)


def test_rejection_points_and_limits(tmp_path, drawn):
    zeta = curve([100.0, 200.0, np.nan])
    hamf = curve([1e4, np.inf, np.nan], [5e3, 2e4, np.nan], [2e4, np.inf, np.nan])
    paths = plot_rejection({0.9: {"zeta": zeta, "hamf": hamf}}, tmp_path / "r", synthetic=False)
    check(paths, drawn[0], synthetic=False)
    (ax,) = drawn[0].axes
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.lines[0] is not None]
    values = [c.lines[0].get_ydata().tolist() for c in bars]
    assert [100.0, 200.0] in values
    assert [1e4] in values
    assert "electron efficiency 90 %" in texts(drawn[0])
    low, high = ax.get_ylim()
    assert low < 0.6 * 90 + 1
    assert high > 2e4


def test_comparison_has_a_panel_for_each_quantity(tmp_path, drawn):
    c = {"zeta": curve([10.0, 20.0, 30.0]), "hamf": curve([0.0, 5.0, 6.0], [0, 4, 5], [2, 6, 7])}
    paths = plot_comparison(c, c, c, tmp_path / "a", efficiency=0.9, synthetic=True)
    check(paths, drawn[0])
    assert [a.get_ylabel() for a in drawn[0].axes] == [
        "1 − AUC",
        "Proton rejection at 90 %",
        "Background fraction at 90 %",
    ]
    plot_comparison(c, {}, c, tmp_path / "b", efficiency=0.95, synthetic=True)
    assert len(drawn[1].axes) == 2
    with pytest.raises(PlotError, match="no score"):
        plot_comparison({}, {}, {}, tmp_path / "c", efficiency=0.9, synthetic=True)


def test_auc_table(tmp_path, drawn):
    values = {
        "0.1-1 TeV": {"zeta": (0.99, 0.985, 0.994), "hamf": (1 - 2e-7, 1 - 3e-7, 1.0)},
        "1-10 TeV": {"zeta": (0.98, 0.97, 0.985), "hamf": (1.0, 1.0, 1.0)},
    }
    check(plot_auc(values, tmp_path / "auc", synthetic=True), drawn[0])
    words = texts(drawn[0])
    assert "0.990000   (−0.005000  +0.004000)" in words
    assert "1 − 2.0e-07   (−1.0e-07  +2.0e-07)" in words
    _, ax = drawn[0].axes
    assert ax.get_xlim()[0] == pytest.approx(0.2 * 2e-7, rel=1e-3)
    with pytest.raises(PlotError, match="no AUC"):
        plot_auc({}, tmp_path / "x", synthetic=True)


def test_attention(tmp_path, drawn):
    mean = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [np.nan] * 3])
    names = ("variables", "image", "stk")
    classes = {"electrons": (mean, 0.01 * mean), "protons": (mean, 0.01 * mean)}
    check(plot_attention(classes, E, names, tmp_path / "a", synthetic=True), drawn[0])
    first = drawn[0].axes[0].containers[0]
    assert first.lines[0].get_ydata().tolist() == [0.5, 0.4]
    with pytest.raises(PlotError, match=r"shape \(3, 2\)"):
        plot_attention(classes, E, names[:2], tmp_path / "b", synthetic=True)


def test_distributions_are_shares(tmp_path, drawn):
    def d(*counts):
        return Distribution(np.array(counts, float), np.array(counts, float))

    panels = {
        "0.1-1 TeV": {
            "electrons": d(0, 0, 1, 3),
            "protons": d(6, 2, 0, 0),
            "data": d(3, 0, 1, 1),
            "electrons, Geant4": d(0, 0, 0, 0),
        }
    }
    paths = plot_distributions(
        panels,
        np.linspace(-8, 8, 5),
        tmp_path / "s",
        label="Ω (logit)",
        synthetic=True,
        cuts={"0.1-1 TeV": 2.0},
        notes={"0.1-1 TeV": "χ²/ndf = 3/2"},
    )
    check(paths, drawn[0])
    (ax,) = drawn[0].axes
    fills = [p for p in ax.patches if p.get_fill()]
    assert fills[0].get_data().values.tolist() == [0.0, 0.0, 0.25, 0.75]
    assert fills[1].get_data().values.tolist() == [0.75, 0.25, 0.0, 0.0]
    (points,) = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert points.lines[0].get_ydata().tolist() == [0.6, 0.2, 0.2]
    assert points.lines[0].get_xdata().tolist() == [-6.0, 2.0, 6.0]
    assert ax.lines[-1].get_xdata()[0] == 2.0
    assert "χ²/ndf = 3/2" in texts(drawn[0])
    empty = {"x": {"electrons": d(0, 0, 0, 0)}}
    with pytest.raises(PlotError, match="no event has a score"):
        plot_distributions(empty, np.linspace(-8, 8, 5), tmp_path / "e", label="Ω", synthetic=True)


def test_efficiencies_of_two_samples(tmp_path, drawn):
    scores = {"zeta": ((0.9, 0.89, 0.91), (0.88, 0.85, 0.9)), "hamf": ((0.9,) * 3, (0.91,) * 3)}
    check(plot_efficiencies(scores, tmp_path / "e", label="Efficiency", synthetic=True), drawn[0])
    (ax,) = drawn[0].axes
    values = [float(c.lines[0].get_ydata()[0]) for c in ax.containers]
    assert values == [0.9, 0.88, 0.9, 0.91]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["ζ", "HAMF"]
    with pytest.raises(PlotError, match="no score"):
        plot_efficiencies({}, tmp_path / "x", label="", synthetic=True)


def test_energy_quality_in_percent(tmp_path, drawn):
    def quality(scale):
        v = scale * np.array([0.01, 0.02, np.nan])
        return EnergyCurve(E, -v, 0.1 * v, v, 0.1 * v, 2 * v, 0.1 * v)

    columns = {
        "True energy (GeV)": {"corrected energy": quality(2.0), "energy network": quality(1.0)},
        "Leakage": {"corrected energy": quality(2.0), "energy network": quality(1.0)},
    }
    paths = plot_energy_quality(
        columns, tmp_path / "q", synthetic=True, logarithmic=["True energy (GeV)"]
    )
    check(paths, drawn[0])
    assert len(drawn[0].axes) == 6
    bias, _, width = drawn[0].axes[:3]
    assert bias.containers[0].lines[0].get_ydata() == pytest.approx([-2.0, -4.0])
    assert bias.get_xscale() == "log"
    assert width.containers[1].lines[0].get_ydata() == pytest.approx([1.0, 2.0])
    assert width.get_ylim()[0] == 0.0
    with pytest.raises(PlotError, match="no energy estimate"):
        plot_energy_quality({"x": {}}, tmp_path / "n", synthetic=True)
