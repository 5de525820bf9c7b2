"""Fits of omega against closed forms: Gaussian logits, where everything is known."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxmodels import image_sum, linear

from models import combination as c
from models import likelihood, scored
from models.scored import Scored
from processors.bundle import read_bundle
from processors.chain import make_cut
from processors.exceptions import ModelError
from processors.modelset import Models, load_models
from processors.omega import combine
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
#: Electrons at MEAN, protons at -MEAN, the same covariance: ln(p_e/p_p) = 2 x^T COVARIANCE^-1 MEAN.
MEAN = np.array([1.5, 1.0])
COVARIANCE = np.array([[2.0, 0.8], [0.8, 1.5]])
DIRECTION = 2 * np.linalg.solve(COVARIANCE, MEAN)


def gaussian(n: int, seed: int = 1, *, importance: bool = False) -> Scored:
    """Two Gaussian logits at 20 to 2000 GeV; with importance, protons are drawn wider and weighted."""
    rng = np.random.default_rng(seed)
    electron = np.arange(n) % 2 == 0
    root = np.linalg.cholesky(COVARIANCE)
    unit = rng.normal(size=(n, 2))
    weight = np.where(electron, 3.0, 0.5)
    if importance:
        wide = 1.5
        unit[~electron] *= wide
        ratio = wide**2 * np.exp(-0.5 * (unit**2).sum(axis=1) * (1 - 1 / wide**2))
        weight[~electron] *= ratio[~electron]
    x = np.where(electron, 1.0, -1.0)[:, None] * MEAN + unit @ root.T
    # electrons and protons with very different spectra: the balance must undo that
    e_corr = 20 * 100 ** np.where(electron, rng.random(n) ** 2, np.sqrt(rng.random(n)))
    return Scored({"a": x[:, 0], "b": x[:, 1]}, e_corr, electron, weight)


@pytest.mark.parametrize("importance", [False, True])
def test_logistic_finds_the_linear_discriminant(importance: bool) -> None:
    fit = c.fit_logistic(gaussian(200_000, importance=importance), (200.0,), ridge=0.0)
    # asymptotic error of a logistic weight here is about sqrt(10/n) = 0.007, more with weights
    assert fit.weights["a"][0] == pytest.approx(DIRECTION[0], abs=0.05)
    assert fit.weights["b"][0] == pytest.approx(DIRECTION[1], abs=0.05)
    assert fit.bias[0] == pytest.approx(0.0, abs=0.05)


def test_logistic_follows_the_energy() -> None:
    """Logits scaled by a factor linear in log E: the product of weight and factor is the constant."""
    sample = gaussian(200_000)
    factor = 0.5 + (np.log10(sample.e_corr) - np.log10(20)) / 2  # 0.5 to 1.5
    moved = Scored(
        {"a": sample.logits["a"] / factor, "b": sample.logits["b"]},
        sample.e_corr,
        sample.electron,
        sample.weight,
    )
    fit = c.fit_logistic(moved, (20.0, 200.0, 2000.0), ridge=0.0)
    np.testing.assert_allclose(
        fit.weights["a"], DIRECTION[0] * np.array([0.5, 1.0, 1.5]), atol=0.12
    )
    np.testing.assert_allclose(fit.weights["b"], DIRECTION[1], atol=0.12)


def test_the_ridge_decides_where_the_sample_does_not() -> None:
    separated = gaussian(2000)
    shift = np.where(separated.electron, 30.0, -30.0)
    logits = {"a": separated.logits["a"] + shift, "b": separated.logits["b"] + shift}
    sample = Scored(logits, separated.e_corr, separated.electron, separated.weight)
    fit = c.fit_logistic(sample, (200.0,))
    assert all(0.05 < fit.weights[n][0] < 1.0 for n in "ab")
    # two copies of one logit share its weight
    twin = gaussian(50_000)
    double = Scored(
        {"a": twin.logits["a"], "b": twin.logits["a"]}, twin.e_corr, twin.electron, twin.weight
    )
    fit = c.fit_logistic(double, (200.0,), ridge=1e-4)
    assert fit.weights["a"][0] == pytest.approx(fit.weights["b"][0], abs=1e-6)
    assert 2 * fit.weights["a"][0] == pytest.approx(2 * MEAN[0] / COVARIANCE[0, 0], abs=0.06)


def test_standardised_finds_peak_and_width() -> None:
    sample = gaussian(400_000, importance=True)
    fit = c.fit_standardised(sample)
    assert all(20 < e < 2600 for e in fit.energies_gev)
    assert len(fit.energies_gev) >= 9
    for i, name in enumerate("ab"):
        np.testing.assert_allclose(fit.peak[name], MEAN[i], atol=0.12)
        np.testing.assert_allclose(fit.width[name], math.sqrt(COVARIANCE[i, i]), rtol=0.08)
    with pytest.raises(ModelError, match="too small: no energy has 200"):
        c.fit_standardised(gaussian(300))


@pytest.mark.parametrize("importance", [False, True])
def test_likelihood_ratio_approaches_the_analytic_one(importance: bool) -> None:
    fit = likelihood.fit_likelihood_ratio(
        gaussian(400_000, importance=importance), "a", "b", (200.0,)
    )
    x, y = np.meshgrid(fit.x_nodes[0], fit.y_nodes[0], indexing="ij")
    truth = DIRECTION[0] * x + DIRECTION[1] * y
    grid = np.array(fit.grids[0])
    assert (np.diff(grid, axis=0) >= 0).all()
    assert (np.diff(grid, axis=1) >= 0).all()
    # where the two kinds overlap: distance from the middle in standard deviations of one kind
    points = np.stack([x.ravel(), y.ravel()])
    distance = np.sqrt((points * np.linalg.solve(COVARIANCE, points)).sum(axis=0)).reshape(x.shape)
    for radius, bias, spread in ((1.0, 0.02, 0.06), (1.7, 0.1, 0.25)):
        error = (grid - truth)[distance < radius]
        assert abs(error.mean()) < bias
        assert error.std() < spread
    # everywhere: as good as the best possible separation, to a per mille
    test = gaussian(100_000, seed=9)
    omega = fit(test.logits, test.e_corr)
    best = DIRECTION[0] * test.logits["a"] + DIRECTION[1] * test.logits["b"]
    reached, possible = (c.auc(s, test.electron, test.balanced()) for s in (omega, best))
    assert reached > possible - 1e-3


def test_monotone_envelope() -> None:
    table = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(likelihood._monotone(table), table)
    holes = np.array([[np.nan, 1.0, 2.0], [0.5, np.nan, 1.0], [1.0, 2.0, np.nan]])
    out = likelihood._monotone(holes)
    assert out[2, 2] == 2.0
    assert out[0, 0] == 0.5
    assert out[0, 2] == out[1, 2] == 1.5  # 2 above 1 is levelled
    assert (np.diff(out, axis=0) >= 0).all()
    assert (np.diff(out, axis=1) >= 0).all()


def test_shares_and_nodes() -> None:
    share = scored.shares(np.array([10.0, 100.0, 10**2.5, 1e4]), (100.0, 1000.0))
    np.testing.assert_allclose(share, [[1, 0], [1, 0], [0.5, 0.5], [0, 1]])
    sample = gaussian(20_000)
    assert scored.useful_nodes(sample, (1.0, 30.0, 300.0, 1500.0, 1e5)) == (30.0, 300.0, 1500.0)
    with pytest.raises(ModelError, match="fewer than 200 effective"):
        scored.useful_nodes(gaussian(500), (100.0,))
    weights = sample.balanced()
    assert weights[sample.electron].sum() == pytest.approx(0.5)
    log_e = np.log10(sample.e_corr)
    for kind in (True, False):
        flat, _ = np.histogram(
            log_e[sample.electron == kind], bins=4, weights=weights[sample.electron == kind]
        )
        np.testing.assert_allclose(flat, 0.125, rtol=0.1)
    only = Scored(sample.logits, sample.e_corr, np.ones(20_000, bool), sample.weight)
    with pytest.raises(ModelError, match="both electrons and protons"):
        only.balanced()
    with pytest.raises(ModelError, match="no selected event"):
        Scored({"a": np.zeros(0)}, np.zeros(0), np.zeros(0, bool), np.zeros(0)).balanced()


def toy_models(folder: Path) -> Models:
    low = linear(folder / "low.onnx", {"rms_4": -0.1}, 2.0, content={"energy_range_gev": [20, 600]})
    high = linear(
        folder / "high.onnx", {"rms_4": -0.1}, 2.0, content={"energy_range_gev": [600, 2500]}
    )
    total = image_sum(folder / "sum.onnx", 1e-3)
    sources = {"dnn": [(low, None), (high, None)], "cnn": [(total, None)]}
    return load_models({"fiducial": sources}, {}, scores=["dnn", "cnn"])


def test_from_files_to_parameters(make_ntuple: MakeNtuple, tmp_path: Path) -> None:
    models = toy_models(tmp_path)
    paths = [make_ntuple("electron", n=3000, seed=1), make_ntuple("proton", n=3000, seed=2)]
    cuts = [
        make_cut("trigger"),
        make_cut("energy_range", {"min_gev": 100, "max_gev": 4000}),
        make_cut("region"),
    ]
    target = {"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()}
    told: list[float] = []
    sample, synthetic = scored.score_sample(
        paths, "fiducial", models, cuts, target, advance=told.append
    )
    assert synthetic
    assert sum(told) == 6000
    assert sample.e_corr.max() < 2500
    assert 1000 < sample.electron.sum() < 3000
    # E^-1 generation: the rate falls as E times the flux
    e = sample.electron
    slope = np.polyfit(np.log(sample.e_corr[e]), np.log(sample.weight[e]), 1)[0]
    assert -2.5 < slope < -2.0
    nodes = scored.useful_nodes(sample, c.NODES_GEV, min_events=50)
    omega = c.fit_omega(
        sample, "fiducial", models, synthetic=synthetic, nodes_gev=nodes[:1], fit={"files": ["x"]}
    )
    assert list(omega.members) == ["dnn", "cnn"]
    assert omega.members["dnn"] == tuple(
        read_bundle(tmp_path / f"{n}.onnx").sha256 for n in ("low", "high")
    )
    assert omega.likelihood_ratio is not None
    assert omega.likelihood_ratio.networks == ("dnn", "cnn")
    table = c.areas(sample, omega)
    assert set(table) == {"dnn", "cnn", "logistic", "standardised", "likelihood_ratio"}
    assert math.isnan(table["dnn"][0])
    assert table["logistic"][1] > table["cnn"][1]
    assert type(omega).model_validate_json(omega.model_dump_json()) == omega
    values = combine(omega, "likelihood_ratio", sample.logits, sample.e_corr)
    assert np.isfinite(values).all()
    with pytest.raises(ModelError, match="must be two of the networks dnn, cnn"):
        c.fit_omega(sample, "fiducial", models, pair=("dnn", "hamf"), synthetic=True)
    bare: Any = make_ntuple("electron", record=False, name="bare.root")
    with pytest.raises(ModelError, match="does not say how many electrons"):
        scored.score_sample([bare], "fiducial", models, cuts, target)
