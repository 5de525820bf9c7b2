"""Selected events of one chunk as float32 columns: fields and what the networks derive from them.

Each field is read once and each derived quantity computed once, whatever asks for it. For simulated
events a calibration may be applied to the layer RMS, to the RMS of the last layer and to F_last.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from processors.calibration import Calibration, calibrate_f_last, calibrate_rms
from processors.geometry import path_mm
from processors.ntuple import Ntuple
from processors.showers import last_layer, sum_rms

__all__ = ["MEV_PER_GEV", "Columns", "Rows", "Species", "Values", "float32"]

Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Species = Literal["electron", "proton"]

MEV_PER_GEV = np.float32(1e3)
#: The classical score has the same floor.
_LOWEST_ZETA = np.float32(1e-2)


def float32(values: npt.ArrayLike) -> Values:
    """The values as 32-bit floats."""
    return np.asarray(values, np.float32)


class Columns:
    """Fields of the selected events of one chunk, float32, each read and derived once.

    Args:
        ntuple: The chunk.
        rows: Ascending indices of the selected events.
        calibration: Table for simulated events, or None.
        species: Species of the simulated events; needed with a calibration.
    """

    def __init__(
        self,
        ntuple: Ntuple,
        rows: Rows,
        calibration: Calibration | None,
        species: Species | None,
    ) -> None:
        self._ntuple = ntuple
        self._rows = rows
        self._calibration = calibration
        self._species = species
        self._cache: dict[str, Values] = {}

    def __getitem__(self, field: str) -> Values:
        if field not in self._cache:
            self._cache[field] = self._ntuple.take(field, self._rows).astype(np.float32, copy=False)
        return self._cache[field]

    @cached_property
    def image(self) -> Values:
        """Bar energies in GeV, shape (n, 14, 22)."""
        mask = np.zeros(len(self._ntuple), bool)
        mask[self._rows] = True
        return np.ascontiguousarray(self._ntuple.image(mask), np.float32)

    @cached_property
    def layer_rms(self) -> Values:
        """Layer RMS in mm, calibrated, shape (n, 14)."""
        rms = self["layer_rms"]
        if self._calibration is None or self._species is None:
            return rms
        return float32(calibrate_rms(self._calibration, self._species, self["e_corr"], rms))

    @cached_property
    def _last(self) -> Rows:
        """Number of the last layer with signal, shape (n, 1)."""
        return last_layer(self["layer_fraction"])[:, None]

    @cached_property
    def rms_l(self) -> Values:
        """RMS of the last layer in mm, calibrated, shape (n,)."""
        if self._calibration is None:
            return self["rms_l"]
        return np.take_along_axis(self.layer_rms, self._last, 1)[:, 0]

    @cached_property
    def f_last(self) -> Values:
        """F_last, calibrated, shape (n,)."""
        f = np.take_along_axis(self["layer_fraction"], self._last, 1)[:, 0]
        if self._calibration is None or self._species is None:
            return f
        return float32(calibrate_f_last(self._calibration, self._species, self["e_corr"], f))

    @cached_property
    def log_energy(self) -> Values:
        """log10 of the layer energies in MeV, not below 0 (1 MeV), shape (n, 14)."""
        mev = self["layer_fraction"] * (self["e_raw"] * MEV_PER_GEV)[:, None]
        return float32(np.log10(np.maximum(mev, 1)))

    @cached_property
    def log_zeta(self) -> Values:
        """log10 of zeta from the calibrated variables, not below -2, shape (n,)."""
        zeta = self.f_last * sum_rms(self.layer_rms) ** 4 / np.float32(8e6)
        return float32(np.log10(np.maximum(zeta, _LOWEST_ZETA)))

    @cached_property
    def path(self) -> Values:
        """Length of the axis in the BGO in mm, shape (n,)."""
        names = ("slope_x", "slope_y", "intercept_x", "intercept_y")
        return float32(path_mm(*(self[n] for n in names)))
