"""Random distortions of showers in training, so that a network does not lean on what a simulation gets wrong.

A parametric (or any) Monte Carlo is a few per cent off in widths, layer energies and their correlations. A
network that has seen nothing else learns such details as if they were physics, and its score moves when
real showers differ. So in training every shower of either species is distorted by its own random amount:
energies of the layers, lateral width, bars, stray bars, signals in the STK. The variables are computed
anew from the distorted image, so that image and variables tell the same story. This is domain
randomisation (Tobin et al., arXiv:1703.06907), with amplitudes of the size of the differences between the
simulation and Geant4 in ``docs/physics.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from processors.exceptions import CreError
from processors.geometry import N_BARS, N_LAYERS
from processors.showers import layer_rms_mm

__all__ = ["DISTORTED", "DistortionError", "distort"]

Array = npt.NDArray[np.float32]

#: Standard deviations at strength 1 of the logarithm of layer energies, each for itself and common with
#: the depth; of the exponent of the lateral profile, common and of each layer; of the logarithm of a bar.
LAYER, SLOPE = 0.10, 0.10
WIDTH_COMMON, WIDTH_LAYER = 0.03, 0.04
BAR = 0.10
#: The first layers fluctuate more: factor on all of the above for layers 0, 1 and 2.
EARLY = (2.5, 2.0, 1.3)
#: Stray energy in one random bar of a layer: probability, and median share of the layer's energy.
STRAY, STRAY_SHARE = 0.3, 2.0e-3
#: Logarithm of the STK energies.
STK = 0.15
#: Bars below are not read out, MeV.
THRESHOLD_MEV = 2.0
_SCALE = 10.0

#: Variables that follow from the image; the others are left as they are.
DISTORTED: tuple[str, ...] = (
    *(f"log_energy_{i}" for i in range(N_LAYERS)),
    *(f"rms_{i}" for i in range(N_LAYERS)),
    "rms_l",
    "rms_r",
    "log_f_last",
)
#: Variables that a distortion of the image leaves alone.
_KEPT = frozenset(
    [
        "e_corr",
        "log_e_corr",
        "e_raw",
        "log_e_raw",
        "theta",
        "log_stk_ecore",
        "stk_n_clusters",
        "slope_x",
        "slope_y",
        "x_top",
        "y_top",
        "x_bottom",
        "y_bottom",
        "path_mm",
    ]
)


class DistortionError(CreError):
    """A recipe distorts showers but uses a variable that cannot follow the image."""


def distort(
    batch: dict[str, Array],
    variables: Sequence[str],
    image: Array,
    rng: np.random.Generator,
    strength: float,
) -> None:
    """Distort some events in place.

    Args:
        batch: Inputs of a network, shape (n, …): ``variables``, ``image``, ``stk``, those that it has.
        variables: Names of the columns of ``variables``.
        image: The input ``image`` of the same events, ln(1 + E/MeV)/10, shape (n, 14, 22).
        rng: Random generator.
        strength: 1 for the amplitudes of this module; each event takes a random share of it, so that
            undistorted showers are seen too.

    Raises:
        DistortionError: If a variable depends on the image in a way that is not known here.
    """
    unknown = [v for v in variables if v not in DISTORTED and v not in _KEPT]
    if "variables" in batch and unknown:
        msg = f"variable {unknown[0]!r} cannot follow a distorted image; set distortion: 0 in the recipe"
        raise DistortionError(msg)
    amount = (strength * rng.random(len(image))).astype(np.float32)
    before = np.expm1(image * _SCALE)
    after = _distorted(before, amount, rng)
    if "image" in batch:
        batch["image"] = np.asarray(np.log1p(after) / _SCALE, np.float32)
    if "variables" in batch:
        _follow(batch["variables"], list(variables), before, after)
    if "stk" in batch:
        noise = rng.standard_normal(batch["stk"][..., :2].shape, np.float32)
        signal = batch["stk"][..., :2]
        moved = signal + (STK / _SCALE) * amount[:, None, None] * noise
        batch["stk"][..., :2] = np.where(signal > 0, np.maximum(moved, 0), 0)


def _distorted(energy: Array, amount: Array, rng: np.random.Generator) -> Array:
    """Bar energies in MeV after the distortion; the total of an event stays the same."""
    n = len(energy)
    early = np.ones(N_LAYERS, np.float32)
    early[: len(EARLY)] = EARLY
    per_layer = amount[:, None] * early

    def normal(*shape: int) -> Array:
        return rng.standard_normal((n, *shape), np.float32)

    depth = np.linspace(-1.0, 1.0, N_LAYERS, dtype=np.float32)
    layer = energy.sum(axis=2)
    factor = np.exp(
        LAYER * per_layer * normal(N_LAYERS) + SLOPE * amount[:, None] * normal(1) * depth
    )
    power = (
        1 + WIDTH_COMMON * amount[:, None] * normal(1) + WIDTH_LAYER * per_layer * normal(N_LAYERS)
    )
    peak = np.maximum(energy.max(axis=2, keepdims=True), 1e-6)
    shape = np.where(energy > 0, np.maximum(energy / peak, 1e-9), 1.0)
    shape = np.exp(
        np.log(shape) * power[..., None] + BAR * per_layer[..., None] * normal(N_LAYERS, N_BARS)
    )
    shape *= energy > 0
    norm = shape.sum(axis=2)
    wanted = layer * factor
    out = shape * np.divide(wanted, norm, out=np.zeros_like(norm), where=norm > 0)[..., None]
    stray = rng.random((n, N_LAYERS), np.float32) < STRAY * per_layer
    event, where = np.nonzero(stray)
    bar = rng.integers(0, N_BARS, len(event))
    share = STRAY_SHARE * np.exp(1.2 * rng.standard_normal(len(event), np.float32))
    out[event, where, bar] += share * layer[event, where]
    out *= (layer.sum(axis=1) / np.maximum(out.sum(axis=(1, 2)), 1e-6))[:, None, None]
    out[out < THRESHOLD_MEV] = 0
    return np.asarray(out, np.float32)


def _follow(table: Array, names: list[str], before: Array, after: Array) -> None:
    """Compute the variables of the distorted image."""
    layer = after.sum(axis=2)
    last = N_LAYERS - 1 - (layer[:, ::-1] > 0).argmax(axis=1)
    rows = np.arange(len(after))
    rms = layer_rms_mm(after)
    values = {f"log_energy_{i}": np.log10(np.maximum(layer[:, i], 1.0)) for i in range(N_LAYERS)}
    values |= {f"rms_{i}": rms[:, i] for i in range(N_LAYERS)}
    values["rms_l"] = rms[rows, last]
    share = layer[rows, last] / np.maximum(layer.sum(axis=1), 1e-6)
    values["log_f_last"] = np.log10(np.maximum(share, 1e-6))
    if "rms_r" in names:  # an energy-weighted mean width: it changes as that of the layers does
        old = (layer_rms_mm(before) * before.sum(axis=2)).sum(axis=1)
        new = (rms * layer).sum(axis=1)
        ratio = np.divide(new, old, out=np.ones_like(new), where=old > 0)
        values["rms_r"] = table[:, names.index("rms_r")] * ratio
    for name, column in values.items():
        if name in names:
            table[:, names.index(name)] = column
