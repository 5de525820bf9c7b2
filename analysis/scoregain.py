"""Scores on the same events: protons that are left at equal electron efficiency, from the histograms of one run.

A run fills ``score`` and ``score_<name>`` with the same selected events. In every energy bin each score is cut where
it keeps the wanted share of the electrons; the cut lies where the cumulative of the electrons, straight inside a
score bin, has this share, and the protons above it are taken the same way. Energy bins are then added up, so
that a range of energies needs no common cut. Weights are rates under the target fluxes of the simulation.

Errors: effective counts of the protons above the cut, enlarged by the error of the cut from the finite
number of electrons. Where no proton is left, limits of 95 %, an effective proton having the weight Σw²/Σw of the ten
that come next. Two scores judge the same protons, so what they leave is positively correlated; the histograms do
not know it, and the interval of a ratio is that of independent counts: too wide, never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hist import Hist
from numpy.typing import NDArray

from analysis.exceptions import AnalysisError, HistogramMismatchError
from analysis.intervals import clopper_pearson, garwood
from analysis.templates import Template, template

__all__ = [
    "EFFICIENCIES",
    "LIMIT_LEVEL",
    "Ranged",
    "ScoreBackground",
    "either_side",
    "equal_efficiency",
    "gain",
    "gain_table",
    "score_templates",
    "thirds_of_decades",
]

FloatArray = NDArray[np.float64]
Groups = Sequence[NDArray[np.intp]]

#: Electron efficiencies at which scores are held against each other.
EFFICIENCIES = (0.8, 0.9, 0.95, 0.99)
#: Confidence level of one-sided limits.
LIMIT_LEVEL = 0.95
_FEWEST = 20.0  # effective electrons without which an energy bin has no cut
_NEXT = 10.0  # effective protons that say which weight the next one would have


class Ranged(NamedTuple):
    """A number with its interval: 68.27 % central, or a one-sided 95 % limit where no proton is left.

    Attributes:
        value: 0 or inf where only a limit is known, NaN where nothing is.
        lower: lower end; the limit where ``value`` is inf.
        upper: upper end; the limit where ``value`` is 0.
    """

    value: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, eq=False)
class ScoreBackground:
    """Protons above one score at equal electron efficiencies, g energy ranges and k efficiencies.

    Attributes:
        name: of the score.
        e_min: (g,) lower edges of the ranges, GeV, of the energy bins that were used.
        e_max: (g,) upper edges, GeV.
        efficiency: (k,) electron efficiencies.
        electrons: (g,) all selected electrons, s⁻¹ under the target flux.
        total: (g,) all selected protons, s⁻¹.
        protons: (g, k) those above the cuts, s⁻¹; NaN where the score cannot be cut at this efficiency.
        effective: (g, k) their effective number, smaller by the error of the cut.
        weight: (g, k) s⁻¹ of an effective proton; where none is left, of those that come next.
    """

    name: str
    e_min: FloatArray
    e_max: FloatArray
    efficiency: FloatArray
    electrons: FloatArray
    total: FloatArray
    protons: FloatArray
    effective: FloatArray
    weight: FloatArray

    def rate(self) -> Ranged:
        """Protons above the cuts with their interval, (g, k), s⁻¹."""
        n = np.nan_to_num(self.effective)
        ends = garwood(n)
        none = self.protons == 0
        upper = np.where(none, -math.log(1 - LIMIT_LEVEL), ends.upper) * self.weight
        lower = np.where(none, 0.0, ends.lower) * self.weight
        return Ranged(self.protons, lower, upper)

    def share(self) -> Ranged:
        """Share of the selected protons that is left, (g, k)."""
        value, low, high = self.rate()
        total = self.total[:, None]
        return Ranged(value / total, low / total, np.minimum(high / total, 1.0))

    def background_fraction(self) -> Ranged:
        """Protons over all events above the cuts under the target fluxes, (g, k)."""
        signal = self.electrons[:, None] * self.efficiency
        return Ranged(*(x / (x + signal) for x in self.rate()))


def score_templates(
    hists: Mapping[str, Hist[Any]], meta: Mapping[str, Any], region: str
) -> dict[str, tuple[Template, Template]]:
    """Electron and proton templates of all scores of a file.

    Args:
        hists: histograms of :func:`analysis.selection.project`.
        meta: its metadata; ``score`` names the score of the histogram ``score``.
        region: ``fiducial`` or ``topfiducial``.

    Returns:
        Name of the score to both templates; the score of the card first.

    Raises:
        HistogramMismatchError: a histogram has other axes.
    """
    named = {str((meta.get("score") or {}).get("name", "score")): "score"}
    for name, h in hists.items():
        if name.startswith("score_") and "omega" in h.axes.name and "spectrum" not in h.axes.name:
            named.setdefault(name.removeprefix("score_"), name)
    return {
        score: (template(hists[h], "electron", region), template(hists[h], "proton", region))
        for score, h in named.items()
    }


def thirds_of_decades(edges: FloatArray) -> list[NDArray[np.intp]]:
    """Energy bins grouped by the third of a decade in which their centre lies.

    Args:
        edges: (n + 1,) energy edges, GeV.

    Returns:
        Numbers of the bins of each group, ascending.
    """
    third = np.floor(3 * np.log10(edges[:-1] * edges[1:]) / 2 + 1e-9)
    return [np.flatnonzero(third == t) for t in np.unique(third)]


def either_side(edges: FloatArray, energy_gev: float = 1000.0) -> list[NDArray[np.intp]]:
    """Energy bins with their centres below and above an energy; a side without bins is left out.

    Args:
        edges: (n + 1,) energy edges, GeV.
        energy_gev: the energy between them.

    Returns:
        Numbers of the bins of each group.
    """
    above = np.sqrt(edges[:-1] * edges[1:]) > energy_gev
    return [g for g in (np.flatnonzero(~above), np.flatnonzero(above)) if g.size]


def equal_efficiency(
    scores: Mapping[str, tuple[Template, Template]],
    groups: Groups,
    *,
    efficiencies: Sequence[float] = EFFICIENCIES,
) -> dict[str, ScoreBackground]:
    """Protons that every score leaves at the same electron efficiencies, on the same events.

    Events are those of the first score; one that another score does not have (a network outside its range) fails
    the cut of that score. Energy bins with fewer than 20 effective electrons or without protons are left
    out of their range, ranges without a bin too.

    Args:
        scores: name to electron and proton template, the score of the card first.
        groups: numbers of the energy bins of each range.
        efficiencies: electron efficiencies, inside (0, 1).

    Returns:
        Name to its protons.

    Raises:
        AnalysisError: no score, or an efficiency outside (0, 1).
        HistogramMismatchError: energy bins differ.
    """
    wanted = np.asarray(efficiencies, np.float64)
    if not scores or not ((wanted > 0) & (wanted < 1)).all():
        msg = f"scores are compared at efficiencies inside (0, 1), got {list(efficiencies)} for {len(scores)} scores"
        raise AnalysisError(msg)
    electrons, protons = next(iter(scores.values()))
    edges = electrons.energy_edges
    if any(not np.array_equal(t.energy_edges, edges) for pair in scores.values() for t in pair):
        msg = "the scores have different energy bins: take them from one file"
        raise HistogramMismatchError(msg)
    e, e2 = electrons.total()
    p = protons.total().value
    used = (e**2 / np.where(e2 > 0, e2, np.inf) >= _FEWEST) & (p > 0)
    chosen = [g[used[g]] for g in groups if used[g].any()]
    common: dict[str, Any] = {
        "e_min": np.array([edges[g[0]] for g in chosen]),
        "e_max": np.array([edges[g[-1] + 1] for g in chosen]),
        "efficiency": wanted,
        "electrons": np.array([e[g].sum() for g in chosen]),
        "total": np.array([p[g].sum() for g in chosen]),
    }
    out = {}
    for name, pair in scores.items():
        rows = [_group(*pair, g, e, wanted) for g in chosen]
        columns = np.array(rows, np.float64).reshape(-1, 3, wanted.size).transpose(1, 0, 2)
        out[name] = ScoreBackground(name, **common, **dict(zip(_COLUMNS, columns, strict=True)))
    return out


def gain(better: ScoreBackground, other: ScoreBackground) -> Ranged:
    r"""Background of another score over that of this one at equal efficiency, (g, k).

    Of :math:`n = n_1 + n_2` independent Poisson counts the share :math:`n_1/n` is binomial, whose interval
    (Clopper and Pearson) becomes that of the ratio of the means (J. Przyborowski and H. Wilenski, Biometrika 31
    (1940) 313), scaled with the weights of an effective proton.

    Args:
        better: the score whose gain it is.
        other: the score that it is held against, in the same ranges.

    Returns:
        The ratio; inf with a lower limit where the better score leaves no proton, NaN where neither does.

    Raises:
        HistogramMismatchError: ranges or efficiencies differ.
    """
    if not all(
        np.array_equal(getattr(better, n), getattr(other, n))
        for n in ("e_min", "e_max", "efficiency")
    ):
        msg = "a gain needs two scores in the same energy ranges at the same efficiencies"
        raise HistogramMismatchError(msg)
    known = np.isfinite(better.protons) & np.isfinite(other.protons)
    known &= (better.protons > 0) | (other.protons > 0)
    n1, n2 = (np.where(known, x.effective, 0.0) for x in (other, better))
    scale = other.weight / np.where(better.weight > 0, better.weight, np.nan)
    limited = known & ((better.protons == 0) | (other.protons == 0))
    central, one_sided = (
        clopper_pearson(n1, n1 + n2),
        clopper_pearson(n1, n1 + n2, 2 * LIMIT_LEVEL - 1),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (
            scale * x / (1 - x)
            for x in (np.where(limited, a, b) for a, b in zip(one_sided, central, strict=True))
        )
        value = other.protons / better.protons
    return Ranged(*(np.where(known, x, np.nan) for x in (value, low, high)))


def gain_table(
    parts: Sequence[Mapping[str, ScoreBackground]], better: str, *, note: str = ""
) -> str:
    """All numbers as CSV.

    Args:
        parts: of :func:`equal_efficiency`, one per set of energy ranges.
        better: the score whose gain over the others is given.
        note: first comment line, such as that the data are synthetic.

    Returns:
        Text of the file.
    """
    lines = [f"# {note}"] if note else []
    lines += [
        (
            "# simulated protons left at equal electron efficiency under the target fluxes; intervals 68.27 %, "
            "where no proton is left one-sided 95 % limits (0 with upper end, inf with lower end)"
        ),
        (
            f"# gain: background of the score over that of {better}; its interval is that of independent samples and "
            "so too wide: the events are the same"
        ),
        (
            "e_min_gev,e_max_gev,efficiency,score,effective_protons,proton_share,proton_share_low,proton_share_high,"
            "background_fraction,background_fraction_low,background_fraction_high,gain,gain_low,gain_high"
        ),
    ]
    for part in parts:
        for name, b in part.items():
            columns = [*b.share(), *b.background_fraction()]
            if name != better:
                columns += [*gain(part[better], b)]
            for i, k in np.ndindex(*b.protons.shape):
                start = f"{b.e_min[i]:.6g},{b.e_max[i]:.6g},{b.efficiency[k]:g},{name},{b.effective[i, k]:.4g}"
                words = [f"{c[i, k]:.4g}" for c in columns] + [""] * (9 - len(columns))
                lines.append(",".join([start, *words]))
    return "\n".join(lines) + "\n"


_COLUMNS = ("protons", "effective", "weight")


def _group(
    electrons: Template,
    protons: Template,
    bins: NDArray[np.intp],
    every: FloatArray,
    wanted: FloatArray,
) -> FloatArray:
    """Protons, effective number and weight of one, (3, k), summed over energy bins."""
    value, variance = np.zeros(wanted.size), np.zeros(wanted.size)
    grid = np.linspace(0.01, 1.0, 100)
    roc = np.zeros((2, grid.size))
    for i in bins:
        above = _Above(electrons, protons, int(i), float(every[i]))
        p, v, error = above.at(wanted)
        value, variance = value + p, variance + v + error**2
        roc += np.nan_to_num(above.at(np.minimum(grid, above.most))[:2])
    p_all, v_all = protons.total()
    sums = np.column_stack([roc, [p_all[bins].sum(), v_all[bins].sum()]])
    reached = sums[0] ** 2 / np.where(sums[1] > 0, sums[1], np.inf)
    at = int(np.argmax(reached >= min(_NEXT, reached[-1])))
    following = sums[1, at] / sums[0, at] if sums[0, at] > 0 else math.nan
    some = value > 0
    weight = np.where(some, variance, 0.0) / np.where(some, value, 1.0)
    effective = np.where(some, value**2 / np.where(some, variance, 1.0), 0.0)
    bad = ~np.isfinite(value)
    return np.stack(
        [
            value,
            np.where(bad, np.nan, effective),
            np.where(some, weight, np.where(bad, np.nan, following)),
        ]
    )


class _Above:
    """Protons of one energy bin above the cut of any electron efficiency."""

    def __init__(self, electrons: Template, protons: Template, row: int, every: float) -> None:
        # sums above each edge of the score, the highest edge first
        self._electrons, self._squares, self._protons, self._variance = (
            np.cumsum(x[row, ::-1])[:-1]
            for x in (electrons.values, electrons.variances, protons.values, protons.variances)
        )
        self._every = every
        self._all_squares = float(electrons.variances[row].sum())
        self.most = float(self._electrons[-1] / every)

    def at(self, efficiency: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Σw, Σw² and the error from the cut; NaN where the cut would lie beyond the axis."""
        value = self._interpolated(self._protons, efficiency)
        squares = self._interpolated(self._squares, efficiency)
        rest = np.maximum(self._all_squares - squares, 0.0)
        error = np.sqrt((1 - efficiency) ** 2 * squares + efficiency**2 * rest) / self._every
        ends = (
            self._interpolated(
                self._protons,
                np.clip(efficiency + s * error, self._electrons[0] / self._every, self.most),
            )
            for s in (1, -1)
        )
        high, low = ends
        return value, self._interpolated(self._variance, efficiency), (high - low) / 2

    def _interpolated(self, sums: FloatArray, efficiency: FloatArray) -> FloatArray:
        at = efficiency * self._every
        for end in self._electrons[[0, -1]]:  # an end may come back rounded to beyond itself
            at = np.where(np.isclose(at, end, rtol=1e-12, atol=0.0), end, at)
        return np.asarray(np.interp(at, self._electrons, sums, left=np.nan, right=np.nan))
