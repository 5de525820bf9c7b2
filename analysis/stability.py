"""The flux of a fixed range of energies in time: rate, efficiency and flux per calendar month.

Everything is counted in the coarse monthly histograms of a run. The flux of a month is what the simulation says it
must be for the counts above the cut, less the protons that the control region of the same month promises:
``J = J_target (N - transfer C) / (R T)``, with R the rate of simulated electrons above the cut under the target flux, whose integral over
the energies is J_target. R holds acceptance, efficiency and migration; it is the same for all months, as is the transfer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hist import Hist
from numpy.typing import ArrayLike, NDArray

from analysis.constancy import Constancy, constant_counts, constant_share
from analysis.exceptions import AnalysisError, HistogramMismatchError, IncompleteDataError
from analysis.intervals import clopper_pearson, garwood
from analysis.perenergy import PerEnergy, per_energy
from analysis.selection import Edge
from analysis.templates import Template, template
from analysis.usable import entry, usable

__all__ = ["NOT_EFFICIENCIES", "Series", "Stability", "can_follow", "stability"]

FloatArray = NDArray[np.float64]
Hists = Mapping[str, Hist[Any]]

#: Cuts whose share of passing events is not that of a working detector: where it looks and when.
NOT_EFFICIENCIES = ("saa", "energy_range", "region", "fiducial_bit", "bgo_path", "selected")
#: Efficiency at which the cut of the stability is put where the card lets the analysis choose the best one.
_BEST = 0.95
_YEAR_S = 365.25 * 86_400


@dataclass(frozen=True, eq=False)
class Series:
    """A quantity per month, with its errors and its test against a constant.

    Attributes:
        value: (k,).
        lower: (k,) error downwards.
        upper: (k,) error upwards.
        test: against a constant, with the drift; None with fewer than two months.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray
    test: Constancy | None


@dataclass(frozen=True, eq=False)
class Stability:
    """What was counted per month, and how constant it is; arrays of shape (k,).

    Attributes:
        months: names, such as ``2016-03``; those with livetime.
        mean_s: mean mission elapsed time, s.
        livetime_s: livetime.
        above: data above the cut.
        control: data in the control region.
        rate: ``above`` over livetime, s⁻¹.
        control_rate: ``control`` over livetime, s⁻¹: protons, nearly all.
        efficiency: share that passes all cuts among the events that fail at most one of those that are
            efficiencies, whatever their score.
        flux: integral flux, m⁻² s⁻¹ sr⁻¹.
        cuts: cut → test of its efficiency among the events that pass all others.
        cut_efficiency: cut → (k,) that efficiency.
        notes: region, energies, cut per energy bin, transfer, what could not be assigned to a month.
    """

    months: tuple[str, ...]
    mean_s: FloatArray
    livetime_s: FloatArray
    above: FloatArray
    control: FloatArray
    rate: Series
    control_rate: Series
    efficiency: Series
    flux: Series
    cuts: Mapping[str, Constancy]
    cut_efficiency: Mapping[str, FloatArray]
    notes: Mapping[str, Any]


def can_follow(hists: Hists, meta: Mapping[str, Any]) -> bool:
    """Whether a file has monthly histograms with livetime in at least two months."""
    months = {
        name
        for part in (meta.get("by_bgo") or {"": meta}).values()
        for name, month in (part.get("months") or {}).items()
        if name != "unknown" and month["livetime_s"] > 0
    }
    return "monthly" in hists and len(months) > 1


def stability(
    hists: Hists,
    meta: Mapping[str, Any],
    *,
    region: str,
    e_min_gev: float,
    e_max_gev: float,
    bgo: str | None = None,
    efficiency_correction: PerEnergy = 1.0,
    allow_incomplete: bool = False,
) -> Stability:
    """Follow a run in time.

    Args:
        hists: ``monthly`` (region, bgo, month, energy, omega), ``monthly_cuts`` (region, bgo, cut, month, energy) and
            ``score`` of a histogram file.
        meta: its metadata, with ``months`` per reconstruction.
        region: ``fiducial`` or ``topfiducial``.
        e_min_gev: coarse energy bins that start below are left out, as are those below the energy from which
            skimmed data are complete.
        e_max_gev: bins that end above are left out.
        bgo: BGO reconstruction; default the only one, ``new`` if there are several.
        efficiency_correction: data over simulation, as for the flux.
        allow_incomplete: as in :class:`analysis.fluxsettings.FluxSettings`.

    Returns:
        The months.

    Raises:
        IncompleteDataError: an incomplete run, or one without simulated electrons or data with known times.
        HistogramMismatchError: the file has no monthly histograms.
        AnalysisError: no energy bin in the range.
    """
    on: Edge = "on"
    hists, meta = usable(
        hists, meta, region, edge=on, bgo=bgo, score=None, allow_incomplete=allow_incomplete
    )
    if "monthly" not in hists or "months" not in meta:
        msg = (
            "the file has no counts per month: it is of an earlier version, or the start of no run is known "
            "(start_s in the livetime table); run again"
        )
        raise HistogramMismatchError(msg)
    monthly, cuts = (_of_region(hists[n], region) for n in ("monthly", "monthly_cuts"))
    times = {k: v for k, v in meta["months"].items() if k != "unknown" and v["livetime_s"] > 0}
    names = tuple(sorted(times))
    rows = _rows(monthly, names)
    low = max(e_min_gev, float(meta.get("complete_above_gev", 0.0)))
    edges = monthly.axes["energy"].edges
    used = np.flatnonzero((edges[:-1] >= low * (1 - 1e-9)) & (edges[1:] <= e_max_gev * (1 + 1e-9)))
    if not used.size:
        msg = (
            f"no energy bin lies inside {low:.6g} to {e_max_gev:.6g} GeV; the bins of the monthly counts have the "
            f"edges {', '.join(f'{e:.1f}' for e in edges)} GeV"
        )
        raise AnalysisError(msg)
    electrons, protons = (template(hists["score"], k, region) for k in ("electron", "proton"))
    cut, control = _borders(meta, electrons, monthly, used)
    scale, transfer = _scale(
        meta, electrons, protons, edges, used, cut, control,
        per_energy(efficiency_correction, electrons.energy_edges),
    )  # fmt: skip
    livetime = np.array([times[name]["livetime_s"] for name in names])
    mean_s = np.array([times[name]["mean_s"] for name in names])
    years = mean_s / _YEAR_S
    counts = _counts(monthly, rows, used)
    omega = monthly.axes["omega"].edges
    above = _between(counts, omega, cut, np.full(cut.shape, np.inf))
    below = _between(counts, omega, *control)
    several = len(names) > 1
    interval = garwood(above)
    errors = above - interval.lower, interval.upper - above
    signal = above - transfer * below
    sides = [np.hypot(e, transfer * np.sqrt(below)) for e in errors]
    per_second = scale / livetime
    flux = Series(
        signal * per_second,
        sides[0] * per_second,
        sides[1] * per_second,
        _scaled(constant_counts(above, livetime, years, control=below, transfer=transfer), scale)
        if several
        else None,
    )
    efficiency, tests, shares = _efficiencies(cuts, rows, used, years, several=several)
    return Stability(
        names, mean_s, livetime, above, below,
        _rate(above, livetime, years), _rate(below, livetime, years), efficiency, flux, tests, shares,
        {
            "region": region,
            "bgo_reconstruction": meta["bgo_reconstruction"],
            "score": (meta.get("score") or {}).get("name"),
            "e_min_gev": float(edges[used[0]]),
            "e_max_gev": float(edges[used[-1] + 1]),
            "energy_edges_gev": edges[used[0] : used[-1] + 2].tolist(),
            "cut": cut.tolist(),
            "control": [border.tolist() for border in control],
            "transfer": transfer,
            "flux_per_rate": scale,
            **_unassigned(hists, meta, region, rows),
        },
    )  # fmt: skip


def _of_region(h: Hist[Any], region: str) -> Hist[Any]:
    part: Any = h[{"region": region}]
    kept: Hist[Any] = part
    return kept


def _rows(monthly: Hist[Any], names: tuple[str, ...]) -> NDArray[np.intp]:
    """Positions of months, with flow, in the month axis."""
    axis = monthly.axes["month"]
    numbers = np.array([12 * (int(n[:4]) - 2013) + int(n[5:]) - 1 for n in names], np.int64)
    rows = np.asarray(axis.index(numbers + 0.5), np.int64)
    if not names or (rows < 0).any() or (rows >= axis.size).any():
        msg = "no month of the livetime is on the axis of the monthly counts; is the start of the runs known?"
        raise IncompleteDataError(msg)
    return np.asarray(rows + 1, np.intp)


def _counts(h: Hist[Any], rows: NDArray[np.intp], used: NDArray[np.intp]) -> FloatArray:
    """Contents of some months and energy bins; the last axis with its flow. Shape (k, n_used, …)."""
    values = np.asarray(h.values(flow=True))
    return np.asarray(values[rows][:, used + 1], np.float64)


def _between(
    counts: FloatArray, omega: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Sum over scores from low to high, edges of the axis, and over energies. Shape (k,)."""
    first = np.searchsorted(omega, low - 1e-9) + 1
    last = np.where(np.isinf(high), counts.shape[-1], np.searchsorted(omega, high - 1e-9) + 1)
    column = np.arange(counts.shape[-1])
    inside = (column >= first[:, None]) & (column < last[:, None])
    return np.asarray((counts * inside).sum(axis=(1, 2)))


def _borders(
    meta: Mapping[str, Any], electrons: Template, monthly: Hist[Any], used: NDArray[np.intp]
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Cut and control region per coarse energy bin, on the nearest edges of the coarse score axis."""
    edges, omega = monthly.axes["energy"].edges, monthly.axes["omega"].edges
    coarse = np.append(edges[used], edges[used[-1] + 1])

    def nearest(values: FloatArray) -> FloatArray:
        return np.asarray(omega[np.abs(omega[None, :] - values[:, None]).argmin(axis=1)])

    low, high = (nearest(per_energy(border, coarse)) for border in entry(meta, "score", "control"))
    wanted = entry(meta, "score", "cut")
    if not isinstance(wanted, Mapping):
        cut = nearest(per_energy(wanted, coarse))
    else:
        share = wanted.get("efficiency") or _BEST
        total = _summed(electrons, edges, used, electrons.total().value)
        passing = np.array(
            [_summed(electrons, edges, used, electrons.above(edge).value) for edge in omega[1:-1]]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            cut = omega[1:-1][
                np.nan_to_num(np.abs(passing / total - share), nan=2.0).argmin(axis=0)
            ]
    low = np.minimum(low, omega[-2])
    high = np.where(high > low, high, omega[np.searchsorted(omega, low + 1e-9)])
    return np.maximum(cut, high), (low, high)


def _summed(
    part: Template, edges: FloatArray, used: NDArray[np.intp], values: FloatArray
) -> FloatArray:
    """Values per fine energy bin, summed in the coarse bins that are used."""
    fine = part.energy_edges
    inside = np.searchsorted(fine, edges * (1 - 1e-9))
    if not np.allclose(fine[inside], edges, rtol=1e-9):
        msg = (
            "the energy bins of the monthly counts are not made of those of the score; use one card"
        )
        raise HistogramMismatchError(msg)
    return np.array([values[inside[i] : inside[i + 1]].sum() for i in used])


def _scale(
    meta: Mapping[str, Any], electrons: Template, protons: Template, edges: FloatArray,
    used: NDArray[np.intp], cut: FloatArray, control: tuple[FloatArray, FloatArray],
    correction: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Integral flux per rate of electrons above the cut, and protons above it per event of the control region."""
    fine = electrons.energy_edges
    which = np.clip(np.searchsorted(edges[used] * (1 - 1e-9), fine[:-1], side="right") - 1, 0, None)
    above = electrons.above(cut[which]).value * correction
    rate = float(_summed(electrons, edges, used, above).sum())
    integral = np.asarray(entry(meta, "target_flux_integral", "electron"), np.float64)
    target = float(_summed(electrons, edges, used, integral).sum())
    if rate <= 0 or target <= 0:
        msg = "no simulated electron passes the cuts at these energies: there is no flux without"
        raise IncompleteDataError(msg)
    over = _summed(protons, edges, used, protons.above(cut[which]).value).sum()
    under = _summed(
        protons, edges, used, protons.between(control[0][which], control[1][which]).value
    ).sum()
    return target / rate, float(over / under) if under > 0 else 0.0


def _rate(counts: FloatArray, livetime: FloatArray, years: FloatArray) -> Series:
    interval = garwood(counts)
    test = constant_counts(counts, livetime, years) if counts.size > 1 else None
    errors = (counts - interval.lower) / livetime, (interval.upper - counts) / livetime
    return Series(counts / livetime, *errors, test)


def _scaled(test: Constancy, factor: float) -> Constancy:
    return Constancy(**{**vars(test), "mean": test.mean * factor})


def _efficiencies(
    cuts: Hist[Any],
    rows: NDArray[np.intp],
    used: NDArray[np.intp],
    years: ArrayLike,
    *,
    several: bool,
) -> tuple[Series, dict[str, Constancy], dict[str, FloatArray]]:
    """Efficiency of the chain and of each cut; months without an event have none and are left out of the tests."""
    values = np.asarray(cuts.values(flow=True))[:, rows][:, :, used + 1].sum(axis=2)
    names = [str(c) for c in cuts.axes["cut"]]
    passed = values[names.index("selected")]
    kept = [i for i, name in enumerate(names) if name not in NOT_EFFICIENCIES]
    tried = passed + sum((values[i] - passed for i in kept), np.zeros_like(passed))
    good = tried > 0
    when = np.asarray(years)
    tests, shares = {}, {}
    for i in kept:
        if values[i].sum() > passed.sum():  # a cut that no event fails has nothing to tell
            shares[names[i]] = np.divide(
                passed, values[i], out=np.full_like(passed, np.nan), where=values[i] > 0
            )
            seen = values[i] > 0
            if seen.sum() > 1:
                tests[names[i]] = constant_share(passed[seen], values[i][seen], when[seen])
    share = np.divide(passed, tried, out=np.full_like(passed, np.nan), where=good)
    interval = clopper_pearson(passed, np.where(good, tried, 1.0))
    test = (
        constant_share(passed[good], tried[good], when[good])
        if several and good.sum() > 1
        else None
    )
    lower, upper = (
        np.where(good, x, np.nan) for x in (share - interval.lower, interval.upper - share)
    )
    return Series(share, lower, upper, test), tests, shares


def _unassigned(
    hists: Hists, meta: Mapping[str, Any], region: str, rows: NDArray[np.intp]
) -> dict[str, float]:
    """Selected events and livetime of runs of no month."""
    per_month = np.asarray(_of_region(hists["monthly"], region).values(flow=True)).sum(axis=(1, 2))
    unknown = meta["months"].get("unknown") or {"livetime_s": 0.0}
    return {
        "events_of_no_month": float(per_month.sum() - per_month[rows].sum()),
        "livetime_of_no_month_s": float(unknown["livetime_s"]),
    }
