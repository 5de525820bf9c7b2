"""What a template fit found, per energy bin, with the covariance of everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from analysis.exceptions import HistogramMismatchError
from analysis.templates import Template

__all__ = ["FitResult", "check_axes"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FitResult:
    """Yields and shifts; arrays have shape (n_energy,), NaN where there was no fit.

    The parameters are the electron yields of the k fitted bins, their proton yields, then the coefficients of
    proton shift, proton width and electron shift. A yield counts the events of the whole template, flow
    included, so that ``yield * efficiency`` are the events above the cut.

    Attributes:
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        used: (k,) numbers of the energy bins that were fitted.
        parameters: (p,) values.
        covariance: (p, p); 0 for parameters that were kept or ended at a limit.
        raw_covariance: (p, p) the same at fixed sums of the templates, for what is read off the
            templates: see :meth:`analysis.templatefit.model.FitModel.covariances`.
        shift_design: (k, k_s) matrix that makes proton shifts of their coefficients.
        width_design: (k, k_w) the same for the width.
        electron_design: (k, k_e) the same for the electron shift.
        window: lower and upper border of the fitted score range, (n_energy,) each.
        n_data: data in the fit window.
        n_bins: score bins.
        deviance: deviance of the energy bin, twice the negative log-likelihood ratio.
        unsupported: data in score bins that no simulated event fills; merged into their neighbours.
        at_limit: whether the electron yield ended at its limit 0.
        success: whether the energy bin has a result.
        reasons: why not, else None.
        edm: estimated distance to the minimum.
        settings: how the fit was made.
        meta: plain builtins that travel along.
    """

    e_min: FloatArray
    e_max: FloatArray
    used: NDArray[np.intp]
    parameters: FloatArray
    covariance: FloatArray
    raw_covariance: FloatArray
    shift_design: FloatArray
    width_design: FloatArray
    electron_design: FloatArray
    window: tuple[FloatArray, FloatArray]
    n_data: FloatArray
    n_bins: FloatArray
    deviance: FloatArray
    unsupported: FloatArray
    at_limit: NDArray[np.bool_]
    success: NDArray[np.bool_]
    reasons: tuple[str | None, ...]
    edm: float
    settings: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def electrons(self) -> tuple[FloatArray, FloatArray]:
        """Electron yield and its error."""
        return self._linear(0, np.eye(self.used.size))

    @property
    def protons(self) -> tuple[FloatArray, FloatArray]:
        """Proton yield and its error."""
        return self._linear(self.used.size, np.eye(self.used.size))

    @property
    def shift(self) -> tuple[FloatArray, FloatArray]:
        """Proton shift at each energy and its error; 0 if none was fitted."""
        return self._linear(self._first("shift"), self.shift_design)

    @property
    def width(self) -> tuple[FloatArray, FloatArray]:
        """Proton width and its error; 1 if none was fitted."""
        value, error = self._linear(self._first("width"), self.width_design)
        return (value if self.width_design.shape[1] else value + 1.0), error

    @property
    def electron_shift(self) -> tuple[FloatArray, FloatArray]:
        """Electron shift and its error; 0 if none was fitted."""
        return self._linear(self._first("electron"), self.electron_design)

    @property
    def coefficients(self) -> dict[str, tuple[float, float]]:
        """Coefficients and their errors: s0, s1, … of the shift, w… of the width, e… of the electrons."""
        errors = np.sqrt(np.diag(self.covariance))
        out = {}
        for letter, name, design in (
            ("s", "shift", self.shift_design),
            ("w", "width", self.width_design),
            ("e", "electron", self.electron_design),
        ):
            for k in range(design.shape[1]):
                at = self._first(name) + k
                out[f"{letter}{k}"] = (float(self.parameters[at]), float(errors[at]))
        return out

    @property
    def ndf(self) -> int:
        """Score bins of all fitted energy bins less the free parameters."""
        free = int(np.count_nonzero(np.diag(self.covariance) > 0))
        return int(np.where(self.success, self.n_bins, 0.0).sum()) - free

    @property
    def p_value(self) -> float:
        """Probability of a larger deviance if the model is right, as χ²; NaN without degrees of freedom.

        In score bins with few counts the deviance is smaller than χ², and the number too large.
        """
        total = float(np.nansum(np.where(self.success, self.deviance, np.nan)))
        return float(chi2.sf(total, self.ndf)) if self.ndf > 0 else float("nan")

    def _first(self, name: str) -> int:
        """Position of the first coefficient of a function."""
        before = {"shift": 0, "width": 1, "electron": 2}[name]
        designs = (self.shift_design, self.width_design, self.electron_design)
        return int(2 * self.used.size + sum(d.shape[1] for d in designs[:before]))

    def _linear(self, first: int, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value and error of ``design @ parameters[first:]`` on the energy bins."""
        here = slice(first, first + design.shape[1])
        value, error = np.full(self.e_min.size, np.nan), np.full(self.e_min.size, np.nan)
        part, spread = self.parameters[here], self.covariance[here, here]
        if np.array_equal(
            design, np.eye(len(design))
        ):  # a bin that failed must not touch the others
            value[self.used], error[self.used] = part, np.sqrt(np.diag(spread))
        else:
            value[self.used] = design @ part
            error[self.used] = np.sqrt(np.einsum("ia,ab,ib->i", design, spread, design))
        bad = ~self.success
        value[bad], error[bad] = np.nan, np.nan
        return value, error


def check_axes(data: Template, *others: Template) -> None:
    """Refuse templates whose axes differ from those of the data.

    Args:
        data: the data.
        *others: templates.

    Raises:
        HistogramMismatchError: energy or score bins differ.
    """
    for other in others:
        for name in ("energy_edges", "omega_edges"):
            if not np.array_equal(getattr(data, name), getattr(other, name)):
                what = "energy" if name == "energy_edges" else "score"
                msg = (
                    f"{what} bins of the {other.kind} template differ from those of the "
                    f"{data.kind} template; fill both from one card"
                )
                raise HistogramMismatchError(msg)
