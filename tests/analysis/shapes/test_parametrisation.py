import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iminuit import Minuit
from scipy.interpolate import CubicSpline

from analysis.exceptions import FitNotConvergedError, HistogramMismatchError
from analysis.plots.shapes import plot_parameters, plot_shapes
from analysis.plots.style import PlotError
from analysis.shapes import fit as shapefit
from analysis.shapes.file import from_dict, read_parametrisation, to_dict, write_parametrisation
from analysis.shapes.fit import effective_counts, fit_shapes, merged_chi2
from analysis.shapes.forms import Form, cdf
from analysis.shapes.options import OPTIONS, Options, options_for, options_from
from analysis.shapes.parametrisation import bin_fits, parametrise
from analysis.shapes.smooth import ParametrisationError, log_tev, spline_matrix
from analysis.templates import Template

EDGES = np.geomspace(100.0, 10_000.0, 9)
OMEGA = np.linspace(-30.0, 20.0, 201)
MIDDLE = np.sqrt(EDGES[1:] * EDGES[:-1])
PLAIN = {
    "electron": Options(Form(), {"mu": 3}, 2),
    "proton": Options(Form(0, 1), {"mu": 3, "ln_d1_right": 1, "ln_lambda1_right": 1}, 2),
}


def truth(kind):
    """Shape parameters that the splines can follow exactly."""
    x = log_tev(MIDDLE)
    if kind == "electron":
        columns = [8.0 + x, 0.5 + 0.2 * x, 0.3 + 0 * x, 0.3 + 0 * x, 0.6 + 0 * x]
    else:
        columns = [-18.0 + 3.0 * x, 0 * x, 0.2 + 0 * x, 0.6 + 0 * x, 0.0 + 0 * x]
        columns += [np.log(3.0) + 0 * x, np.log(0.15) + 0 * x]
    return np.stack(columns, axis=1)


def drawn(kind, events, rng, weight=1.0):
    borders = np.concatenate([[-np.inf], OMEGA, [np.inf]])
    p = np.diff(cdf(PLAIN[kind].form, borders, truth(kind)), axis=1)
    counts = rng.poisson(np.broadcast_to(events, MIDDLE.shape)[:, None] * p).astype(float)
    return Template(kind, "fiducial", EDGES, OMEGA, counts * weight, counts * weight**2)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(7)
    templates = [drawn("electron", 20_000, rng, 0.01), drawn("proton", 5_000, rng, 3.0)]
    return templates, parametrise(*templates, PLAIN, score="omega", meta={"synthetic": True})


def test_spline_matrix_is_the_natural_spline():
    knots = np.array([-1.6, -1.0, -0.2, 0.4, 1.0])
    values = np.array([1.0, -2.0, 0.5, 3.0, 2.0])
    x = np.linspace(-1.6, 1.0, 40)
    expected = CubicSpline(knots, values, bc_type="natural")
    assert spline_matrix(knots, x) @ values == pytest.approx(expected(x))
    slope = expected(1.0, 1)
    assert spline_matrix(knots, [1.5]) @ values == pytest.approx([2.0 + 0.5 * slope])
    assert spline_matrix([0.0, 2.0], [1.0, 3.0]) @ [1.0, 5.0] == pytest.approx([3.0, 7.0])
    assert (spline_matrix([0.3], x) == 1.0).all()


def test_effective_counts_undo_the_weight():
    values = np.array([[0.0, 0.0, 6.0, 2.0, 0.0] + [0.0] * 40 + [1.0, 0.0]])
    variances = values * np.where(np.arange(47) < 20, 2.0, 0.5)
    part = Template("proton", "fiducial", EDGES[:2], np.arange(46.0), values, variances)
    counts = effective_counts(part)
    assert counts.n[0, [2, 3, 45]] == pytest.approx([3.0, 1.0, 2.0])
    # empty bins have the weight of what is nearest
    assert counts.scale[0, 0] == pytest.approx(2.0)
    assert counts.scale[0, 46] == pytest.approx(0.5)
    assert set(np.round(counts.scale[0], 9)) == {2.0, 0.5}
    empty = Template("proton", "fiducial", EDGES[:2], np.arange(46.0), 0 * values, 0 * values)
    assert effective_counts(empty).n.sum() == 0.0


def test_merged_chi2_by_hand():
    expected = np.array([1.0, 9.0, 4.0, 8.0, 3.0, 2.0])
    n = np.array([2.0, 9.0, 4.0, 6.0, 5.0, 1.0])
    # 1+9 | 4+8+3+2: a third bin would be left with less than 10
    chi2, bins, first = merged_chi2(n, expected)
    assert (bins, first) == (2, [0, 2])
    assert chi2 == pytest.approx(1.0 / 10 + 1.0 / 17)


def test_one_bin_against_minuit():
    part = drawn("electron", 100_000, np.random.default_rng(3), 0.5)
    counts = effective_counts(part).rows(np.array([2]))
    start = truth("electron")[2] + 0.1
    free = np.full(5, np.inf)
    fit = fit_shapes(counts, Form(), [np.ones((1, 1))] * 5, start, start, free)
    assert fit.converged

    def deviance(p):
        share = np.diff(cdf(Form(), counts.borders, p)[0])
        m = counts.n.sum() * share / share.sum()
        ratio = np.where(counts.n[0] > 0, counts.n[0], 1.0) / np.where(counts.n[0] > 0, m, 1.0)
        return 2 * np.sum(counts.n[0] * np.log(ratio))

    minuit = Minuit(deviance, start)
    minuit.errordef = 1.0
    minuit.migrad()
    minuit.hesse()
    assert minuit.valid
    assert fit.deviance[0] == pytest.approx(minuit.fval, abs=0.02)
    errors = np.sqrt(np.diag(fit.covariance))
    assert np.abs(fit.coefficients - np.array(minuit.values)).max() < 0.15 * errors.max()
    # expected against observed information: equal up to the fluctuation of the sample
    assert errors == pytest.approx(np.array(minuit.errors), rel=0.05)


def test_closure_gives_the_parameters_back(fitted):
    _, result = fitted
    for kind in PLAIN:
        smooth = result.smooth(kind)
        pulls = (smooth.parameters(MIDDLE) - truth(kind)) / smooth.errors(MIDDLE)
        assert np.abs(pulls).max() < 4.0
        good = smooth.goodness
        assert good.used.all()
        chi2, ndf = good.chi2.sum(), good.ndf.sum() - smooth.coefficients.size
        assert abs(chi2 - ndf) < 4 * np.sqrt(2 * ndf)


def test_pulls_of_the_coefficients_are_normal():
    rng = np.random.default_rng(11)
    target, pulls = truth("electron"), []
    for _ in range(25):
        parts = drawn("electron", 1_000, rng), drawn("proton", 300, rng, 2.0)
        smooth = parametrise(*parts, PLAIN, score="omega").smooth("electron")
        ends = [spline_matrix(k, log_tev(MIDDLE)) for k in smooth.knots]
        values = np.concatenate(
            [np.linalg.lstsq(m, target[:, i], rcond=None)[0] for i, m in enumerate(ends)]
        )
        pulls.append((smooth.coefficients - values) / np.sqrt(np.diag(smooth.covariance)))
    pulls = np.array(pulls)
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(25) + 0.1
    assert 0.75 < pulls.std() < 1.25


def test_wrong_form_enlarges_the_covariance(fitted):
    (electrons, protons), right = fitted
    # a tail without its break cannot describe the protons
    options = {**PLAIN, "proton": Options(Form(0, 0), {"mu": 3}, 2)}
    wrong = parametrise(electrons, protons, options, score="omega")
    assert right.smooth("proton").scale < 1.2
    assert wrong.smooth("proton").scale > 2.0
    assert wrong.smooth("electron").scale == right.smooth("electron").scale


def test_bin_with_few_events_is_left_out_and_said():
    rng = np.random.default_rng(5)
    events = np.array([5_000.0] * 6 + [10.0, 0.0])
    parts = drawn("electron", events, rng), drawn("proton", 2_000, rng)
    smooth = parametrise(*parts, PLAIN, score="omega").smooth("electron")
    assert smooth.goodness.used.tolist() == [True] * 6 + [False] * 2
    assert np.isnan(smooth.goodness.chi2[6:]).all()
    assert smooth.goodness.effective[7] == 0.0
    single, errors = bin_fits(parts[0], PLAIN["electron"])
    assert np.isfinite(single[:6]).all()
    assert np.isnan(single[6:]).all()
    assert np.isnan(errors[6:]).all()


def test_too_little_simulation_is_refused():
    rng = np.random.default_rng(5)
    events = np.array([5_000.0] + [0.0] * 7)
    with pytest.raises(ParametrisationError, match="electron template, fiducial: 1 energy bins"):
        parametrise(drawn("electron", events, rng), drawn("proton", 99, rng), PLAIN, score="omega")
    other = Template("proton", "fiducial", EDGES[1:], OMEGA, np.ones((7, 202)), np.ones((7, 202)))
    with pytest.raises(HistogramMismatchError, match="same energy bins"):
        parametrise(drawn("electron", 99, rng), other, PLAIN, score="omega")


def test_search_without_minimum(monkeypatch, fitted):
    monkeypatch.setattr(shapefit, "_MAX_ITERATIONS", 1)
    with pytest.raises(FitNotConvergedError, match="found no minimum") as caught:
        parametrise(*fitted[0], PLAIN, score="omega")
    assert caught.value.exit_code == 3


@settings(max_examples=20)
@given(st.floats(20.0, 20_000.0), st.sampled_from(["electron", "proton"]))
def test_cumulative_rises_from_0_to_1(fitted, energy, kind):
    x = np.concatenate([[-np.inf], np.linspace(-50, 40, 200), [np.inf]])
    f = fitted[1].cumulative(kind, [energy], x)[0]
    assert f[[0, -1]] == pytest.approx([0.0, 1.0], abs=1e-14)
    assert (np.diff(f) >= -1e-14).all()


def test_template_has_sum_one_with_its_flow_bins(fitted):
    narrow = np.linspace(-15.0, 9.0, 25)
    part = fitted[1].template("electron", EDGES, narrow)
    assert part.values.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-14)
    f = fitted[1].cumulative("electron", MIDDLE, [-15.0, 9.0])
    assert part.values[:, 0] == pytest.approx(f[:, 0])
    assert part.values[:, -1] == pytest.approx(1 - f[:, 1])
    assert not part.variances.any()


def test_variations_span_the_covariance(fitted):
    _, result = fitted
    smooth = result.smooth("proton")
    n = smooth.coefficients.size
    steps = [result.varied("proton", k).smooth("proton").coefficients for k in range(n)]
    steps = np.array(steps) - smooth.coefficients
    assert steps.T @ steps == pytest.approx(smooth.covariance, abs=1e-12)
    down = result.varied("proton", 1, -1.0).smooth("proton").coefficients
    assert smooth.coefficients - down == pytest.approx(steps[1], abs=1e-12)
    assert result.varied("proton", 0).smooth("electron") is result.smooth("electron")
    with pytest.raises(ParametrisationError, match=f"0 to {n - 1}"):
        result.varied("proton", n)
    with pytest.raises(ParametrisationError, match="no template of kind 'muon'"):
        result.cumulative("muon", MIDDLE, [0.0])


def test_draws_follow_the_covariance(fitted):
    _, result = fitted
    rng = np.random.default_rng(2)
    smooth = result.smooth("electron")
    sample = np.array([result.drawn(rng).smooth("electron").coefficients for _ in range(1500)])
    size = np.sqrt(np.diag(smooth.covariance))
    assert (sample.mean(axis=0) - smooth.coefficients) / size == pytest.approx(0, abs=0.1)
    correlation = (np.cov(sample.T) - smooth.covariance) / np.outer(size, size)
    assert np.abs(correlation).max() < 0.15


def test_json_is_exact_and_deterministic(tmp_path, fitted):
    _, result = fitted
    path = write_parametrisation(result, tmp_path / "a.json")
    again = read_parametrisation(path)
    for kind in PLAIN:
        one, two = result.smooth(kind), again.smooth(kind)
        assert (one.coefficients == two.coefficients).all()
        assert (one.covariance == two.covariance).all()
        assert one.knots == two.knots
        assert one.form == two.form
        assert one.scale == two.scale
        for name in ("effective", "chi2", "ndf", "used"):
            a, b = getattr(one.goodness, name), getattr(two.goodness, name)
            assert np.array_equal(a, b, equal_nan=name == "chi2")
    assert (
        again.cumulative("proton", MIDDLE, OMEGA) == result.cumulative("proton", MIDDLE, OMEGA)
    ).all()
    assert again.meta == {"synthetic": True}
    write_parametrisation(again, tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_parametrisation(result, path)
    assert json.loads(path.read_text("utf-8"))["schema"] == "cre-parametrisation/1"


def test_broken_files(tmp_path, fitted):
    path = tmp_path / "p.json"
    with pytest.raises(ParametrisationError, match="no such file"):
        read_parametrisation(path)
    path.write_text("{", "utf-8")
    with pytest.raises(ParametrisationError, match="not a JSON file"):
        read_parametrisation(path)
    path.write_text('{"schema": "cre-flux/1"}', "utf-8")
    with pytest.raises(ParametrisationError, match="schema 'cre-flux/1'"):
        read_parametrisation(path)
    whole = to_dict(fitted[1])

    def broken(change):
        content = json.loads(json.dumps(whole))
        change(content)
        return content

    cases = {
        "no entry 'score'": lambda c: c.pop("score"),
        "kinds electron and proton": lambda c: c["kinds"].pop("proton"),
        "parameters mu": lambda c: c["kinds"]["proton"]["parameters"].pop("ln_k_left"),
        "another number of values": lambda c: c["kinds"]["proton"]["parameters"]["mu"][
            "values"
        ].pop(),
        "malformed": lambda c: c["kinds"]["proton"]["covariance_lower"].pop(),
        "not finite": lambda c: c["kinds"]["proton"]["parameters"]["mu"].update(
            values=[float("nan")] * 3
        ),
        "one entry per energy bin": lambda c: c["kinds"]["proton"]["goodness"]["used"].pop(),
        "schema 'list'": None,
    }
    for message, change in cases.items():
        content = broken(change) if change else []
        with pytest.raises(ParametrisationError, match=message):
            from_dict(content)


def test_options_from_plain_types():
    assert options_for("zeta") is OPTIONS["zeta"]
    assert options_for("hamf") is OPTIONS["logit"]
    got = options_from(
        {"proton": {"right_breaks": 1, "knots": {"mu": [100, 1000]}, "default_knots": 2}},
        OPTIONS["logit"],
    )
    assert got["proton"].form == Form(0, 1)
    assert got["proton"].knots == {"mu": (100.0, 1000.0)}
    assert got["electron"] == OPTIONS["logit"]["electron"]
    # another form without knots: those of the default may name what it does not have
    assert options_from({"electron": {"left_breaks": 0}}, OPTIONS["logit"])["electron"].knots == {}
    for bad, message in (
        ([1], "entries electron, proton"),
        ({"muon": {}}, "entries electron, proton"),
        ({"proton": {"knots": {"sigma": 3}}}, "no parameter 'sigma'"),
        ({"proton": {"colour": 1}}, "options of proton"),
        ({"proton": {"constraint": "wide"}}, "options of proton"),
    ):
        with pytest.raises(ParametrisationError, match=message):
            options_from(bad, OPTIONS["logit"])


def test_bad_knots(fitted):
    for knots, message in ((0, "at least one knot"), ((500.0, 200.0), "ascending energies")):
        options = {**PLAIN, "electron": Options(Form(), {"mu": knots}, 2)}
        with pytest.raises(ParametrisationError, match=message):
            parametrise(*fitted[0], options, score="omega")


def test_figures(tmp_path, fitted):
    (electrons, protons), result = fitted
    single = bin_fits(electrons, PLAIN["electron"])
    used = result.smooth("proton").goodness.used
    used[1:] = False  # one panel: pages of nine take seconds
    paths = plot_shapes(protons, result, tmp_path / "p", synthetic=True, cut=5.0)
    paths += plot_parameters(electrons, result, single, tmp_path / "e", synthetic=True)
    assert [p.name for p in paths] == ["p.png", "p.pdf", "e.png", "e.pdf"]
    assert all(p.stat().st_size > 5_000 for p in paths)
    used[:] = False
    try:
        with pytest.raises(PlotError, match="nothing to draw"):
            plot_shapes(protons, result, tmp_path / "n", synthetic=True)
    finally:
        used[:] = True
