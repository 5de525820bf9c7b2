"""How templates are described: form, knots and constraint per kind, presets per score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.shapes.forms import Form
from analysis.shapes.smooth import ParametrisationError

__all__ = ["OPTIONS", "Knots", "Options", "options_for", "options_from"]

Knots = int | tuple[float, ...]


@dataclass(frozen=True)
class Options:
    """How one kind of template is described.

    Attributes:
        form: the analytic form.
        knots: shape parameter to the number of its knots, evenly spaced in log10 E over the bins that
            are fitted, or to their energies in GeV; of these the first and the last go to the ends of
            the bins that are fitted, and those outside are left out.
        default_knots: for parameters that are not named.
        min_effective: bins with fewer effective counts are left out of the fit.
        constraint: width of the Gaussian constraint on logarithmic parameters about their start, which
            comes from the quantiles of the templates.
    """

    form: Form
    knots: Mapping[str, Knots] = field(default_factory=dict)
    default_knots: Knots = 4
    min_effective: float = 30.0
    constraint: float = 2.0

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ParametrisationError: a parameter that the form does not have.
        """
        for name in self.knots:
            if name not in self.form.names:
                msg = f"the form has no parameter {name!r}; it has {', '.join(self.form.names)}"
                raise ParametrisationError(msg)


#: Where mode and width of the logits of the shipped networks turn: at 100, 300 and 1000 GeV.
_TURNS = (537.0, 708.0, 813.0, 933.0, 1072.0, 1230.0, 1413.0, 1862.0)
_MODE = (
    *(24.0, 40.0, 55.0, 72.0, 89.0, 102.0, 117.0, 135.0, 178.0, 234.0, 269.0, 309.0, 355.0),
    *(407.0, 468.0, 537.0, 617.0, *_TURNS[1:], 2455.0, 3236.0, 4266.0, 6000.0, 9500.0),
)
_WIDTH = (24.0, 50.0, 102.0, 200.0, 330.0, *_TURNS, 4000.0, 9500.0)
#: Chosen on the synthetic sample: the fewest breaks and knots with tails as in the simulation.
OPTIONS: Mapping[str, Mapping[str, Options]] = {
    "logit": {
        "electron": Options(
            Form(1, 0), {"mu": _MODE, "ln_sigma_left": 10, "ln_sigma_right": 12}, 6
        ),
        "proton": Options(
            Form(0, 3),
            {
                "mu": _MODE,
                "ln_sigma_left": _WIDTH,
                "ln_sigma_right": _WIDTH,
                "ln_k_left": 3,
                "ln_d3_right": 3,
                "ln_lambda3_right": 2,
            },
            5,
        ),
    },
    "zeta": {
        "electron": Options(Form(0, 0), {"mu": 10}, 6),
        "proton": Options(Form(0, 0), {"mu": 6}, 4),
    },
}


def options_from(content: Any, default: Mapping[str, Options]) -> dict[str, Options]:
    """Options from plain types, as they stand in a YAML file.

    Args:
        content: ``electron`` and ``proton``, each with any of ``left_breaks``, ``right_breaks``,
            ``knots`` (parameter to a number or a list of GeV), ``default_knots``, ``min_effective``,
            ``constraint``. The knots replace those of the default.
        default: for what is left out.

    Returns:
        Options of both kinds.

    Raises:
        ParametrisationError: an unknown kind or key, or a value of the wrong type.
    """
    if not isinstance(content, Mapping) or not set(content) <= set(default):
        msg = f"options have the entries {', '.join(default)}, got {content!r}"
        raise ParametrisationError(msg)
    out = dict(default)
    for kind, entries in content.items():
        try:
            given = dict(entries)
            form = default[kind].form
            sides = [given.pop(f"{s}_breaks", getattr(form, f"{s}_breaks")) for s in _SIDES]
            if "knots" in given:
                given["knots"] = {n: _plain_knots(k) for n, k in given["knots"].items()}
            elif Form(*sides) != form:
                given["knots"] = {}
            if "default_knots" in given:
                given["default_knots"] = _plain_knots(given["default_knots"])
            for key in ("min_effective", "constraint"):
                if key in given:
                    given[key] = float(given[key])
            out[kind] = replace(default[kind], form=Form(*sides), **given)
        except (AttributeError, TypeError, ValueError) as error:
            msg = f"options of {kind}: {error}"
            raise ParametrisationError(msg) from error
    return out


_SIDES = ("left", "right")


def _plain_knots(value: Any) -> Knots:
    return value if isinstance(value, int) else tuple(float(v) for v in value)


def options_for(score: str) -> Mapping[str, Options]:
    """Options of a score: the classical one, or a logit."""
    return OPTIONS["zeta" if score == "zeta" else "logit"]
