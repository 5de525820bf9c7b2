"""The bins of a flux that a spectral fit uses: from a flux table or a published spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable
from analysis.published import PublishedSpectrum

__all__ = ["LIVETIME_S", "BreakData", "from_flux_table", "from_published", "select"]

FloatArray = NDArray[np.float64]

#: Livetime that the printed columns of a published table imply, where it prints none: the weighted
#: mean of N (1-f) / (A ΔE Φ) over all bins.
LIVETIME_S = {"dampe_2017_electron_positron": 3.4916e7}

_EDGE_SLACK = 2e-3  # relative: a range typed as 55 GeV includes the bin that starts at 54.954 GeV


@dataclass(frozen=True, eq=False)
class BreakData:
    """A flux with everything that the fits need; every array has shape (n_bins,).

    Attributes:
        name: of the source, for figures.
        e_min: lower edges, GeV.
        e_max: upper edges, GeV.
        e_ref: reference energies, GeV.
        dnde: flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        stat: its error that each bin has for itself, the mean of both sides: statistics of the data and of
            the simulated acceptance.
        sys: its systematic error; the mean of both sides.
        relative_sys: systematic error of the exposure relative to it, for the Poisson fit.
        simulation: relative error of the expected counts that each bin has for itself: statistics of the
            simulation, background; 0 where the source does not keep it apart.
        counts: events above the cut, background included; NaN where the source gives none.
        acceptance: acceptance before the score cut, m² sr; NaN where unknown.
        exposure: acceptance × efficiency × livetime, m² sr s; NaN where unknown.
        background_fraction: share of the counts.
        notes: what was left out of the bins or the errors, and why.
        synthetic: whether the events are simulated.
    """

    name: str
    e_min: FloatArray
    e_max: FloatArray
    e_ref: FloatArray
    dnde: FloatArray
    stat: FloatArray
    sys: FloatArray
    relative_sys: FloatArray
    simulation: FloatArray
    counts: FloatArray
    acceptance: FloatArray
    exposure: FloatArray
    background_fraction: FloatArray
    notes: tuple[str, ...] = ()
    synthetic: bool = False

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.e_min)


def from_flux_table(table: FluxTable, name: str = "this analysis") -> BreakData:
    """Take the columns of a flux table; bins with ``success`` False are left out and named.

    Errors of each bin for itself are the statistics of the simulated acceptance (``sys_acceptance``) and
    efficiency, and the background but for the fitted shift; all other ``sys_`` sources are taken as shared
    by neighbouring bins. The exposure is acceptance × efficiency × livetime × the factor of energy
    migration. A background that is only bounded by the Monte Carlo (``background_mc_limited_bins``) enters
    with its limit as error, and is noted.

    Args:
        table: the flux table.
        name: of the source.

    Returns:
        Its usable bins.
    """
    description = table.meta.get("flux") or {}
    limited = np.zeros(len(table), dtype=np.bool_)
    limited[list(description.get("background_mc_limited_bins", []))] = True
    fraction = np.where(table.n_data > 0, table.background_fraction, 0.0)
    good = table.success & np.isfinite(table.dnde) & np.isfinite(table.dnde_errp)
    zero = np.zeros(len(table))
    own = np.mean(table.systematics.get("acceptance", (zero, zero)), axis=0)
    shared = [np.mean(pair, axis=0) for k, pair in table.systematics.items() if k != "acceptance"]
    positive = table.dnde > 0
    flux = np.where(positive, table.dnde, 1.0)
    parts = [np.where(positive, part / flux, 0.0) for part in shared]
    by_shift = np.mean(table.systematics.get("shift", (zero, zero)), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        background = np.where(
            (table.n_data > 0) & (fraction < 1), table.background_fraction_err / (1 - fraction), 0.0
        )
        simulated = table.acceptance_err / table.acceptance
        efficiency = table.efficiency_err / table.efficiency
    background = np.sqrt(
        np.maximum(background**2 - np.where(positive, by_shift / flux, 0.0) ** 2, 0.0)
    )
    simulated = np.where(positive & (own > 0), own / flux, simulated)
    simulated = np.sqrt(simulated**2 + efficiency**2 + background**2)
    notes = []
    if not good.all():
        notes.append(
            f"{int((~good).sum())} bins without a flux are left out: {_ranges(table, ~good)}"
        )
    if (limited & good & (table.n_data > 0)).any():
        notes.append(
            "background bounded by the Monte Carlo alone, the limit is its error: "
            f"{_ranges(table, limited & good & (table.n_data > 0))}"
        )
    recorded = (description.get("migration") or {}).get("factor")
    factor = np.ones(len(table)) if recorded is None else np.array(recorded, np.float64)
    data = BreakData(
        name=name,
        e_min=table.e_min,
        e_max=table.e_max,
        e_ref=table.e_ref,
        dnde=table.dnde,
        stat=np.hypot((table.dnde_errn + table.dnde_errp) / 2, own),
        sys=np.sqrt(sum((part**2 for part in shared), zero)),
        relative_sys=np.sqrt(sum((part**2 for part in parts), zero)),
        simulation=np.where(good, simulated, 0.0),
        counts=table.n_data,
        acceptance=table.acceptance,
        exposure=table.acceptance * table.efficiency * table.livetime * factor,
        background_fraction=fraction,
        notes=tuple(notes),
        synthetic=bool(table.meta.get("synthetic")),
    )
    return _take(data, good)


def from_published(spectrum: PublishedSpectrum, livetime_s: float | None = None) -> BreakData:
    """Take the columns of a published spectrum.

    Args:
        spectrum: the published set; its acceptance holds the selection efficiency.
        livetime_s: its livetime; default the one of :data:`LIVETIME_S`, if any.

    Returns:
        Its bins with edges and a statistical error; counts and exposure NaN where it has none.

    Raises:
        AnalysisError: livetime not positive.
    """
    time = LIVETIME_S.get(spectrum.name, np.nan) if livetime_s is None else livetime_s
    if livetime_s is not None and not 0 < livetime_s < np.inf:
        msg = f"livetime must be a positive number of seconds, got {livetime_s!r}"
        raise AnalysisError(msg)
    nothing = np.full(spectrum.dnde.size, np.nan)
    extra = {
        key: spectrum.extra.get(key, nothing)
        for key in (
            "counts", "acceptance_m2sr", "acceptance_err", "bkg_fraction", "bkg_fraction_err"
        )
    }  # fmt: skip
    fraction = extra["bkg_fraction"]
    stat = (spectrum.stat_n + spectrum.stat_p) / 2
    good = np.isfinite(spectrum.dnde) & np.isfinite(spectrum.e_min) & (stat > 0)
    notes = []
    if not good.all():
        notes.append(
            f"{int((~good).sum())} bins without flux, edges or statistical error are left out: "
            f"{_ranges(spectrum, ~good)}"
        )
    data = BreakData(
        name=spectrum.label,
        e_min=spectrum.e_min,
        e_max=spectrum.e_max,
        e_ref=spectrum.e_ref(),
        dnde=spectrum.dnde,
        stat=stat,
        sys=(np.nan_to_num(spectrum.sys_n) + np.nan_to_num(spectrum.sys_p)) / 2,
        relative_sys=np.hypot(
            extra["acceptance_err"] / extra["acceptance_m2sr"],
            extra["bkg_fraction_err"] / (1 - fraction),
        ),
        simulation=np.zeros(np.shape(spectrum.dnde)),
        counts=extra["counts"],
        acceptance=extra["acceptance_m2sr"],
        exposure=extra["acceptance_m2sr"] * time,
        background_fraction=fraction,
        notes=tuple(notes),
    )
    return _take(data, good)


def select(
    data: BreakData,
    e_min_gev: float = 55.0,
    e_max_gev: float = 2630.0,
    leave_out_gev: Sequence[float] = (),
) -> BreakData:
    """Bins that lie in an energy range, without those that hold certain energies.

    Args:
        data: all bins.
        e_min_gev: lowest edge, with 0.2 % slack.
        e_max_gev: highest edge, with 0.2 % slack.
        leave_out_gev: energies; the bin around each is left out.

    Returns:
        The bins used; notes say which were left out.

    Raises:
        AnalysisError: empty range, or an energy that lies in no bin of the range.
    """
    if not 0 < e_min_gev < e_max_gev:
        msg = f"the fit range {e_min_gev:g} to {e_max_gev:g} GeV is empty; give e_min < e_max"
        raise AnalysisError(msg)
    used = (data.e_min >= e_min_gev * (1 - _EDGE_SLACK)) & (
        data.e_max <= e_max_gev * (1 + _EDGE_SLACK)
    )
    if not used.any():
        covered = "; ".join(("nothing", *data.notes))
        if len(data):
            covered = f"{data.e_min.min():g} to {data.e_max.max():g} GeV"
        msg = (
            f"{data.name} has no usable bin between {e_min_gev:g} and {e_max_gev:g} GeV; it covers "
            f"{covered}; choose another range"
        )
        raise AnalysisError(msg)
    notes = list(data.notes)
    for energy in leave_out_gev:
        inside = used & (data.e_min <= energy) & (energy < data.e_max)
        if not inside.any():
            msg = (
                f"{energy:g} GeV, to be left out, lies in no bin of the fit range {e_min_gev:g} to "
                f"{e_max_gev:g} GeV (or twice in the same)"
            )
            raise AnalysisError(msg)
        used &= ~inside
        notes.append(f"left out as asked: {_ranges(data, inside)}")
    return _take(replace(data, notes=tuple(notes)), used)


def _take(data: BreakData, which: NDArray[np.bool_]) -> BreakData:
    """Some of the bins."""
    columns: dict[str, Any] = {
        key: value[which] for key, value in vars(data).items() if isinstance(value, np.ndarray)
    }
    return replace(data, **columns)


def _ranges(bins: BreakData | FluxTable | PublishedSpectrum, which: NDArray[np.bool_]) -> str:
    """Edges of bins as text, neighbours joined."""
    runs: list[list[float]] = []
    for i in np.flatnonzero(which):
        if runs and abs(bins.e_min[i] / runs[-1][1] - 1) < _EDGE_SLACK:
            runs[-1][1] = float(bins.e_max[i])
        else:
            runs.append([float(bins.e_min[i]), float(bins.e_max[i])])
    if runs and np.isnan(runs).all():
        return "they have no bin edges"
    return ", ".join(f"{low:.1f}-{high:.1f} GeV" for low, high in runs)
