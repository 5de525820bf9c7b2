"""Inputs of the networks against values worked out from the file content, and their bookkeeping."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ntuples import toy_events

from processors.calibration import Calibration
from processors.exceptions import MissingBranchError
from processors.features import (
    DEFAULT_VARIABLES,
    INPUTS,
    TOPFIDUCIAL_VARIABLES,
    VARIABLES,
    FeatureError,
    build,
    required_fields,
)
from processors.geometry import path_mm
from processors.ntuple import FIELDS, Ntuple, load_aliases
from processors.ntuplefile import open_events

MakeNtuple = Callable[..., Path]
N = 60


def planes(branches: dict[str, Any]) -> None:
    """Layer i holds exp(i) - 1 ADC and i clusters; the first event has no track."""
    for i in range(12):
        energy = np.full(N, np.expm1(i), np.float32)
        clusters = np.full(N, i, np.float32)
        energy[0] = clusters[0] = 0
        branches[f"tt_stkPlaneEcore{i}"] = energy
        branches[f"tt_stkPlaneNClu{i}"] = clusters


@pytest.fixture
def ntuple(make_ntuple: MakeNtuple) -> Ntuple:
    path = make_ntuple("electron", n=N, seed=4, change=planes)
    return Ntuple(open_events(str(path), "DmlNtup"), load_aliases("dmlntup"))


@pytest.fixture
def truth() -> dict[str, Any]:
    return toy_events(N, 4)


def column(ntuple: Ntuple, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(N) if rows is None else rows
    return build(ntuple, rows, ["variables"], [name])["variables"][:, 0]


def test_shapes_types_and_rows(ntuple: Ntuple) -> None:
    rows = np.flatnonzero(np.arange(N) % 3 == 1)
    some = build(ntuple, rows, list(INPUTS), TOPFIDUCIAL_VARIABLES)
    everything = build(ntuple, np.arange(N), list(INPUTS), TOPFIDUCIAL_VARIABLES)
    assert {k: v.shape for k, v in some.items()} == {
        "variables": (20, 42),
        "image": (20, 14, 22),
        "image_gev": (20, 14, 22),
        "stk": (20, 6, 4),
        "stk_mask": (20, 1),
    }
    for name, values in some.items():
        assert values.dtype == np.float32
        assert values.flags.c_contiguous
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, everything[name][rows])
    none = build(ntuple, np.arange(0), list(INPUTS), DEFAULT_VARIABLES)
    assert [len(v) for v in none.values()] == [0] * 5


def test_the_lists_of_variables() -> None:
    assert len(DEFAULT_VARIABLES) == 35
    assert DEFAULT_VARIABLES[:2] == ("log_energy_0", "log_energy_1")
    assert DEFAULT_VARIABLES[14:28] == tuple(f"rms_{i}" for i in range(14))
    assert DEFAULT_VARIABLES[28:] == (
        "rms_l",
        "rms_r",
        "log_e_corr",
        "log_f_last",
        "theta",
        "log_stk_ecore",
        "stk_n_clusters",
    )
    assert TOPFIDUCIAL_VARIABLES[:35] == DEFAULT_VARIABLES
    assert set(TOPFIDUCIAL_VARIABLES) <= set(VARIABLES)
    for variable in VARIABLES.values():
        assert set(variable.fields + variable.calibrated_fields) <= set(FIELDS)


def test_every_variable_against_the_content(ntuple: Ntuple, truth: dict[str, Any]) -> None:
    fraction, raw, corr = truth["fraction"], truth["e_raw"], truth["e_corr"]
    slope, intercept = truth["slope"], truth["intercept"]
    last = 13 - (fraction[:, ::-1] > 0).argmax(axis=1)
    f_last = fraction[np.arange(N), last]
    expected = {
        **{f"log_energy_{i}": np.log10(np.maximum(fraction[:, i] * raw * 1e3, 1)) for i in (0, 13)},
        **{f"fraction_{i}": fraction[:, i] for i in (0, 7)},
        **{f"rms_{i}": truth["rms"][:, i] for i in (1, 13)},
        **{f"n_bars_{i}": truth["n_bars"][:, i] for i in (0, 13)},
        "rms_l": truth["rms"][:, 13],
        "rms_r": truth["rms"].mean(axis=1),
        "e_corr": corr,
        "log_e_corr": np.log10(corr),
        "e_raw": raw,
        "log_e_raw": np.log10(raw),
        "f_last": f_last,
        "log_f_last": np.log10(np.maximum(f_last, 1e-6)),
        "log_zeta": np.log10(np.maximum(truth["zeta"], 1e-2)),
        "theta": np.degrees(np.arctan(np.hypot(*slope.T))),
        "log_stk_ecore": np.full(N, np.log(501.0)),
        "stk_n_clusters": np.full(N, 12.0),
        "n_hits": (truth["image"] > 0).sum(axis=(1, 2)),
        "slope_x": slope[:, 0],
        "slope_y": slope[:, 1],
        "x_top": intercept[:, 0] + 46 * slope[:, 0],
        "y_top": intercept[:, 1] + 46 * slope[:, 1],
        "x_bottom": intercept[:, 0] + 448 * slope[:, 0],
        "y_bottom": intercept[:, 1] + 448 * slope[:, 1],
        "path_mm": path_mm(*slope.T, *intercept.T),
    }
    families = ("log_energy_", "fraction_", "rms_", "n_bars_")
    single = {v for v in VARIABLES if not v.startswith(families) or v in {"rms_l", "rms_r"}}
    assert single <= set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(column(ntuple, name), values, rtol=2e-5, atol=2e-3, err_msg=name)


def test_images(ntuple: Ntuple, truth: dict[str, Any]) -> None:
    out = build(ntuple, np.arange(N), ["image", "image_gev"], [])
    np.testing.assert_allclose(out["image_gev"], truth["image"], rtol=1e-6)
    np.testing.assert_allclose(out["image"], np.log1p(truth["image"] * 1e3) / 10, rtol=1e-5)


def test_stk_planes_from_the_top_with_x_before_y(ntuple: Ntuple) -> None:
    out = build(ntuple, np.arange(N), ["stk", "stk_mask"], [])
    layer = np.arange(12).reshape(6, 2) / 10  # ln(1 + ADC) = clusters = number of the layer
    np.testing.assert_allclose(out["stk"][1], np.hstack([layer, layer]), rtol=1e-6)
    assert not out["stk"][0].any()
    assert out["stk_mask"][:2, 0].tolist() == [0.0, 1.0]


def test_calibration_changes_what_it_should_and_nothing_else(ntuple: Ntuple) -> None:
    table = Calibration.model_validate(
        {
            "name": "test",
            "synthetic": True,
            **{
                species: {
                    "rms": {"energies_gev": [100.0], "layers": [[float(i)] for i in range(14)]},
                    "f_last": {"energies_gev": [100.0], "steps": [steps]},
                }
                for species, steps in (("electron", 10.0), ("proton", 0.0))
            },
        }
    )
    rows = np.arange(N)
    names = tuple(VARIABLES)
    before = build(ntuple, rows, ["variables"], names)["variables"]
    after = build(ntuple, rows, ["variables"], names, calibration=table, species="electron")[
        "variables"
    ]
    changed = {n for k, n in enumerate(names) if not np.array_equal(before[:, k], after[:, k])}
    assert changed == {
        *(f"rms_{i}" for i in range(1, 14)),
        "rms_l",
        "f_last",
        "log_f_last",
        "log_zeta",
    }
    value = dict(zip(names, after[5], strict=True))
    old = dict(zip(names, before[5], strict=True))
    assert value["rms_3"] == pytest.approx(max(old["rms_3"] - 3.0, 0.0))
    assert value["rms_l"] == value["rms_13"]
    assert value["log_f_last"] == pytest.approx(old["log_f_last"] + 0.430103, abs=1e-5)
    total = sum(value[f"rms_{i}"] for i in range(14))
    assert value["log_zeta"] == pytest.approx(np.log10(value["f_last"] * total**4 / 8e6), abs=1e-4)
    with pytest.raises(ValueError, match="needs the species"):
        build(ntuple, rows, ["variables"], names, calibration=table)


def test_fields_that_are_needed() -> None:
    assert required_fields(["image", "image_gev"], ["theta"]) == ("image",)
    assert required_fields(["variables"], ["theta", "rms_l", "slope_x"]) == (
        "slope_x",
        "slope_y",
        "rms_l",
    )
    assert required_fields(["variables"], ["rms_3"], calibrated=True) == ("layer_rms", "e_corr")
    assert required_fields(["stk_mask"], []) == ("stk_plane_clusters",)


def test_refusals(make_ntuple: MakeNtuple, ntuple: Ntuple) -> None:
    with pytest.raises(FeatureError, match="unknown variable 'rms_14'"):
        required_fields(["variables"], ["rms_14"])
    with pytest.raises(FeatureError, match="unknown input 'picture'"):
        build(ntuple, np.arange(3), ["picture"], [])
    with pytest.raises(FeatureError, match="at least one variable"):
        build(ntuple, np.arange(3), ["variables"], [])
    with pytest.raises(ValueError, match="must ascend"):
        build(ntuple, np.array([3, 2]), ["variables"], ["theta"])
    path = make_ntuple("electron", n=N, seed=9, drop=("tt_Rmsr",))
    bare = Ntuple(open_events(str(path), "DmlNtup"), load_aliases("dmlntup"))
    with pytest.raises(MissingBranchError, match="rms_r"):
        build(bare, np.arange(3), ["variables"], ["rms_r"])


@pytest.mark.parametrize(
    ("axis", "length"),
    [
        ((0, 0, 0, 0), 402.0),
        ((0, 0, 301.0, 0), 402.0),
        ((0, 0, 301.25, 0), 0.0),  # along the border
        ((0, 0, 400.0, 0), 0.0),
        ((1, 0, 0, 0), (301.25 - 46) * np.sqrt(2)),  # from the top out through a side
        ((-1, 0, 0, 0), (301.25 - 46) * np.sqrt(2)),
        ((1, 0, -301.25 - 46, 0), 402 * np.sqrt(2)),  # from the top edge to the bottom
        ((10, 0, -2470, 0), 60.25 * np.sqrt(101)),  # in and out through sides
        ((1, 1, -150, -150), 402 * np.sqrt(3)),
        ((1, 1, -100, 0), (301.25 - 46) * np.sqrt(3)),  # y leaves first
        ((0.5, 0, -1000, 0), 0.0),
    ],
)
def test_path_in_the_box(axis: tuple[float, ...], length: float) -> None:
    assert path_mm(*(np.array([a]) for a in axis))[0] == pytest.approx(length)


@given(
    st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
)
def test_path_equals_the_share_of_points_inside(
    slope: tuple[float, float], middle: tuple[float, float]
) -> None:
    z = np.linspace(46, 448, 40_001)
    inside = np.ones(len(z), bool)
    start = [m - s * 247 for m, s in zip(middle, slope, strict=True)]
    for s, u in zip(slope, start, strict=True):
        inside &= np.abs(u + s * z) < 301.25
    stretch = np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    exact = path_mm(*(np.array([v]) for v in (*slope, *start)))[0]
    assert exact == pytest.approx(inside.mean() * 402 * stretch, abs=0.03 * stretch)


def test_path_of_axes_that_are_not_numbers() -> None:
    nan = np.array([np.nan, 0.1, 0.0])
    zero = np.zeros(3)
    assert np.isnan(path_mm(nan, zero, zero, zero)).tolist() == [True, False, False]
    assert np.isnan(path_mm(zero, zero, nan, zero)).tolist() == [True, False, False]
