"""Omega by hand: interpolation in energy, each strategy, and what a parameter file may hold."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from processors import omega as o
from processors.exceptions import ModelError

HASHES = {"a": ("1" * 64,), "b": ("2" * 64, "3" * 64)}
ENERGY = np.array([10.0, 100.0, 10**2.5, 1000.0, 5000.0])


def parameters(**parts: Any) -> o.Omega:
    return o.Omega(region="fiducial", members=HASHES, synthetic=True, **parts)


def test_logistic_is_linear_in_log_energy() -> None:
    part = o.Logistic(
        energies_gev=(100, 1000), bias=(1, 3), weights={"a": (0.5, 1.0), "b": (2.0, 0.0)}
    )
    logits = {"a": np.full(5, 4.0), "b": np.arange(5.0)}
    # at 10 and 100 GeV: 1 + 0.5 * 4 + 2 b; half way: 2 + 0.75 * 4 + 1 b; from 1000 on: 3 + 4
    expected = [3.0 + 2 * 0, 3.0 + 2 * 1, 5.0 + 2, 7.0, 7.0]
    np.testing.assert_allclose(
        o.combine(parameters(logistic=part), "logistic", logits, ENERGY), expected
    )


def test_standardised_is_the_mean_of_pulls() -> None:
    part = o.Standardised(
        energies_gev=(100, 1000), peak={"a": (2, 4), "b": (0, 0)}, width={"a": (1, 3), "b": (2, 2)}
    )
    logits = {"a": np.full(5, 5.0), "b": np.full(5, 1.0)}
    expected = [
        (3 + 0.5) / 2,
        (3 + 0.5) / 2,
        (2 / 2 + 0.5) / 2,
        (1 / 3 + 0.5) / 2,
        (1 / 3 + 0.5) / 2,
    ]
    np.testing.assert_allclose(
        o.combine(parameters(standardised=part), "standardised", logits, ENERGY), expected
    )


def grid(**change: Any) -> o.LikelihoodRatio:
    options: dict[str, Any] = {
        "energies_gev": (100, 1000),
        "x": "a",
        "y": "b",
        "x_nodes": ((0, 1, 2), (0, 2, 4)),
        "y_nodes": ((-1, 1), (-1, 1)),
        "grids": (((0, 1), (2, 4), (3, 6)), ((10, 10), (10, 20), (30, 30))),
    }
    return o.LikelihoodRatio(**(options | change))


def test_likelihood_ratio_by_hand() -> None:
    logits = {"a": np.array([0.5, 0.5, 2.0, 1.0, -7.0]), "b": np.array([-1.0, 0.0, 0.0, 1.0, 99.0])}
    # 10 GeV: (0+2)/2; 100 GeV: ((0+1)/2 + (2+4)/2)/2; 10^2.5: half of (3+6)/2 and half of (10+20)/2;
    # 1000 GeV: half way from (0,1) to (2,1): (10+20)/2; 5 TeV: clamped to the corner (0,1)
    expected = [1.0, 1.75, (4.5 + 15.0) / 2, 15.0, 10.0]
    out = o.combine(parameters(likelihood_ratio=grid()), "likelihood_ratio", logits, ENERGY)
    np.testing.assert_allclose(out, expected)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3), st.floats(0, 3), st.floats(50, 2000))
def test_likelihood_ratio_never_falls(x: float, y: float, dx: float, dy: float, e: float) -> None:
    part = parameters(likelihood_ratio=grid())
    logits = {"a": np.array([x, x + dx]), "b": np.array([y, y + dy])}
    low, high = o.combine(part, "likelihood_ratio", logits, np.array([e, e]))
    assert low <= high + 1e-9
    assert 0 <= low <= 30


def test_nan_stays_nan() -> None:
    part = parameters(
        logistic=o.Logistic(energies_gev=(100,), bias=(0,), weights={"a": (1,), "b": (1,)}),
        standardised=o.Standardised(
            energies_gev=(100,), peak={"a": (0,), "b": (0,)}, width={"a": (1,), "b": (1,)}
        ),
        likelihood_ratio=grid(),
    )
    logits = {"a": np.array([math.nan, 0.0, 0.0]), "b": np.array([0.0, math.nan, 0.0])}
    for strategy in o.STRATEGIES:
        out = o.combine(part, strategy, logits, np.array([100.0, 100.0, math.nan]))
        assert np.isnan(out).all(), strategy
        assert o.combine(
            part, strategy, {"a": np.zeros(0), "b": np.zeros(0)}, np.zeros(0)
        ).shape == (0,)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"energies_gev": (1000, 100)}, "positive and ascend"),
        ({"energies_gev": (100,)}, "one entry for each of the 1 energy nodes"),
        ({"y": "a"}, "must differ"),
        ({"x_nodes": ((0, 1), (0, 2, 4))}, "one row per x node"),
        ({"x_nodes": ((0, 1, 3), (0, 2, 4))}, "equally spaced"),
        ({"grids": (((0, 1), (2, 4), (3, 3)), ((10, 10), (10, 20), (30, 30)))}, "must not fall"),
    ],
)
def test_grids_that_are_none(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        grid(**change)


def test_parameter_files(tmp_path: Path) -> None:
    part = o.Logistic(energies_gev=(100,), bias=(0,), weights={"a": (1,), "b": (1,)})
    path = tmp_path / "omega.json"
    path.write_text(parameters(logistic=part).model_dump_json())
    read, digest = o.read_omega(path)
    assert read == parameters(logistic=part)
    assert o.read_omega(path, sha256=digest)[1] == digest
    with pytest.raises(ModelError, match="expected is 0000"):
        o.read_omega(path, sha256="0" * 64)
    with pytest.raises(ModelError, match="cannot be read"):
        o.read_omega(tmp_path / "none.json")
    content = json.loads(path.read_text())
    for change, complaint in (
        ({"members": {"a": HASHES["a"]}}, "'b', which is not among the members"),
        ({"region": "x"}, "region"),
        ({"logistic": {**content["logistic"], "bias": [0, 1]}}, "needs 1 values"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(ModelError, match=complaint):
            o.read_omega(path)
    with pytest.raises(ModelError, match="hold no strategy 'mean'; they hold: logistic"):
        o.combine(read, "mean", {}, np.zeros(0))
    with pytest.raises(ValidationError, match="widths must be positive"):
        o.Standardised(energies_gev=(1,), peak={"a": (0,)}, width={"a": (0,)})
    with pytest.raises(ValidationError, match="of the same networks"):
        o.Standardised(energies_gev=(1,), peak={"a": (0,)}, width={"b": (1,)})
