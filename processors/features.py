"""Inputs of the networks, built from selected events: one definition for training and for inference.

A network takes some of :data:`INPUTS`; which columns the input ``variables`` has, and in which order, is
a list of names of :data:`VARIABLES` that travels with the network. Everything is float32 and physical
(GeV, mm, degrees, log10): the normalisation is part of the network. For simulated events a calibration
may be applied to the layer RMS, to the RMS of the last layer and to F_last; images are never touched.
The networks are trained without it, for a reason that ``docs/physics.md`` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.calibration import Calibration
from processors.columns import MEV_PER_GEV, Columns, Species, Values, float32
from processors.exceptions import CreError
from processors.geometry import BGO_BOTTOM_MM, BGO_TOP_MM, N_BARS, N_LAYERS, N_STK_LAYERS
from processors.ntuple import Ntuple

__all__ = [
    "DEFAULT_VARIABLES",
    "INPUTS",
    "TOPFIDUCIAL_VARIABLES",
    "VARIABLES",
    "FeatureError",
    "Input",
    "Variable",
    "build",
    "required_fields",
]

_N_PLANES = N_STK_LAYERS // 2
#: The inputs ``image`` and ``stk`` are divided by this after the logarithm; clusters too.
_SCALE = np.float32(10.0)
_LOWEST_F_LAST = np.float32(1e-6)
#: Floor of logarithms of total energies, GeV: the energy of one minimum-ionising bar is above it.
_LOWEST_GEV = np.float32(1e-3)


class FeatureError(CreError):
    """A network asks for an input or a variable that does not exist."""


def _field(columns: Columns, *, name: str) -> Values:
    return columns[name]


def _layer(columns: Columns, *, name: str, layer: int) -> Values:
    return columns[name][:, layer]


def _derived(columns: Columns, *, name: str, layer: int | None = None) -> Values:
    values: Values = getattr(columns, name)
    return values if layer is None else values[:, layer]


def _log(columns: Columns, *, name: str) -> Values:
    return float32(np.log10(np.maximum(columns[name], _LOWEST_GEV)))


def _log_f_last(columns: Columns) -> Values:
    return float32(np.log10(np.maximum(columns.f_last, _LOWEST_F_LAST)))


def _theta(columns: Columns) -> Values:
    return float32(np.degrees(np.arctan(np.hypot(columns["slope_x"], columns["slope_y"]))))


def _log_stk_ecore(columns: Columns) -> Values:
    return float32(np.log1p(np.maximum(columns["stk_ecore"], 0)))


def _at(columns: Columns, *, view: str, z_mm: float) -> Values:
    return columns[f"intercept_{view}"] + columns[f"slope_{view}"] * np.float32(z_mm)


@dataclass(frozen=True)
class Variable:
    """One column of the input ``variables``.

    Attributes:
        fields: Fields of the ntuple that it needs.
        unit: Its unit, empty for numbers without one.
        text: One line for reports.
        function: From the selected events to the values, shape (n,).
        calibrated_fields: Further fields that it needs when a calibration is applied.
    """

    fields: tuple[str, ...]
    unit: str
    text: str
    function: Callable[[Columns], Values]
    calibrated_fields: tuple[str, ...] = ()


def _layer_variables() -> dict[str, Variable]:
    out: dict[str, Variable] = {}
    kinds: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...], Callable[..., Values]], ...]
    kinds = (
        (
            "log_energy",
            "log10 MeV",
            "log10 of the energy in layer {}, at least 1 MeV",
            ("layer_fraction", "e_raw"),
            (),
            partial(_derived, name="log_energy"),
        ),
        (
            "fraction",
            "",
            "energy in layer {} over the total",
            ("layer_fraction",),
            (),
            partial(_layer, name="layer_fraction"),
        ),
        (
            "rms",
            "mm",
            "lateral RMS of layer {}",
            ("layer_rms",),
            ("e_corr",),
            partial(_derived, name="layer_rms"),
        ),
        (
            "n_bars",
            "",
            "bars above 10 MeV in layer {}",
            ("n_bars",),
            (),
            partial(_layer, name="n_bars"),
        ),
    )
    for name, unit, text, fields, calibrated, function in kinds:
        for layer in range(N_LAYERS):
            out[f"{name}_{layer}"] = Variable(
                fields, unit, text.format(layer), partial(function, layer=layer), calibrated
            )
    return out


_AXIS = ("slope_x", "slope_y", "intercept_x", "intercept_y")

#: Every variable that a network may ask for.
VARIABLES: Mapping[str, Variable] = {
    **_layer_variables(),
    "rms_l": Variable(
        ("rms_l",),
        "mm",
        "RMS of the last layer with signal",
        partial(_derived, name="rms_l"),
        ("layer_rms", "layer_fraction", "e_corr"),
    ),
    "rms_r": Variable(("rms_r",), "mm", "radial RMS", partial(_field, name="rms_r")),
    "e_corr": Variable(("e_corr",), "GeV", "corrected energy", partial(_field, name="e_corr")),
    "log_e_corr": Variable(
        ("e_corr",), "log10 GeV", "log10 of the corrected energy", partial(_log, name="e_corr")
    ),
    "e_raw": Variable(("e_raw",), "GeV", "energy in the BGO", partial(_field, name="e_raw")),
    "log_e_raw": Variable(
        ("e_raw",), "log10 GeV", "log10 of the energy in the BGO", partial(_log, name="e_raw")
    ),
    "f_last": Variable(
        ("layer_fraction",),
        "",
        "energy fraction of the last layer with signal",
        partial(_derived, name="f_last"),
        ("e_corr",),
    ),
    "log_f_last": Variable(
        ("layer_fraction",), "", "log10 of F_last, at least 1e-6", _log_f_last, ("e_corr",)
    ),
    "log_zeta": Variable(
        ("layer_rms", "layer_fraction"),
        "",
        "log10 of the classical variable, at least -2",
        partial(_derived, name="log_zeta"),
        ("e_corr",),
    ),
    "theta": Variable(("slope_x", "slope_y"), "deg", "zenith angle of the axis", _theta),
    "log_stk_ecore": Variable(
        ("stk_ecore",), "ln ADC", "ln(1 + STK energy in 1 R_M of the track)", _log_stk_ecore
    ),
    "stk_n_clusters": Variable(
        ("stk_n_clusters",),
        "",
        "STK clusters in 1 R_M of the track",
        partial(_field, name="stk_n_clusters"),
    ),
    "n_hits": Variable(("n_hits",), "", "fired bars", partial(_field, name="n_hits")),
    "slope_x": Variable(("slope_x",), "", "axis slope dx/dz", partial(_field, name="slope_x")),
    "slope_y": Variable(("slope_y",), "", "axis slope dy/dz", partial(_field, name="slope_y")),
    **{
        f"{view}_{end}": Variable(
            (f"slope_{view}", f"intercept_{view}"),
            "mm",
            f"axis {view} at the {end} of the BGO (z = {z:g} mm)",
            partial(_at, view=view, z_mm=z),
        )
        for end, z in (("top", BGO_TOP_MM), ("bottom", BGO_BOTTOM_MM))
        for view in "xy"
    },
    "path_mm": Variable(
        _AXIS, "mm", "length of the axis in the BGO", partial(_derived, name="path")
    ),
}

#: Variables of the shipped networks for fiducial events, after the collaboration's network (docs).
DEFAULT_VARIABLES: tuple[str, ...] = (
    *(f"log_energy_{i}" for i in range(N_LAYERS)),
    *(f"rms_{i}" for i in range(N_LAYERS)),
    "rms_l",
    "rms_r",
    "log_e_corr",
    "log_f_last",
    "theta",
    "log_stk_ecore",
    "stk_n_clusters",
)
#: The same with the geometry of the axis, for events that leave through a side.
TOPFIDUCIAL_VARIABLES: tuple[str, ...] = (
    *DEFAULT_VARIABLES,
    "slope_x",
    "slope_y",
    "x_top",
    "y_top",
    "x_bottom",
    "y_bottom",
    "path_mm",
)


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Attributes:
        shape: Shape of one event; None where the list of variables gives the length.
        fields: Fields of the ntuple that it needs; those of ``variables`` depend on the list.
        text: What it holds and how it is scaled.
        function: From the selected events to the array, shape (n, *shape); None for ``variables``.
    """

    shape: tuple[int | None, ...]
    fields: tuple[str, ...]
    text: str
    function: Callable[[Columns], Values] | None = None


def _image_gev(columns: Columns) -> Values:
    return columns.image


def _image(columns: Columns) -> Values:
    image = columns.image * MEV_PER_GEV  # a copy, the linear image is kept
    np.log1p(image, out=image)
    image /= _SCALE
    return image


def _stk(columns: Columns) -> Values:
    n = len(columns["stk_plane_energy"])
    out = np.empty((n, _N_PLANES, 4), np.float32)
    energy = float32(np.log1p(np.maximum(columns["stk_plane_energy"], 0)))
    out[..., :2] = energy.reshape(n, _N_PLANES, 2)
    out[..., 2:] = columns["stk_plane_clusters"].reshape(n, _N_PLANES, 2)
    out /= _SCALE
    return out


def _stk_mask(columns: Columns) -> Values:
    return float32((columns["stk_plane_clusters"] > 0).any(axis=1, keepdims=True))


#: Every input that a network may have.
INPUTS: Mapping[str, Input] = {
    "variables": Input((None,), (), "the named variables, physical units, not normalised"),
    "image": Input(
        (N_LAYERS, N_BARS), ("image",), "bar energies as ln(1 + E / 1 MeV) / 10", _image
    ),
    "image_gev": Input((N_LAYERS, N_BARS), ("image",), "bar energies in GeV", _image_gev),
    "stk": Input(
        (_N_PLANES, 4),
        ("stk_plane_energy", "stk_plane_clusters"),
        "per STK plane from the top: ln(1 + ADC) / 10 of the x and of the y clusters near the track, "
        "and their numbers / 10; 0 without a track",
        _stk,
    ),
    "stk_mask": Input((1,), ("stk_plane_clusters",), "1 with a track, 0 without", _stk_mask),
}


def _check(inputs: Sequence[str], variables: Sequence[str]) -> None:
    for name, known in (
        *((n, INPUTS) for n in inputs),
        *((n, VARIABLES) for n in variables),
    ):
        if name not in known:
            what = "input" if known is INPUTS else "variable"
            msg = f"unknown {what} {name!r}; known: {', '.join(known)}"
            raise FeatureError(msg)
    if "variables" in inputs and not variables:
        msg = "the input 'variables' needs a list of at least one variable"
        raise FeatureError(msg)


def required_fields(
    inputs: Sequence[str], variables: Sequence[str], *, calibrated: bool = False
) -> tuple[str, ...]:
    """Fields of the ntuple that a network needs.

    Args:
        inputs: Names of :data:`INPUTS`.
        variables: Names of :data:`VARIABLES`; used if ``variables`` is one of the inputs.
        calibrated: Whether a calibration will be applied, which needs the corrected energy.

    Returns:
        Field names, each once, in the order of their first use.

    Raises:
        FeatureError: On an unknown input or variable.
    """
    _check(inputs, variables)
    fields: dict[str, None] = {}
    for name in inputs:
        fields.update(dict.fromkeys(INPUTS[name].fields))
    if "variables" in inputs:
        for name in variables:
            fields.update(dict.fromkeys(VARIABLES[name].fields))
            if calibrated:
                fields.update(dict.fromkeys(VARIABLES[name].calibrated_fields))
    return tuple(fields)


def build(
    ntuple: Ntuple,
    rows: npt.NDArray[np.integer[Any]],
    inputs: Sequence[str],
    variables: Sequence[str],
    *,
    calibration: Calibration | None = None,
    species: Species | None = None,
) -> dict[str, Values]:
    """Inputs of a network for selected events.

    Args:
        ntuple: The chunk.
        rows: Ascending indices of the selected events, shape (n,).
        inputs: Names of :data:`INPUTS`.
        variables: Names of :data:`VARIABLES`, the columns of the input ``variables`` in order.
        calibration: Table applied to the variables; for simulated events only.
        species: Species of the simulated events, needed with a calibration.

    Returns:
        Input name to a C-contiguous float32 array, shape (n, …).

    Raises:
        FeatureError: On an unknown input or variable.
        MissingBranchError: If the file lacks a field.
        ValueError: If a calibration comes without a species, or the rows do not ascend.
    """
    _check(inputs, variables)
    if calibration is not None and species is None:
        msg = "a calibration needs the species of the simulated events"
        raise ValueError(msg)
    chosen = np.asarray(rows, np.intp)
    if np.any(np.diff(chosen) <= 0):
        msg = "the rows of the selected events must ascend"
        raise ValueError(msg)
    columns = Columns(ntuple, chosen, calibration, species)
    out: dict[str, Values] = {}
    for name in inputs:
        function = INPUTS[name].function
        if function is not None:
            out[name] = np.ascontiguousarray(function(columns))
            continue
        table = np.empty((len(chosen), len(variables)), np.float32)
        for j, variable in enumerate(variables):
            table[:, j] = VARIABLES[variable].function(columns)
        out[name] = table
    return out
