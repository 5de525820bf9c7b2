"""Flux tables as LaTeX: one longtable each, for papers."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.exports.rounding import place, rounded
from analysis.exports.tables import publishable, warning
from analysis.fluxtable import FluxTable
from analysis.textfile import write_text

__all__ = ["latex_text", "write_latex"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

_TITLES = (
    "$E$",
    r"$\langle E\rangle$",
    "Acceptance",
    "Efficiency",
    "Counts",
    "Background",
    r"$\Phi \pm \sigma_\mathrm{stat} \pm \sigma_\mathrm{sys}$",
)
_UNITS = (
    "(GeV)",
    "(GeV)",
    r"(m$^2$\,sr)",
    "",
    "",
    r"(\%)",
    r"(GeV$^{-1}$\,m$^{-2}$\,s$^{-1}$\,sr$^{-1}$)",
)

Pair = tuple[float, float]


def write_latex(
    tables: Mapping[str, FluxTable], path: str | Path, *, overwrite: bool = False
) -> Path:
    r"""Write flux tables as LaTeX, to be read with ``\input``; needs booktabs and longtable.

    Args:
        tables: label → flux table.
        path: output file.
        overwrite: replace an existing file.

    Returns:
        The path.

    Raises:
        FileExistsError: the file exists and overwrite is False.
        IncompleteDataError: a table without a bin to print.
    """
    return write_text(Path(path), latex_text(tables), overwrite=overwrite)


def latex_text(tables: Mapping[str, FluxTable]) -> str:
    """Return the LaTeX of :func:`write_latex`, ASCII only."""
    parts = [r"% needs \usepackage{booktabs,longtable}"]
    parts += [_longtable(label, table) for label, table in tables.items()]
    return "\n".join(parts) + "\n"


def _longtable(label: str, table: FluxTable) -> str:
    """Return one table."""
    bins = publishable(table)
    decimals = _energy_decimals(table, bins.rows)
    head = [r"\toprule", _line(_TITLES), _line(_UNITS), r"\midrule"]
    rows = []
    for i in bins.rows:
        flux = _flux(table, i) if bins.measured[i] else _limit(table.dnde_ul[i])
        n = table.n_data[i]
        cells = (
            f"{table.e_min[i]:.{decimals}f}--{table.e_max[i]:.{decimals}f}",
            f"{table.e_ref[i]:.{decimals}f}",
            _plain(table.acceptance[i], table.acceptance_err[i]),
            _plain(table.efficiency[i], table.efficiency_err[i]),
            f"{n:.0f}" if float(n).is_integer() else f"{n:.1f}",
            _plain(100 * table.background_fraction[i], 100 * table.background_fraction_err[i]),
            flux,
        )
        rows.append(_line(cells))
    return "\n".join(
        [
            r"\begin{longtable}{rrrrrrr}",
            rf"\caption{{{_caption(label, table)}}}\label{{tab:flux-{label}}}\\",
            *head,
            r"\endfirsthead",
            *head,
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *rows,
            r"\end{longtable}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    """Return a line of the table."""
    return " & ".join(cells) + r" \\"


def _caption(label: str, table: FluxTable) -> str:
    """Return the caption: what it is, what the columns mean, what is left out."""
    bins = publishable(table)
    said = []
    if warning(table):
        said.append(rf"\textbf{{{_escaped(warning(table))}}}")
    said.append(f"Flux of cosmic-ray electrons plus positrons, {_escaped(label)}.")
    said.append(
        r"Acceptance before the score cut, efficiency of that cut, events above it, share of "
        r"protons among them."
    )
    if np.any(bins.limit):
        level = (table.meta.get("upper_limit") or {}).get("level")
        at = rf" at {100 * level:g}\,\% confidence" if isinstance(level, float) else ""
        said.append(f"$<$: upper limits{at}, rounded up.")
    if bins.left_out:
        said.append(f"Left out: {_escaped('; '.join(bins.left_out))}.")
    return " ".join(said)


def _flux(table: FluxTable, i: int) -> str:
    """Return flux, statistical and systematic error with one power of ten."""
    value = float(table.dnde[i])
    pairs = [(float(table.dnde_errn[i]), float(table.dnde_errp[i]))]
    if table.systematics:
        low, high = table.total_systematic()
        pairs.append((float(low[i]), float(high[i])))
    last = place(value, [error for pair in pairs for error in pair])
    number = rounded(value, last)
    power = max(number.adjusted(), last) if number else last
    return rf"$({_with_errors(value, pairs, last, power)})\times10^{{{power}}}$"


def _limit(value: float) -> str:
    """Return an upper limit with two digits, rounded up."""
    number = rounded(value, Decimal(repr(float(value))).adjusted() - 1, up=True)
    power = number.adjusted()  # rounding up may have carried
    return rf"$<{number.scaleb(-power):.1f}\times10^{{{power}}}$"


def _plain(value: float, error: float) -> str:
    """Return a value with its error, if there is one, without a power of ten; a dash for NaN."""
    if not math.isfinite(value):
        return "--"
    pairs = [(error, error)] if math.isfinite(error) and error > 0 else []
    return f"${_with_errors(value, pairs, place(value, [error]), 0)}$"


def _with_errors(value: float, pairs: Sequence[Pair], last: int, power: int) -> str:
    """Return value and errors in units of 10^power, with the same last digit."""

    def text(x: float) -> str:
        return format(rounded(x, last).scaleb(-power), "f")

    parts = [text(value)]
    for low, high in pairs:
        down, up = text(low), text(high)
        parts.append(rf"\pm {up}" if up == down else f"^{{+{up}}}_{{-{down}}}")
    return " ".join(parts)


def _energy_decimals(table: FluxTable, rows: NDArray[np.intp]) -> int:
    """Return as many decimals as tell the narrowest bin's edges apart, one at least."""
    width = float(np.min((table.e_max - table.e_min)[rows]))
    return max(1, 1 - math.floor(math.log10(width)))


def _escaped(text: str) -> str:
    """Return text as LaTeX shows it, in ASCII."""
    ascii_text = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(_SPECIAL.get(character, character) for character in ascii_text)
