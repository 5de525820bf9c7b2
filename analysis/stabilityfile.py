"""The stability of a run as text: a table per month, and a JSON file with the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from analysis.fluxtable import plain
from analysis.stability import Stability

__all__ = ["SCHEMA", "stability_json", "stability_table"]

SCHEMA = "cre-stability/1"
_SERIES = {
    "rate": "s-1",
    "control_rate": "s-1",
    "efficiency": "",
    "flux": "m-2 s-1 sr-1",
}


def stability_table(found: Stability, label: str) -> str:
    """CSV with one line per month.

    Args:
        found: The months.
        label: First line of the head, such as what the data are; may be empty.

    Returns:
        The text, with units in its head.
    """
    columns = ["month", "mean_met_s", "livetime_s", "above", "control"]
    columns += [f"{name}{end}" for name in _SERIES for end in ("", "_errn", "_errp")]
    columns += [f"efficiency_{cut}" for cut in found.cut_efficiency]
    units = ", ".join(f"{name} in {unit}" for name, unit in _SERIES.items() if unit)
    lines = [f"# {label}"] * bool(label) + [f"# {units}", ",".join(columns)]
    for i, month in enumerate(found.months):
        numbers = [found.mean_s[i], found.livetime_s[i], found.above[i], found.control[i]]
        for name in _SERIES:
            series = getattr(found, name)
            numbers += [series.value[i], series.lower[i], series.upper[i]]
        numbers += [share[i] for share in found.cut_efficiency.values()]
        lines.append(",".join([month, *(f"{x:.9g}" for x in numbers)]))
    return "\n".join(lines) + "\n"


def stability_json(found: Stability, head: Mapping[str, Any]) -> str:
    """The same with the tests, as JSON; NaN is null.

    Args:
        found: The months.
        head: What the data are and where they come from.
    """
    content = {
        "schema": SCHEMA,
        **head,
        **found.notes,
        "tests": {
            name: asdict(getattr(found, name).test)
            for name in _SERIES
            if getattr(found, name).test is not None
        },
        "cuts": {name: asdict(test) for name, test in found.cuts.items()},
        "months": [
            {
                "month": month,
                "mean_met_s": found.mean_s[i],
                "livetime_s": found.livetime_s[i],
                "above": found.above[i],
                "control": found.control[i],
                **{
                    name: [getattr(found, name).value[i], getattr(found, name).lower[i],
                           getattr(found, name).upper[i]]
                    for name in _SERIES
                },
            }
            for i, month in enumerate(found.months)
        ],
    }  # fmt: skip
    return json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n"
