"""The study of a spectral break: all fits of a flux, their significance, and what is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from analysis.exceptions import AnalysisError
from analysis.plots.breaks import plot_break_fits, plot_break_profiles, plot_break_toys
from analysis.spectrum.cost import METHODS, FitOptions
from analysis.spectrum.data import BreakData, select
from analysis.spectrum.fit import BreakFit, contour, fit, profile
from analysis.spectrum.models import spectral_model
from analysis.spectrum.search import null_model
from analysis.spectrum.significance import Significance, Toys, run_toys, sigmas, significance
from cre.analysiscard import BreakSection

__all__ = ["SCHEMA", "Study", "content", "draw", "study", "text"]

FloatArray = npt.NDArray[np.float64]

SCHEMA = "cre-break/1"
_UNITS = {
    "norm": "GeV-1 m-2 s-1 sr-1",
    "break_gev": "GeV",
    "break2_gev": "GeV",
    "cutoff_gev": "GeV",
}
_GRID = 33
_CURVE = 61


@dataclass(frozen=True, eq=False)
class Study:
    """All fits of a flux.

    Attributes:
        everything: all usable bins.
        data: the fitted bins.
        fits: (method, model) → fit; the power law first.
        significances: (method, model) → significance over the power law.
        toys: method → toys of the first model.
        model: the first model, for which the toys are.
        skipped: method → why it cannot be done with this table.
    """

    everything: BreakData
    data: BreakData
    model: str
    fits: dict[tuple[str, str], BreakFit] = field(default_factory=dict)
    significances: dict[tuple[str, str], Significance] = field(default_factory=dict)
    toys: dict[str, Toys] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Methods that were done."""
        return list(dict.fromkeys(method for method, _ in self.fits))

    @property
    def failed(self) -> list[str]:
        """Fits without a valid minimum, as text."""
        return [
            f"{model} ({method}): {one.message}"
            for (method, model), one in self.fits.items()
            if not one.valid
        ]


def study(
    everything: BreakData,
    settings: BreakSection,
    options: FitOptions,
    models: Sequence[str],
    *,
    free_smoothness: bool = False,
    n_toys: int = 0,
    seed: int = 0,
    toy_errors: Literal["fixed", "counts"] = "fixed",
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Fit a power law and other models with one method or all, and test the first of them by toys.

    Args:
        everything: all usable bins of the flux.
        settings: range, bins left out, smoothness, reference energy, nuisances and method.
        options: background, bin averages and systematics; method and nuisances come from settings.
        models: names of models besides the power law.
        free_smoothness: fit the width of the breaks.
        n_toys: toys per method, 0 for none.
        seed: of the toys.
        toy_errors: see :func:`analysis.spectrum.significance.run_toys`.
        tell: called with a sentence before long steps.

    Returns:
        The study.

    Raises:
        AnalysisError: nothing to fit; or the method that was asked for cannot be done.
    """
    data = select(everything, settings.e_min_gev, settings.e_max_gev, settings.left_out_gev)
    made = [
        spectral_model(
            name,
            smoothness=settings.smoothness,
            free_smoothness=free_smoothness,
            e0_gev=settings.e0_gev,
        )
        for name in models
        if name != "power_law"
    ]
    result = Study(everything, data, made[0].name if made else "power_law")
    base = null_model(made[0] if made else spectral_model("power_law", e0_gev=settings.e0_gev))
    for method in METHODS if settings.method is None else (settings.method,):
        now = replace(options, method=method, nuisances=settings.nuisances)
        try:
            null = fit(data, base, now)
            others = [fit(data, model, now) for model in made]
        except AnalysisError as err:
            if settings.method is not None:
                raise
            result.skipped[method] = str(err)
            continue
        for one in (null, *others):
            result.fits[method, one.model.name] = one
        for one in others:
            result.significances[method, one.model.name] = significance(null, one)
        if n_toys and others:
            tell(f"{n_toys} toys, {method}")
            result.toys[method] = run_toys(null, others[0], n_toys, seed, errors=toy_errors)
    if not result.fits:
        msg = "; ".join(dict.fromkeys(result.skipped.values()))
        raise AnalysisError(msg)
    return result


def text(result: Study) -> str:
    """The study as a short table."""
    data = result.data
    lines = ["SYNTHETIC data, not data of the experiment"] if data.synthetic else []
    lines.append(
        f"{data.name}: {len(data)} bins, {data.e_min.min():.1f}-{data.e_max.max():.1f} GeV"
    )
    lines += data.notes
    lines += [f"{method}: not done: {why}" for method, why in result.skipped.items()]
    for method in result.methods:
        lines.append(f"\n{method}")
        for (of, model), one in result.fits.items():
            if of == method:
                mark = "" if one.valid else f"  NOT VALID: {one.message}"
                chance = f", p {chi2.sf(one.cost, one.ndf):.2g}" if one.ndf > 0 else ""
                lines.append(f"  {model}: chi2 {one.cost:.1f} / {one.ndf}{chance}{mark}")
                lines += [f"    {line}" for line in _parameters(one)]
                if (method, model) in result.significances:
                    lines.append(f"    {_over_power_law(result.significances[method, model])}")
        if method in result.toys:
            lines += [f"  {line}" for line in _toys(result.toys[method])]
    return "\n".join(lines)


def _parameters(one: BreakFit) -> list[str]:
    lines = []
    for name, value, error, (low, high) in zip(
        one.model.parameters, one.values, one.errors, one.minos, strict=True
    ):
        if name in one.at_limit:
            lines.append(f"{name:11s} {value:.4g}  at the limit of the search, no error")
        else:
            ends = " ".join(
                f"{sign}{x:.3g}" if np.isfinite(x) else f"{sign}open"
                for sign, x in (("-", low), ("+", high))
            )
            lines.append(f"{name:11s} {value:.5g} +- {error:.3g}  ({ends})")
    return lines


def _over_power_law(s: Significance) -> str:
    return (
        f"over the power law: {s.delta:.1f} for {s.extra} more, p {s.p_value:.1e}, "
        f"{s.two_sided:.2f} sigma two-sided ({s.one_sided:.2f} one-sided)"
    )


def _toys(t: Toys) -> list[str]:
    share = f"p {t.p_value:.1e} ({t.interval[0]:.1e} to {t.interval[1]:.1e})"
    two = float(sigmas(t.p_value if t.exceeding else t.upper_limit)[0])
    said = f"{two:.2f} sigma two-sided"
    if not t.exceeding:
        share, said = f"p < {t.upper_limit:.1e} (95 %)", f"more than {said}"
    law = (
        f"toys: chi2 with {t.effective_ndf:.2f} (mean) or {t.effective_ndf_tail:.2f} (95 % point) "
        f"degrees of freedom instead of {t.extra}; {t.not_converged} not converged"
    )
    lines = []
    if np.isfinite(t.p_extrapolated):
        low, high = t.p_extrapolated_interval
        lines.append(
            f"toys: their tail extrapolated to the data: p {t.p_extrapolated:.1e} ({low:.1e} to "
            f"{high:.1e}), {float(sigmas(t.p_extrapolated)[0]):.2f} sigma two-sided"
        )
    return [
        f"toys: {t.exceeding} of {t.delta.size} reach the data, {share}, {said}",
        law,
        *lines,
    ]


def content(result: Study) -> dict[str, Any]:
    """The study as plain types for JSON; NaN is None."""
    data = result.data
    bins = zip(data.e_min, data.e_max, data.e_ref, strict=True)
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "synthetic": data.synthetic,
        "data": data.name,
        "notes": list(data.notes),
        "bins": [{"e_min": a, "e_max": b, "e_ref": c} for a, b, c in bins],
        "skipped": result.skipped,
        "conventions": {
            "cost": "chi2, or -2 ln of the Poisson likelihood ratio; prior terms included",
            "ndf": "bins less parameters, nuisance parameters counted",
            "p_value": "chi2 with as many degrees of freedom as there are more parameters",
            "toys": "a break in either direction counts; 'softening' only those to a larger index",
        },
        "fits": [_fit(method, one) for (method, _), one in result.fits.items()],
        "significances": [
            {"method": method, "model": model, **asdict(one)}
            for (method, model), one in result.significances.items()
        ],
        "toys": [
            {
                "method": method, "model": result.model, "toys": one.delta.size,
                **{k: v for k, v in vars(one).items() if k not in {"delta", "softening"}},
                "delta": np.round(one.delta, 4), "softening": np.round(one.softening, 4),
            }
            for method, one in result.toys.items()
        ],
    }  # fmt: skip
    cleaned: dict[str, Any] = _plain(plain)
    return cleaned


def _fit(method: str, one: BreakFit) -> dict[str, Any]:
    return {
        "method": method,
        "model": one.model.name,
        "e0_gev": one.model.e0_gev,
        "smoothness": None if one.model.free_smoothness else one.model.smoothness,
        "parameters": {
            name: {
                "value": one.values[i], "error": one.errors[i],
                "minos_n": one.minos[i, 0], "minos_p": one.minos[i, 1],
                "unit": _UNITS.get(name, ""), "at_limit": name in one.at_limit,
            }
            for i, name in enumerate(one.model.parameters)
        },
        "covariance": one.covariance,
        "cost": one.cost,
        "ndf": one.ndf,
        "valid": one.valid,
        "message": one.message,
        "nuisances": [
            {"value": w, "sigma": s}
            for w, s in zip(one.nuisances, one.nuisance_sigma, strict=True)
        ],
        "expected": one.expected,
        "pulls": one.pulls,
    }  # fmt: skip


def draw(result: Study, stem: Path, *, overwrite: bool = False) -> list[Path]:
    """Draw the study.

    Args:
        result: the study.
        stem: path of the figures without ``_fits``, ``_profiles``, ``_toys``.
        overwrite: replace files that exist.

    Returns:
        Paths of the figures.
    """
    data = result.data
    common: dict[str, Any] = {"overwrite": overwrite, "title": data.name}
    first = result.methods[0]
    shown = {
        _short(model) if method == first else f"{_short(model)}, {method}": one
        for (method, model), one in result.fits.items()
        if method == first or (method == result.methods[-1] and model == result.model)
    }
    out = plot_break_fits(
        data, shown, stem.with_name(f"{stem.name}_fits"), outside=result.everything, **common
    )
    common["synthetic"] = data.synthetic
    best = {m: f for (m, name), f in result.fits.items() if name == result.model and f.valid}
    if best:
        names = {
            m: [n for n in f.model.parameters if n not in {"norm", *f.at_limit}]
            for m, f in best.items()
        }
        curves = {
            m: {n: (x := _span(f, n, _CURVE), profile(f, n, x)) for n in names[m]}
            for m, f in best.items()
        }
        pair = ("break_gev", "index2")
        maps = {
            m: (
                x := _span(f, pair[0], _GRID),
                y := _span(f, pair[1], _GRID),
                contour(f, pair, x, y),
            )
            for m, f in best.items()
            if set(pair) <= set(names[m])
        }
        out += plot_break_profiles(
            curves, maps, best, stem.with_name(f"{stem.name}_profiles"), **common
        )
    if result.toys:
        out += plot_break_toys(result.toys, stem.with_name(f"{stem.name}_toys"), **common)
    return out


def _short(model: str) -> str:
    return model.replace("_", " ")


def _span(one: BreakFit, name: str, count: int) -> FloatArray:
    """Values of a parameter around its fit, 3.5 errors to either side."""
    at = one.model.parameters.index(name)
    low, high = np.where(np.isfinite(one.minos[at]), one.minos[at], 2 * one.errors[at])
    value = one.values[at]
    ends = value - 3.5 * low, value + 3.5 * high
    if not one.model.logarithmic[at]:  # wider is not searched
        ends = max(ends[0], -2.0), min(ends[1], 10.0)
    else:  # stay where there are data
        inside = one.data.e_max.min(), one.data.e_min.max()
        if name.startswith("break"):
            ends = max(ends[0], inside[0]), min(ends[1], inside[1])
        ends = max(ends[0], value / 20), min(ends[1], value * 20)
    return np.linspace(*ends, count)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
