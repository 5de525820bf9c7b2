"""The spectrum that a synthetic sample was made with, as a reference for what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.exceptions import CreError
from processors.spectrum import Spectrum, parse

__all__ = ["bin_average", "injected_spectrum"]


def injected_spectrum(meta: Mapping[str, Any]) -> Spectrum:
    """The injected electron + positron spectrum of a synthetic sample.

    Raises:
        CreError: If the metadata name none (data of the experiment have none).
    """
    spectrum = (meta.get("injected") or {}).get("electron")
    if not spectrum:
        msg = "these data name no injected spectrum; compare with published spectra instead"
        raise CreError(msg)
    return parse(spectrum)


def bin_average(
    spectrum: Spectrum, e_min_gev: npt.NDArray[np.float64], e_max_gev: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean of a spectrum over bins, GeV⁻¹ m⁻² s⁻¹ sr⁻¹, shape (n,)."""
    return np.asarray(spectrum.integral(e_min_gev, e_max_gev) / (e_max_gev - e_min_gev))
