"""Calibration of simulated shower variables: what makes the Monte Carlo look like data.

For simulated events only, per species and as a function of the corrected energy E,

    RMS_i  <- max(0, RMS_i - d_i(E))
    F_last <- F_last 10^(0.0430103 n(E))

with d_i (mm, layers 0 to 13) and n given at nodes, linear in log10 E between them, constant outside.
This is the form of the collaboration's published analysis code (``docs/physics.md``). A layer without
width keeps RMS 0, and the layers of the narrow rule are left alone where they are narrow. The images
and the layer energies are not touched.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from processors.exceptions import CreError, sentences
from processors.geometry import N_LAYERS
from processors.shippedfile import shipped_names, shipped_text

__all__ = [
    "F_LAST_STEP",
    "Calibration",
    "CalibrationError",
    "LastFraction",
    "LayerOffsets",
    "Narrow",
    "SpeciesCalibration",
    "calibrate_f_last",
    "calibrate_rms",
    "load_calibration",
    "shipped_calibrations",
]

Values = npt.NDArray[np.floating[Any]]
Species = Literal["electron", "proton"]

#: One step of the F_last correction in log10.
F_LAST_STEP = 0.0430103
_LOWEST_GEV = 1e-3


class CalibrationError(CreError):
    """A calibration table cannot be read or has a wrong entry."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Nodes(_Strict):
    """Nodes in energy, which ascend."""

    energies_gev: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> _Nodes:
        e = self.energies_gev
        if e[0] <= 0 or any(b <= a for a, b in itertools.pairwise(e)):
            msg = f"energies_gev must be positive and ascend, got {list(e)}"
            raise ValueError(msg)
        return self

    def between(self, energy_gev: Values) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """Lower node and share of the upper node for each energy, both of shape (n,)."""
        log_nodes = np.log10(self.energies_gev)
        if len(log_nodes) == 1:
            return np.zeros(len(energy_gev), np.intp), np.zeros(len(energy_gev))
        log_e = np.log10(np.maximum(np.asarray(energy_gev, np.float64), _LOWEST_GEV))
        low = np.clip(np.searchsorted(log_nodes, log_e) - 1, 0, len(log_nodes) - 2)
        share = (log_e - log_nodes[low]) / np.diff(log_nodes)[low]
        return low, np.clip(share, 0.0, 1.0)


class LayerOffsets(_Nodes):
    """Offsets d_i of the layer RMS.

    Attributes:
        energies_gev: Nodes.
        layers: One row per layer, one offset in mm per node.
        errors_mm: Standard errors of the offsets, where they were measured; not used in applying them.
    """

    layers: tuple[tuple[float, ...], ...]
    errors_mm: tuple[tuple[float, ...], ...] | None = None

    @model_validator(mode="after")
    def _shaped(self) -> LayerOffsets:
        for name, rows in (("layers", self.layers), ("errors_mm", self.errors_mm)):
            if rows is None:
                continue
            if len(rows) != N_LAYERS or any(len(r) != len(self.energies_gev) for r in rows):
                msg = (
                    f"{name} needs {N_LAYERS} rows of {len(self.energies_gev)} values, one per node"
                )
                raise ValueError(msg)
        return self

    def __call__(self, energy_gev: Values) -> npt.NDArray[np.float64]:
        """d_i(E) in mm, shape (n, 14)."""
        low, share = self.between(energy_gev)
        high = np.minimum(low + 1, len(self.energies_gev) - 1)
        table = np.array(self.layers).T
        return np.asarray(table[low] + share[:, None] * (table[high] - table[low]))


class LastFraction(_Nodes):
    """Steps n of the F_last correction.

    Attributes:
        energies_gev: Nodes.
        steps: Number of steps per node; F_last is multiplied by 10^(0.0430103 n).
        errors: Standard errors of the steps, where they were measured.
    """

    steps: tuple[float, ...]
    errors: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _shaped(self) -> LastFraction:
        for name, values in (("steps", self.steps), ("errors", self.errors)):
            if values is not None and len(values) != len(self.energies_gev):
                msg = f"{name} needs {len(self.energies_gev)} values, one per node"
                raise ValueError(msg)
        return self

    def __call__(self, energy_gev: Values) -> npt.NDArray[np.float64]:
        """n(E), shape (n,)."""
        low, share = self.between(energy_gev)
        high = np.minimum(low + 1, len(self.energies_gev) - 1)
        table = np.array(self.steps)
        return np.asarray(table[low] + share * (table[high] - table[low]))


class Narrow(_Strict):
    """Layers that are left alone where they are narrow.

    Attributes:
        first_layer: The rule holds from this layer on.
        below_mm: RMS below which the offset is not applied.
    """

    first_layer: int = Field(default=9, ge=0, le=N_LAYERS)
    below_mm: float = Field(default=14.0, ge=0)


class SpeciesCalibration(_Strict):
    """Calibration of one species.

    Attributes:
        rms: Offsets of the layer RMS.
        f_last: Steps of F_last.
        narrow: Rule for narrow layers, or None where there is none.
    """

    rms: LayerOffsets
    f_last: LastFraction
    narrow: Narrow | None = None


class Calibration(_Strict):
    """A calibration table.

    Attributes:
        name: Name, for reports.
        synthetic: Whether it was derived from synthetic data.
        electron: Calibration of simulated electrons.
        proton: Calibration of simulated protons.
        provenance: How it was derived: inputs with hashes, bins, chi2; any plain content.
    """

    name: str
    synthetic: bool
    electron: SpeciesCalibration
    proton: SpeciesCalibration
    provenance: dict[str, Any] = Field(default_factory=dict)

    def of(self, species: Species) -> SpeciesCalibration:
        """The part of one species.

        Raises:
            ValueError: If the species is neither ``electron`` nor ``proton``.
        """
        if species not in {"electron", "proton"}:
            msg = f"a calibration is for simulated electrons or protons, not for {species!r}"
            raise ValueError(msg)
        return self.electron if species == "electron" else self.proton


def calibrate_rms(
    calibration: Calibration, species: Species, energy_gev: Values, layer_rms_mm: Values
) -> Values:
    """Layer RMS of simulated events as data would have them.

    Args:
        calibration: The table.
        species: ``electron`` or ``proton``.
        energy_gev: Corrected energies, shape (n,).
        layer_rms_mm: Layer RMS, shape (n, 14), mm.

    Returns:
        max(0, RMS_i - d_i(E)), shape (n, 14), dtype of ``layer_rms_mm``; layers of RMS 0 and narrow
        layers under the narrow rule unchanged.
    """
    part = calibration.of(species)
    rms = np.asarray(layer_rms_mm)
    offset = part.rms(energy_gev).astype(rms.dtype, copy=False)
    if part.narrow is not None:
        first = part.narrow.first_layer
        offset[:, first:][rms[:, first:] < part.narrow.below_mm] = 0
    offset[rms <= 0] = 0
    return np.asarray(np.maximum(rms - offset, 0))


def calibrate_f_last(
    calibration: Calibration, species: Species, energy_gev: Values, last_fraction: Values
) -> Values:
    """F_last of simulated events as data would have it.

    Args:
        calibration: The table.
        species: ``electron`` or ``proton``.
        energy_gev: Corrected energies, shape (n,).
        last_fraction: F_last, shape (n,).

    Returns:
        F_last 10^(0.0430103 n(E)), not above 1, shape (n,), dtype of ``last_fraction``.
    """
    f = np.asarray(last_fraction)
    factor = 10 ** (F_LAST_STEP * calibration.of(species).f_last(energy_gev))
    return np.asarray(np.minimum(f * factor.astype(f.dtype, copy=False), 1))


def shipped_calibrations() -> list[str]:
    """Names of the tables that come with the program."""
    return shipped_names("processors", "calibrations")


def load_calibration(name_or_path: str | Path) -> Calibration:
    """Read a calibration table.

    Args:
        name_or_path: Name of a shipped table or the path of one's own.

    Returns:
        The validated table.

    Raises:
        CalibrationError: If the file does not exist or is malformed.
    """
    text = shipped_text(
        name_or_path, "processors", "calibrations", what="calibration", error=CalibrationError
    )
    try:
        return Calibration.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as err:
        msg = f"calibration {str(name_or_path)!r} is no YAML: {err}"
        raise CalibrationError(msg) from err
    except ValidationError as err:
        msg = f"calibration {str(name_or_path)!r} is malformed:\n  {sentences(err)}"
        raise CalibrationError(msg) from err
