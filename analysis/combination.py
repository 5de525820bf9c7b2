r"""One flux from several regions whose events are disjoint.

In each energy bin the regions share the flux :math:`\phi` and region r expects :math:`\phi X_r + b_r` counts,
:math:`X_r` being its exposure. The estimate is :math:`\hat\phi = \sum_r w_r (N_r - b_r) / X_r` with
:math:`w_r \propto X_r^2 / (\phi X_r + b_r + \sigma_{b,r}^2 + (s_r \phi X_r)^2)` and :math:`\sum_r w_r = 1`. The
variances are those *expected* under the common flux, which is found by iteration: weights from the counts
themselves would favour the region that fluctuated downwards. With :math:`\sigma_b = s = 0` this is the maximum of
the Poisson likelihood; where the background is small too, :math:`\sum (N - b) / \sum X`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.combinable import UnknownSourceError, by_region, check_alike, check_counts
from analysis.consistency import (
    Consistency,
    Counts,
    amplitudes,
    consistency,
    counts_of,
    one_sided,
)
from analysis.fluxtable import COLUMNS, FluxTable
from analysis.intervals import garwood, upper_limit

__all__ = ["UNCORRELATED", "Combination", "combine"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNCORRELATED = ("acceptance", "migration", "shift", "shift_model", "template_shape")
"""Sources that each region has for itself unless told otherwise: statistics of its simulation
(``acceptance``), of the fit of its templates (``shift``) and of what describes them (``template_shape``), the
form of the shift in its fit (``shift_model``), and its own treatment of migration (``migration``)."""

_SLACK = 2e-3  # a range typed as 1000 GeV includes the bin that starts at 999.99 GeV
_STEPS, _PRECISION = 200, 1e-12
_CARRIED = (
    "program", "inputs", "target_spectrum", "injected", "synthetic", "toy", "complete", "partial", "period",
)  # fmt: skip
_OF_SOURCE = ("flux", "score", "energy", "histograms_sha256", "ledger", "systematics")


@dataclass(frozen=True, eq=False)
class Combination:
    """The common flux of k regions in n energy bins.

    Attributes:
        table: the common flux; ``meta["combination"]`` says what it was made of, per bin.
        parts: the tables that went in.
        regions: their regions, as they are written in texts.
        used: (k, n) whether the region is in the bin.
        weights: (k, n) of the regions' fluxes, sum 1; 0 where not used.
        exposure: (k, n) acceptance × efficiency × livetime × ΔE × migration factor, m² sr s GeV; 0 in
            failed bins.
        predicted: (n,) statistical error over that of the first region that exposures alone predict,
            √(X₁ / ΣX); NaN without the first region.
        consistency: of the regions in the combined bins; None with too few events.
        below: the same in the bins below the combined ones, where only the first region is used.
    """

    table: FluxTable
    parts: tuple[FluxTable, ...]
    regions: tuple[str, ...]
    used: BoolArray
    weights: FloatArray
    exposure: FloatArray
    predicted: FloatArray
    consistency: Consistency | None
    below: Consistency | None

    @property
    def gain(self) -> FloatArray:
        """(n,) statistical error over that of the first region, mean of both sides.

        NaN where the first region has no flux or no counts: its error has one side then.
        """
        first = self.parts[0]
        some = first.success & (first.n_data > 0)
        own = np.where(some, first.dnde_errn + first.dnde_errp, np.nan)
        return np.asarray((self.table.dnde_errn + self.table.dnde_errp) / own)


def combine(
    tables: Sequence[FluxTable],
    *,
    e_min_gev: float | None = None,
    uncorrelated: Iterable[str] = (),
    correlated: Iterable[str] = (),
    other_inputs: bool = False,
) -> Combination:
    """Combine the fluxes of regions with disjoint events.

    A bin in which one table has no flux takes the others alone. Statistical errors are the Garwood interval
    of Σ c N, c = w / X, with the effective counts (Σ c N)² / Σ c² N, in which the second N is the expected
    one; background and efficiency are added in quadrature, as :func:`analysis.flux.flux` does. In a bin
    without any counts the flux is 0, as there.

    Systematic sources that regions share are added linearly, side by side; where a source moves each region
    one way only, with its sign. Sources in :data:`UNCORRELATED` are added in quadrature.

    ``n_data``, ``background_fraction``, ``acceptance`` and ``efficiency`` of the combined table describe the
    sum of the regions, with the factor in ``meta["flux"]["migration"]``; ``dnde`` is the weighted estimate, which
    differs from ``counts`` over exposure by the weights.

    Args:
        tables: two or more, the first is the reference and the only one below ``e_min_gev``.
        e_min_gev: combine bins that start at or above this energy; default all.
        uncorrelated: further sources that each region has for itself.
        correlated: sources of :data:`UNCORRELATED` that the regions share.
        other_inputs: accept tables made of different files, e.g. skims of the same events for each region.

    Returns:
        The combination.

    Raises:
        CombinationError: tables that cannot be combined; see its subclasses.
    """
    named = by_region(tables)
    check_alike(named, other_inputs=other_inputs)
    counts = counts_of(named)
    check_counts(named, counts)
    shared = _shared(tables, uncorrelated, correlated)

    first, size = tables[0], len(tables[0])
    above = np.ones(size, dtype=np.bool_)
    if e_min_gev is not None:
        above = first.e_min >= e_min_gev * (1 - _SLACK)
    used = counts.good & (above | (np.arange(len(tables)) == 0)[:, None])
    weights = _weights(counts, used)
    systematics = _systematics(tables, shared)
    table = _table(tables, named, counts, used, weights, systematics, shared)
    relative = {
        name: amplitudes(*(_relative(tables, side) for side in pair))
        for name, pair in systematics.items()
        if name != "acceptance"  # statistics of the simulation: in the variance of each bin
    }
    common = np.where(above, table.dnde, _weighted(counts, _weights(counts, counts.good)))
    everywhere = counts.good.all(axis=0)
    tests = [
        consistency(counts, common, relative, shared, everywhere & part)
        if (everywhere & part).any()
        else None
        for part in (above, ~above)
    ]
    total = np.where(used, counts.exposure, 0.0).sum(axis=0)
    predicted = np.sqrt(
        np.divide(counts.exposure[0], total, out=np.full(size, np.nan), where=used[0])
    )
    notes = {
        "regions": list(named),
        "bins": [" + ".join(r for r, u in zip(named, one, strict=True) if u) for one in used.T],
        "e_min_gev": e_min_gev,
        "weights": dict(zip(named, weights, strict=True)),
        "exposure_m2_sr_s_gev": dict(zip(named, counts.exposure, strict=True)),
        "correlated": [name for name, yes in shared.items() if yes],
        "uncorrelated": [name for name, yes in shared.items() if not yes],
        "not_evaluated": {
            region: missing
            for region, part in named.items()
            if (missing := [name for name in shared if name not in part.systematics])
        },
        "consistency": _described(tests[0]),
        "consistency_below": _described(tests[1]),
        "sources": {
            region: {k: part.meta[k] for k in _OF_SOURCE if k in part.meta}
            for region, part in named.items()
        },
    }
    table = replace(table, meta={**table.meta, "combination": notes})
    return Combination(
        table, tuple(tables), tuple(named), used, weights, counts.exposure, predicted, *tests
    )


def _shared(
    tables: Sequence[FluxTable], uncorrelated: Iterable[str], correlated: Iterable[str]
) -> dict[str, bool]:
    """Source → whether the regions share it, in the order of the tables."""
    names = list(dict.fromkeys(name for table in tables for name in table.systematics))
    apart, together = set(uncorrelated), set(correlated)
    if unknown := sorted((apart | together) - {*names}):
        msg = f"no table has the systematic source {unknown[0]!r}; they have: {', '.join(names) or 'none'}"
        raise UnknownSourceError(msg)
    if both := sorted(apart & together):
        msg = f"the source {both[0]!r} cannot be both correlated and uncorrelated"
        raise UnknownSourceError(msg)
    apart |= {*UNCORRELATED} - together
    return {name: name not in apart for name in names}


def _systematics(
    tables: Sequence[FluxTable], names: Iterable[str]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Source → errors downwards and upwards, (k, n) each; 0 where a region has none."""
    zero = np.zeros(len(tables[0]))
    out = {}
    for name in names:
        pairs = [table.systematics.get(name, (zero, zero)) for table in tables]
        low, high = (np.nan_to_num(np.stack([pair[side] for pair in pairs])) for side in (0, 1))
        out[name] = low, high
    return out


def _weights(counts: Counts, used: BoolArray) -> FloatArray:
    """Weights of the fluxes of the regions, (k, n): the variances of each are those of the common flux."""
    exposure = np.where(used, counts.exposure, 0.0)
    flux = _weighted(counts, _normalised(exposure))
    least = 1.0 / np.where(used.any(axis=0), exposure.sum(axis=0), np.inf)  # one event
    weights = exposure
    for _ in range(_STEPS):
        signal = np.maximum(flux, least) * exposure
        variance = signal + counts.background + counts.background_error**2
        variance = variance + (counts.simulation * signal) ** 2
        weights = _normalised(exposure**2 / np.where(variance > 0, variance, 1.0))
        step = _weighted(counts, weights) - flux
        if (np.abs(step) <= _PRECISION * np.maximum(np.abs(flux), least)).all():
            break
        flux = flux + step / 2  # half a step: never swings
    return weights


def _normalised(values: FloatArray) -> FloatArray:
    """Columns of sum 1, those of zeros as they are."""
    total = values.sum(axis=0)
    return np.asarray(values / np.where(total > 0, total, 1.0))


def _weighted(counts: Counts, weights: FloatArray) -> FloatArray:
    """Weighted flux, (n,)."""
    used = weights > 0
    share = np.where(used, weights, 0.0) / np.where(used, counts.exposure, 1.0)
    return np.asarray((share * (counts.n - counts.background)).sum(axis=0))


def _relative(tables: Sequence[FluxTable], errors: FloatArray) -> FloatArray:
    """Relative errors, (k, n); where a region has no positive flux, those of its neighbouring bins."""
    out = np.zeros_like(errors)
    for r, table in enumerate(tables):
        good = table.success & (table.dnde > 0)
        if good.any():
            x = np.log(table.e_ref)
            out[r] = np.interp(x, x[good], errors[r][good] / table.dnde[good])
    return out


def _table(
    tables: Sequence[FluxTable],
    named: Mapping[str, FluxTable],
    counts: Counts,
    used: BoolArray,
    weights: FloatArray,
    systematics: Mapping[str, tuple[FloatArray, FloatArray]],
    shared: Mapping[str, bool],
) -> FluxTable:
    """The combined table; bins of one region are copied from it."""
    first = tables[0]
    good: BoolArray = np.asarray(used.any(axis=0))
    share = weights / np.where(used, counts.exposure, 1.0)
    n, background = (np.where(used, x, 0.0) for x in (counts.n, counts.background))
    total = n.sum(axis=0)
    some = total > 0
    flux = np.where(some, (share * (n - background)).sum(axis=0), 0.0)
    expected = np.maximum(flux, 0.0) * np.where(used, counts.exposure, 0.0) + background
    # Events of a weight: exact for equal ones. The bare exposure where nothing is expected either.
    expected = np.where(expected.sum(axis=0) > 0, expected, weights)
    norm = np.where(good, (share * expected).sum(axis=0), 1.0)
    unit = np.where(good, (share**2 * expected).sum(axis=0) / norm, 1.0)
    stretch = np.where(
        good, (counts.stretch**2 * share**2 * expected).sum(axis=0) / (unit * norm), 1
    )
    effective = (share * n).sum(axis=0) / unit
    level, ul_level = (first.meta[rule]["level"] for rule in ("errors", "upper_limit"))
    ends = garwood(effective, level)
    fluxes = np.stack([np.nan_to_num(t.dnde) for t in tables])
    columns = {name: np.stack([getattr(t, name) for t in tables]) for name in COLUMNS}
    columns["efficiency_err"] = np.where(used, columns["efficiency_err"], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(used, columns["efficiency_err"] / columns["efficiency"], 0.0)
    error = np.where(some, counts.background_error, 0.0)
    other = ((share * error) ** 2 + (weights * fluxes * relative) ** 2).sum(axis=0)
    below = np.maximum((share * background).sum(axis=0), 0.0) / unit

    area, efficiency, err = (
        np.where(used, columns[name], 0.0)
        for name in ("acceptance", "efficiency", "acceptance_err")
    )
    areas = np.where(good, area.sum(axis=0), 1.0)
    mean = np.where(good, (area * efficiency).sum(axis=0) / areas, 1.0)
    bare = areas * mean * first.livetime * (first.e_max - first.e_min)
    divisor = np.where(some, total, np.nan)
    fraction = background.sum(axis=0) / divisor
    whole = np.where(n > 0, np.nan_to_num(columns["background_fraction_err"]) * n, error)
    new = {
        "dnde": flux,
        "dnde_errn": np.sqrt(stretch * (unit * (effective - ends.lower)) ** 2 + other),
        "dnde_errp": np.sqrt(stretch * (unit * (ends.upper - effective)) ** 2 + other),
        "dnde_ul": unit * upper_limit(effective, below, ul_level),
        "n_data": total,
        "counts": np.where(some, total - background.sum(axis=0), 0.0) / mean,
        "background_fraction": fraction,
        "background_fraction_err": np.sqrt((np.where(used, whole, 0.0) ** 2).sum(axis=0)) / divisor,
        "efficiency": mean,
        "efficiency_err": np.sqrt(((area * columns["efficiency_err"]) ** 2).sum(axis=0)) / areas,
        "acceptance": areas,
        "acceptance_err": np.sqrt((err**2).sum(axis=0)),
    }
    alone = used.sum(axis=0) <= 1
    source = np.argmax(used, axis=0)
    one = {name: np.take_along_axis(columns[name], source[None], 0)[0] for name in COLUMNS}
    kept = {name: np.where(alone, one[name], new.get(name, one[name])) for name in COLUMNS}
    exposure = np.where(used, counts.exposure, 0.0).sum(axis=0)
    factor = np.where(good, exposure / bare, np.nan)
    return FluxTable(
        **kept,
        success=good,
        systematics={
            name: _added(*pair, weights, used, together=shared[name])
            for name, pair in systematics.items()
        },
        meta=_meta(named, used, factor),
    )


def _added(
    low: FloatArray, high: FloatArray, weights: FloatArray, used: BoolArray, *, together: bool
) -> tuple[FloatArray, FloatArray]:
    """One source of all regions, downwards and upwards."""
    down, up = (np.where(used, weights * side, 0.0) for side in (low, high))
    if together:
        net = (up - down).sum(axis=0)
        signed = one_sided(down, up)
        sides = (
            np.where(signed, np.maximum(-net, 0.0), down.sum(axis=0)),
            np.where(signed, np.maximum(net, 0.0), up.sum(axis=0)),
        )
    else:
        sides = np.sqrt((down**2).sum(axis=0)), np.sqrt((up**2).sum(axis=0))
    good = used.any(axis=0)
    return np.where(good, sides[0], np.nan), np.where(good, sides[1], np.nan)


def _meta(named: Mapping[str, FluxTable], used: BoolArray, factor: FloatArray) -> dict[str, Any]:
    """Metadata as of any flux table."""
    whole = next(iter(named.values()))
    first = whole.meta
    fluxes = {region: table.meta["flux"] for region, table in named.items()}
    toys = {region: table.meta.get("toy") for region, table in named.items()}
    failed = []
    why = [{f["bin"]: f["reason"] for f in t.meta.get("failed_bins", [])} for t in named.values()]
    for bad in np.flatnonzero(~used.any(axis=0)).tolist():
        said = {r: w.get(bad, "no flux") for r, w in zip(named, why, strict=True)}
        if len(set(said.values())) == 1:
            said = {" and ".join(named): next(iter(said.values()))}
        reason = "; ".join(f"{region}: {text}" for region, text in said.items())
        low, high = (float(getattr(whole, edge)[bad]) for edge in ("e_min", "e_max"))
        failed.append({"bin": bad, "e_min_gev": low, "e_max_gev": high, "reason": reason})
    limited = [
        i
        for i in range(used.shape[1])
        if any(
            u[i] and i in f.get("background_mc_limited_bins", [])
            for u, f in zip(used, fluxes.values(), strict=True)
        )
    ]
    return {
        **{key: first[key] for key in _CARRIED if key in first},
        **({"toy": toys} if first.get("toy") else {}),
        "flux": {
            "region": " + ".join(named),
            **{k: next(iter(fluxes.values())).get(k) for k in ("edge_cut", "bgo_reconstruction")},
            "score": ", ".join(dict.fromkeys(str(f.get("score")) for f in fluxes.values())),
            "method": "combination",
            "migration": {"method": "combination", "factor": factor},
            "background_mc_limited_bins": limited,
        },
        "e_ref": first.get("e_ref"),
        "errors": {
            "level": first["errors"]["level"],
            "method": "Garwood on effective counts, background and efficiency in quadrature",
        },
        "upper_limit": first["upper_limit"],
        "failed_bins": failed,
    }


def _described(found: Consistency | None) -> dict[str, Any] | None:
    """The test as metadata."""
    return None if found is None else {**vars(found), "p_value": found.p_value}
