"""The results of an evaluation as rows of plain numbers, for CSV and JSON files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from models.containment import Containment
from models.performance import Performance

__all__ = ["performance_tables"]

Row = dict[str, Any]
Rows = list[Row]


def performance_tables(result: Performance) -> dict[str, Rows]:
    """Tables of an evaluation.

    Args:
        result: The evaluation.

    Returns:
        Table name to rows; every row of a table has the same keys. Values are texts, numbers and None
        (no value; where no proton is left above a cut the rejection is None and ``lower`` is a limit).
    """
    tables = {
        "counts": [{"range": name, **row} for name, row in result.counts.items()],
        "auc": _auc(result),
        "auc_difference": _differences(result),
        "rejection": _rejection(result),
        "rejection_over_zeta": _ratios(result),
        "agreement": [
            {
                "range": name,
                "score": score,
                "chi2": a.chi2,
                "ndf": a.ndf,
                "p_value": a.p_value,
                "electrons": a.electrons,
                "protons": a.protons,
            }
            for name, scores in result.agreement.items()
            for score, a in scores.items()
        ],
        "attention": [
            {
                "class": name,
                "e_min_gev": means.edges[i],
                "e_max_gev": means.edges[i + 1],
                "events": means.events[i],
                **{m: means.mean[i, k] for k, m in enumerate(result.modalities)},
                **{f"{m}_error": means.error[i, k] for k, m in enumerate(result.modalities)},
            }
            for name, means in result.attention.items()
            for i in range(means.events.size)
        ],
        "energy": _energy(result),
    }
    if result.energy is not None:
        tables["energy_pulls"] = [dataclasses.asdict(result.energy.pulls)]
    return {name: [_plain(row) for row in rows] for name, rows in tables.items() if rows}


def _auc(result: Performance) -> Rows:
    edges = result.bin_edges_gev
    parts = [
        (r.name, r.e_min_gev, r.e_max_gev, "flat in log E", result.auc[r.name])
        for r in result.ranges
    ]
    parts += [
        ("bin", edges[i], edges[i + 1], "rates", a)
        for i, a in enumerate(result.bin_auc)
        if a is not None
    ]
    return [
        {
            "range": name,
            "e_min_gev": low,
            "e_max_gev": high,
            "weights": weights,
            "score": score,
            "auc": a.of(score),
            "lower": a.interval(score)[0],
            "upper": a.interval(score)[1],
            "electrons": a.n_electrons,
            "protons": a.n_protons,
            "effective_electrons": a.effective_electrons,
            "effective_protons": a.effective_protons,
        }
        for name, low, high, weights, a in parts
        for score in result.names
    ]


def _differences(result: Performance) -> Rows:
    rows = []
    for r in result.ranges:
        for first, second in combinations(reversed(result.names), 2):
            value, low, high = result.auc[r.name].difference(first, second)
            wide = result.auc[r.name].difference(first, second, level=0.95)
            rows.append(
                {
                    "range": r.name,
                    "score": first,
                    "minus": second,
                    "difference": value,
                    "lower": low,
                    "upper": high,
                    "lower_95": wide[1],
                    "upper_95": wide[2],
                }
            )
    return rows


def _rejection(result: Performance) -> Rows:
    rows = []
    for (score, efficiency), r in result.rejections.items():
        columns = {
            k: v for k, v in ((f.name, getattr(r, f.name)) for f in dataclasses.fields(r))
            if k != "efficiency"
        }  # fmt: skip
        for i in range(r.cut.size):
            row = {"score": score, "electron_efficiency": efficiency}
            rows.append(row | {k: v[i] for k, v in columns.items()})
    return rows


def _ratios(result: Performance) -> Rows:
    edges = result.bin_edges_gev
    return [
        {
            "score": score,
            "e_min_gev": edges[i],
            "e_max_gev": edges[i + 1],
            **dataclasses.asdict(ratio),
        }
        for score, ratios in result.ratios.items()
        for i, ratio in enumerate(ratios)
        if ratio is not None
    ]


def _energy(result: Performance) -> Rows:
    if result.energy is None:
        return []
    rows: Rows = []
    pairs: tuple[tuple[str, Mapping[str, Containment]], ...] = (
        ("corrected", result.energy.before),
        ("network", result.energy.after),
    )
    for estimate, by in pairs:
        for abscissa, c in by.items():
            rows += [
                {
                    "energy": estimate,
                    "against": abscissa,
                    "low": c.edges[i],
                    "high": c.edges[i + 1],
                    **{
                        f.name: getattr(c, f.name)[i]
                        for f in dataclasses.fields(c)
                        if f.name != "edges"
                    },
                }
                for i in range(c.events.size)
            ]
    return rows


def _plain(row: Row) -> Row:
    """Python numbers, None for what is not finite."""
    out: Row = {}
    for key, value in row.items():
        plain = value.item() if hasattr(value, "item") else value
        out[key] = None if isinstance(plain, float) and not math.isfinite(plain) else plain
    return out
