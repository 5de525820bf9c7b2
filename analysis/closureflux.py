"""Flux of a pseudo-experiment, by the functions of the measurement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.acceptance import Acceptance, acceptance_from_histogram
from analysis.background import Background
from analysis.efficiency import signal_efficiency
from analysis.flux import flux
from analysis.fluxtable import FluxTable
from analysis.migration.binbybin import bin_by_bin
from analysis.migration.correction import migrated
from analysis.migration.folding import forward_fold
from analysis.migration.response import response_from_sums
from analysis.selection import project
from analysis.templates import Template
from analysis.toys.draw import Expectation
from analysis.toys.file import generated, migration_histograms
from analysis.toys.model import ToyModel
from analysis.toys.response import Flux

__all__ = [
    "WAYS",
    "Simulation",
    "Way",
    "bin_integrals",
    "corrected",
    "draw_migration",
    "errors",
    "expected_bias",
    "uncorrected",
]

FloatArray = NDArray[np.float64]

Way = Literal["none", "bin_by_bin", "folding"]
#: Corrections of migration, each with those before it.
WAYS: tuple[Way, ...] = ("none", "bin_by_bin", "folding")

_PANELS = 16  # of an energy bin, for a flux that may be a step
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True, eq=False)
class Simulation:
    """Simulated electrons in true energy.

    Attributes:
        hists: ``response`` and ``passed``, without the axes bgo and edge.
        meta: their metadata.
        acceptance: from ``passed``.
    """

    hists: Mapping[str, Hist[Any]]
    meta: Mapping[str, Any]
    acceptance: Acceptance


def draw_migration(
    model: ToyModel, rng: np.random.Generator, electron_events: ArrayLike
) -> Simulation:
    """Draw acceptance and response of finite statistics.

    Args:
        model: the toy model.
        rng: random numbers.
        electron_events: selected electrons per bin of true energy, one number or (n,).

    Returns:
        The simulation.

    Raises:
        ToyModelError: a number out of range.
    """
    target = {k: v.tolist() for k, v in model.target_flux_integral.items()}
    samples = {"generated": generated(model, electron_events)}
    hists, meta = project(
        migration_histograms(model, rng, electron_events),
        {"target_flux_integral": target, "by_bgo": {model.bgo: samples}},
    )
    area = acceptance_from_histogram(hists["passed"], target["electron"], region=model.region)
    return Simulation(hists, meta, area)


def uncorrected(
    background: Background,
    electrons: Template,
    acceptance: FloatArray,
    acceptance_error: ArrayLike,
    livetime_s: float,
) -> FluxTable:
    """Flux without a correction of migration; bins without a background fail.

    Args:
        background: protons above the cut.
        electrons: simulated electrons, for the efficiency of the cut.
        acceptance: (n,) m² sr.
        acceptance_error: its error.
        livetime_s: s.

    Returns:
        The table; what shift and width of the protons add to the error is kept apart, as in a measurement.
    """
    signal = signal_efficiency(electrons, background.cut)
    shift = np.nan_to_num(background.parts.get("shift", np.zeros(acceptance.size)))
    still = np.sqrt(np.maximum(background.fraction_error**2 - shift**2, 0.0))
    table = flux(
        background.n_data,
        background.fraction,
        still,
        np.where(signal.success, signal.value, np.nan),
        signal.error,
        np.where(background.success, acceptance, np.nan),
        acceptance_error,
        livetime_s,
        background.e_min,
        background.e_max,
        meta={"flux": {}},
    )
    exposure = table.efficiency * table.acceptance * livetime_s * (table.e_max - table.e_min)
    error = np.where(table.success, table.n_data * shift / exposure, np.nan)
    return table.with_systematic("shift", error, error)


def corrected(
    background: Background,
    electrons: Template,
    simulation: Simulation,
    livetime_s: float,
    region: str,
    way: Way,
) -> dict[Way, FluxTable]:
    """Flux with a correction of migration and with all simpler ones.

    Args:
        background: protons above the cut.
        electrons: simulated electrons, for the efficiency of the cut.
        simulation: for acceptance and response.
        livetime_s: s.
        region: ``fiducial`` or ``topfiducial``.
        way: the last of the corrections.

    Returns:
        Tables by correction, ``none`` first.
    """
    area = simulation.acceptance
    table = uncorrected(background, electrons, area.value, area.error, livetime_s)
    signal = signal_efficiency(electrons, background.cut)
    first = (table, background, signal, simulation.hists, simulation.meta, region)
    return {w: migrated(*first, w) for w in WAYS[: WAYS.index(way) + 1]}


def expected_bias(known: Expectation, injected: FloatArray, cut: float) -> dict[Way, FloatArray]:
    """Flux over the injected one if nothing fluctuates and background and simulation are known exactly.

    What is left is the method: how well each correction follows a spectrum that is not the target.

    Args:
        known: what is expected in the data.
        injected: (n,) ∫f dE of its electrons.
        cut: score cut.

    Returns:
        Ratios by correction; NaN where nothing is injected or expected.

    Raises:
        AnalysisError: the model has too few bins with counts.
    """
    model, edges = known.model, known.model.energy_edges
    target = model.target_flux_integral["electron"]
    rates = model.rates(target)
    low, high = model.simulated_gev
    response = response_from_sums(rates, rates * 0.0, target, edges, edges, simulated=[(low, high)])
    electrons = known.electrons.sum(axis=1)
    passed, background = (known.template(k).above(cut).value for k in ("electron", "proton"))
    some = electrons > 0
    efficiency = np.where(some, passed / np.where(some, electrons, 1.0), np.nan)
    lit = (injected > 0) & (response.acceptance > 0)
    plain = electrons / np.where(lit, response.acceptance * known.livetime_s * injected, np.nan)
    folded = forward_fold(
        passed + background, background, 0.0, efficiency, response, known.livetime_s
    )
    return {
        "none": np.where(some, plain, np.nan),
        "bin_by_bin": np.where(some, plain, np.nan) / bin_by_bin(response).factor,
        "folding": folded.dnde * np.diff(edges) / np.where(lit, injected, np.nan),
    }


def errors(table: FluxTable, without: Collection[str] = ()) -> tuple[FloatArray, FloatArray]:
    """Errors of a flux downwards and upwards, with all that the table keeps apart.

    Args:
        table: the flux.
        without: names of systematic errors to leave out.

    Returns:
        Two arrays (n,).
    """
    down, up = table.dnde_errn**2, table.dnde_errp**2
    for name, (below, above) in table.systematics.items():
        if name not in without:
            down, up = down + below**2, up + above**2
    return np.sqrt(down), np.sqrt(up)


def bin_integrals(spectrum: Flux, edges: ArrayLike) -> FloatArray:
    """∫f dE over bins, by quadrature in ln E on 16 panels of eight points.

    Args:
        spectrum: f, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        edges: (n + 1,) GeV.

    Returns:
        (n,) m⁻² s⁻¹ sr⁻¹.
    """
    border = np.log(np.asarray(edges, np.float64))
    step = np.diff(border) / _PANELS
    start = border[:-1, None] + step[:, None] * np.arange(_PANELS)
    at = np.exp(start[..., None] + step[:, None, None] * (_NODES + 1) / 2)
    parts = spectrum(at) * at * (_WEIGHTS / 2) * step[:, None, None]
    return np.asarray(parts.sum(axis=(1, 2)))
