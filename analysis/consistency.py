"""Do two regions, which see disjoint events, measure the same flux?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.fluxtable import FluxTable
from analysis.intervals import ONE_SIGMA, garwood

__all__ = ["Consistency", "Counts", "amplitudes", "consistency", "counts_of", "one_sided"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_ENOUGH = 5.0  # counts that each region must expect in a group of bins


@dataclass(frozen=True, eq=False)
class Counts:
    """What flux tables say in counts; arrays of shape (k, n) for k regions and n energy bins.

    Attributes:
        regions: names of the regions.
        e_min: (n,) lower edges, GeV.
        e_max: (n,) upper edges, GeV.
        n: counts above the score cut.
        background: expected background among them.
        background_error: its error without that of the fitted shift, which is ``sys_shift``.
        exposure: acceptance × efficiency × livetime × ΔE × migration factor, m² sr s GeV; 0 in failed bins.
        simulation: relative error of the exposure by statistics of the simulation.
        stretch: statistical error of the table over that of its counts; 1 but for folded tables.
        good: bins with a flux.
    """

    regions: tuple[str, ...]
    e_min: FloatArray
    e_max: FloatArray
    n: FloatArray
    background: FloatArray
    background_error: FloatArray
    exposure: FloatArray
    simulation: FloatArray
    stretch: FloatArray
    good: BoolArray


@dataclass(frozen=True, eq=False)
class Consistency:
    r"""Regions against the first one; k regions, g groups of neighbouring bins.

    Attributes:
        regions: names; the first is the reference.
        e_min: (g,) lower edges of the groups, GeV.
        e_max: (g,) upper edges, GeV.
        expected: (k, g) counts expected under the common flux, background included.
        ratio: (k − 1, g) flux of the region over that of the first.
        ratio_stat: its statistical error, from the counts expected under the common flux.
        ratio_sys: what systematic errors add; of sources that both regions share the difference.
        pull: (k − 1, g) difference of the fluxes over its error, all errors.
        chi2: of all differences, with the correlation of systematic errors between the groups.
        chi2_stat: the same without systematic errors.
        ndf: (k − 1) g.
        total_ratio: (k − 1,) ratio of the fluxes over all bins.
        total_stat: its statistical error.
        total_sys: what systematic errors add.
    """

    regions: tuple[str, ...]
    e_min: FloatArray
    e_max: FloatArray
    expected: FloatArray
    ratio: FloatArray
    ratio_stat: FloatArray
    ratio_sys: FloatArray
    pull: FloatArray
    chi2: float
    chi2_stat: float
    ndf: int
    total_ratio: FloatArray
    total_stat: FloatArray
    total_sys: FloatArray

    @property
    def p_value(self) -> float:
        """Probability of a larger χ²; NaN without a group."""
        return float(stats.chi2.sf(self.chi2, self.ndf)) if self.ndf else float("nan")


def counts_of(tables: Mapping[str, FluxTable]) -> Counts:
    """Counts, background and exposure that flux tables were made of.

    A bin without counts has no background fraction. Its background is that of the neighbours: background
    over exposure × E⁻³, linear in ln E between the bins with counts, constant beyond them. The error of
    folded tables is larger than that of the counts, because neighbouring bins share events; ``stretch``
    keeps the factor.

    Args:
        tables: region → flux table, all with the same bins.

    Returns:
        The counts.
    """
    parts = [_counts(table) for table in tables.values()]
    columns = [np.stack(column) for column in zip(*parts, strict=True)]
    first = next(iter(tables.values()))
    n, background, error, exposure, simulation, stretch = columns
    good = np.stack([table.success for table in tables.values()])
    return Counts(
        tuple(tables), first.e_min, first.e_max, n, background, error, exposure, simulation, stretch, good
    )  # fmt: skip


def _counts(table: FluxTable) -> tuple[FloatArray, ...]:
    """Columns of one region as in :class:`Counts`."""
    good, flux = table.success, table.meta.get("flux") or {}
    migration = flux.get("migration") or {}
    recorded = migration.get("factor")
    factor = np.ones(len(table)) if recorded is None else np.array(recorded, np.float64)
    area = table.efficiency * table.acceptance * factor
    exposure = np.where(good, area * table.livetime * (table.e_max - table.e_min), 0.0)
    n = np.where(good, table.n_data, 0.0)
    some = good & (n > 0)
    x, unit = np.log(table.e_ref), exposure * table.e_ref**-3.0
    background, whole = (
        _where_known(x, fraction * n, unit, some) * good
        for fraction in (table.background_fraction, table.background_fraction_err)
    )
    zero = np.zeros(len(table))
    shift = np.mean(table.systematics.get("shift", (zero, zero)), axis=0) * exposure
    error = np.sqrt(np.maximum(whole**2 - np.where(some, shift, 0.0) ** 2, 0.0))

    excess = np.where(some, n - background, 0.0)
    scale = np.where(good, exposure, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        simulated = np.where(good, table.acceptance_err / table.acceptance, 0.0)
        efficiency = np.where(good, table.efficiency_err / table.efficiency, 0.0)
    own = np.mean(table.systematics.get("acceptance", (zero, zero)), axis=0)
    positive = good & (table.dnde > 0)
    simulated = np.where(positive & (own > 0), own / np.where(positive, table.dnde, 1.0), simulated)

    other = np.where(some, error, 0.0) ** 2 + (efficiency * excess) ** 2
    ends = garwood(n, (table.meta.get("errors") or {}).get("level", ONE_SIGMA))
    plain = sum(np.sqrt(d**2 + other) for d in (n - ends.lower, ends.upper - n)) / scale
    stretch = np.where(good, (table.dnde_errn + table.dnde_errp) / plain, 1.0)
    return n, background, error, exposure, np.hypot(simulated, efficiency), stretch


def _where_known(
    x: FloatArray, value: FloatArray, unit: FloatArray, known: BoolArray
) -> FloatArray:
    """A column where it is known; elsewhere value / unit interpolated in x, 0 if it is nowhere known."""
    if not known.any():
        return np.zeros(x.size)
    between = np.interp(x, x[known], value[known] / unit[known]) * unit
    return np.where(known, value, between)


def one_sided(low: FloatArray, high: FloatArray) -> BoolArray:
    """Bins where a source moves each region one way only, (n,).

    It is then one variation, and the sides say its sign in each region.

    Args:
        low: (k, n) errors downwards.
        high: (k, n) errors upwards.

    Returns:
        (n,) flags.
    """
    return np.asarray((np.minimum(low, high) == 0).all(axis=0))


def amplitudes(low: FloatArray, high: FloatArray) -> FloatArray:
    """One standard deviation of a source in each region, with its sign where both sides say it.

    Args:
        low: (k, n) errors downwards.
        high: (k, n) errors upwards.

    Returns:
        (k, n); the larger side, negative where all regions are moved one way and this one downwards.
    """
    sign = np.where(one_sided(low, high) & (low > high), -1.0, 1.0)
    return np.asarray(sign * np.maximum(low, high))


def consistency(
    counts: Counts,
    flux: FloatArray,
    systematics: Mapping[str, FloatArray],
    correlated: Mapping[str, bool],
    bins: BoolArray,
) -> Consistency | None:
    r"""Hold the fluxes of the regions against each other.

    In a group of bins the flux of region r relative to the common one :math:`\phi` is
    :math:`\rho_r = \sum (N_r - b_r) / \sum \phi X_r`. Its variance is that *expected* under the common
    flux, :math:`\sum (\phi X_r + b_r + \sigma_b^2 + (s\,\phi X_r)^2)` over the square of the denominator,
    so that a region with few counts has no small error. A systematic source that regions share moves
    :math:`\rho_r - \rho_1` by the difference of the two relative shifts, others by each shift. Groups are
    made from low energies upwards, until each region expects five counts; what is left joins the last.

    Args:
        counts: of the regions.
        flux: (n,) common flux, GeV⁻¹ m⁻² s⁻¹ sr⁻¹.
        systematics: source → (k, n) relative error with sign.
        correlated: source → whether the regions share it.
        bins: (n,) bins to use; each must be good in all regions.

    Returns:
        The comparison; None if the bins all together are too few for one group.
    """
    chosen = np.flatnonzero(bins)
    signal = np.maximum(np.nan_to_num(flux), 0.0) * counts.exposure
    expected = signal + counts.background
    groups = _groups(signal[:, chosen], expected[:, chosen], chosen)
    if not groups:
        return None
    ratio, stat, sys, pull, chi2, chi2_stat = _differences(
        counts, signal, systematics, correlated, groups
    )
    total = _differences(counts, signal, systematics, correlated, [chosen])
    return Consistency(
        regions=counts.regions,
        e_min=np.array([counts.e_min[g[0]] for g in groups]),
        e_max=np.array([counts.e_max[g[-1]] for g in groups]),
        expected=np.stack([expected[:, g].sum(axis=1) for g in groups], axis=1),
        ratio=ratio,
        ratio_stat=stat,
        ratio_sys=sys,
        pull=pull,
        chi2=chi2,
        chi2_stat=chi2_stat,
        ndf=ratio.size,
        total_ratio=total[0][:, 0],
        total_stat=total[1][:, 0],
        total_sys=total[2][:, 0],
    )


def _groups(
    signal: FloatArray, expected: FloatArray, bins: NDArray[np.intp]
) -> list[NDArray[np.intp]]:
    """Neighbouring bins in which each region expects enough, signal among it."""
    groups: list[list[int]] = []
    start = 0
    for stop in range(1, bins.size + 1):
        enough = expected[:, start:stop].sum(axis=1) >= _ENOUGH
        if enough.all() and signal[:, start:stop].any():
            groups.append(bins[start:stop].tolist())
            start = stop
    open_group = bins[start:].tolist()
    if groups:
        groups[-1] += open_group
    return [np.array(group) for group in groups]


def _differences(
    counts: Counts,
    signal: FloatArray,
    systematics: Mapping[str, FloatArray],
    correlated: Mapping[str, bool],
    groups: list[NDArray[np.intp]],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, float, float]:
    """Ratios, their errors and pulls, (k − 1, g) each; χ² with and without systematic errors."""

    def summed(values: FloatArray) -> FloatArray:
        return np.stack([values[:, g].sum(axis=1) for g in groups], axis=1)

    total = summed(signal)
    relative = summed(counts.n - counts.background) / total
    square = counts.stretch**2 * (signal + counts.background) + counts.background_error**2
    variance = summed(square + (counts.simulation * signal) ** 2) / total**2

    regions, size = relative.shape
    own = np.eye(regions - 1) * variance[1:].T[:, None, :]
    blocks = own + variance[0][:, None, None]  # of each group: all share the first region
    steps = [np.zeros((size, regions - 1))]
    for name, shift in systematics.items():
        moved = summed(signal * shift) / total
        alone = [moved] if correlated[name] else [moved * row[:, None] for row in np.eye(regions)]
        steps += [(one[1:] - one[0]).T for one in alone]
    step = np.stack(steps, axis=-1)  # (g, k − 1, sources): each moves all groups together

    difference = (relative[1:] - relative[0]).T
    solved = np.linalg.solve(blocks, np.concatenate([difference[..., None], step], axis=-1))
    without = float(np.sum(difference * solved[..., 0]))
    # The inverse of blocks + step stepᵀ by that of the blocks (Woodbury).
    along = np.einsum("gks,gk->s", step, solved[..., 0])
    inner = np.eye(along.size) + np.einsum("gks,gkt->st", step, solved[..., 1:])
    chi2 = without - float(along @ np.linalg.solve(inner, along))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = relative[1:] / relative[0]
    stat = np.sqrt(np.diagonal(blocks, axis1=1, axis2=2)).T
    sys = np.sqrt((step**2).sum(axis=-1)).T
    pull = difference.T / np.hypot(stat, sys)
    return ratio, stat, sys, pull, chi2, without
