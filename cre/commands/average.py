"""``cre average``: one flux from the fluxes of two regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from analysis.combination import UNCORRELATED, Combination, combine
from analysis.consistency import Consistency
from analysis.exceptions import IncompleteDataError
from analysis.exports import marks
from analysis.fluxtable import FluxTable, read_flux_table, write_flux_table
from analysis.plots.combination import plot_combination, plot_gain
from analysis.plots.style import marked
from analysis.usable import partial_text
from cre.injected import injected_spectrum
from cre.provenance import record

_PATH = click.Path(path_type=Path)
SUFFIXES = (".ecsv", ".csv", ".json")


@click.command("average")
@click.argument("fiducial", type=_PATH)
@click.argument("topfiducial", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="Stem, e.g. both")
@click.option(
    "--e-min-gev",
    type=float,
    default=1000.0,
    show_default=True,
    help="Combine from here; below, the fiducial flux alone. 0 combines all.",
)
@click.option(
    "--uncorrelated",
    multiple=True,
    metavar="NAME",
    help=f"Systematic source that each region has for itself; repeat.  [besides: {', '.join(UNCORRELATED)}]",
)
@click.option(
    "--correlated", multiple=True, metavar="NAME", help="One of those that they share; repeat."
)
@click.option(
    "--other-inputs",
    is_flag=True,
    help="Accept tables made of different files: skims of the same events.",
)
@click.option("--figures", type=_PATH, help="Folder for the figures.  [default: none]")
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    fiducial: Path,
    topfiducial: Path,
    output: Path,
    e_min_gev: float,
    uncorrelated: tuple[str, ...],
    correlated: tuple[str, ...],
    other_inputs: bool,
    figures: Path | None,
    overwrite: bool,
) -> None:
    """Combine the flux tables FIDUCIAL and TOPFIDUCIAL (.ecsv, .csv, .json).

    Their events are disjoint: the fluxes are averaged with the weights of their exposures. The tables know their
    regions, so their order does not matter. Writes OUTPUT.ecsv, .csv and .json, and says whether the regions agree.
    """
    paths = [output.with_name(output.name + suffix) for suffix in SUFFIXES]
    drawn = [] if figures is None else [figures / "combination", figures / "combination_gain"]
    for path in [*paths, *(stem.with_name(f"{stem.name}.png") for stem in drawn)]:
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another name or give --overwrite"
            raise FileExistsError(msg)
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = {
        "fiducial": fiducial, "topfiducial": topfiducial, "e_min_gev": e_min_gev,
        "uncorrelated": uncorrelated, "correlated": correlated, "other_inputs": other_inputs,
        "figures": figures,
    }  # fmt: skip
    with record(output.with_name(output.name + ".provenance.json"), "average", arguments) as entry:
        # fiducial first, whichever was given first: below --e-min-gev the first stands alone
        tables = sorted((read_flux_table(path) for path in (fiducial, topfiducial)), key=_leaks)
        for path in (fiducial, topfiducial):
            entry.read(path)
        found = combine(
            tables,
            e_min_gev=e_min_gev,
            uncorrelated=uncorrelated,
            correlated=correlated,
            other_inputs=other_inputs,
        )
        for path in paths:
            write_flux_table(found.table, path, overwrite=overwrite)
        entry.wrote(paths)
        click.echo(summary(found))
        if drawn:
            with marked(partial_text(found.table.meta)):
                pictures = _draw(found, drawn[0], drawn[1], overwrite=overwrite)
            entry.wrote(pictures)
            click.echo(f"wrote {len(pictures)} figures to {figures}")
    click.echo(f"wrote {output}{{{','.join(SUFFIXES)}}}")
    if not found.table.success.any():
        msg = "no bin has a flux; the reasons stand in the table's metadata"
        raise IncompleteDataError(msg)


def _leaks(table: FluxTable) -> bool:
    """Whether a table is of the top-fiducial region."""
    return str((table.meta.get("flux") or {}).get("region")) == "topfiducial"


def summary(found: Combination) -> str:
    """The combined bins as text, and whether the regions agree."""
    table, names = found.table, found.regions
    lines = [f"{mark}: not to be published as data of the experiment" for mark in marks(table)]
    lines.append(
        "flux in GeV-1 m-2 s-1 sr-1 with statistical errors in %; ratio: error of the combined flux over that "
        f"of {names[0]} alone, pred.: as the exposures predict it"
    )
    lines.append(
        f"{'E bin (GeV)':>19} {names[0]:>21} {names[1]:>21} {'combined':>21} {'ratio':>6} {'pred.':>6}"
    )
    several = found.used.sum(axis=0) > 1
    for i in np.flatnonzero(found.used[1]).tolist():
        alone = "" if several[i] else f"  {names[1]} alone"
        fluxes = " ".join(_flux(part, i) for part in (*found.parts, table))
        ratio = " ".join(_ratio(values[i]) for values in (found.gain, found.predicted))
        lines.append(f"{table.e_min[i]:9.1f}-{table.e_max[i]:9.1f} {fluxes} {ratio}{alone}")
    first = table.success & ~found.used[1]
    if first.any():
        lines.append(f"{int(first.sum())} bins of {names[0]} alone are kept as they are")
    failed = int((~table.success).sum())
    if failed:
        lines.append(f"{failed} bins without a flux; the reasons stand in the table's metadata")
    notes = table.meta["combination"]
    for region, missing in notes["not_evaluated"].items():
        lines.append(
            f"WARNING: {region} has no systematic error {', '.join(missing)}; taken as 0 there"
        )
    shared, own = notes["correlated"], notes["uncorrelated"]
    lines.append(
        f"systematic errors shared: {', '.join(shared) or 'none'}; of each region: {', '.join(own) or 'none'}"
    )
    lines.append(_agreement(found.consistency, "in the combined bins"))
    if found.below is not None:
        lines.append(_agreement(found.below, "below them, where they are not combined"))
    return "\n".join(lines)


def _flux(table: FluxTable, i: int) -> str:
    if not table.success[i]:
        return f"{'-':>21}"
    if table.dnde[i] <= 0:
        return f"{table.dnde[i]:9.2e} (<{table.dnde_ul[i]:8.2e})"
    low, high = (100 * side[i] / table.dnde[i] for side in (table.dnde_errn, table.dnde_errp))
    return f"{table.dnde[i]:9.3e} {f'-{low:.1f}':>5} {f'+{high:.1f}':>5}"


def _ratio(value: float) -> str:
    return f"{value:6.3f}" if np.isfinite(value) else f"{'-':>6}"


def _agreement(test: Consistency | None, where: str) -> str:
    """One sentence on the consistency of the regions."""
    if test is None:
        return f"consistency {where}: too few events to tell"
    ratios = ", ".join(
        f"{name}/{test.regions[0]} = {test.total_ratio[r]:.3f} ± {test.total_stat[r]:.3f} (stat) ± "
        f"{test.total_sys[r]:.3f} (syst)"
        for r, name in enumerate(test.regions[1:])
    )
    return (
        f"consistency {where}, {test.e_min[0]:.0f}-{test.e_max[-1]:.0f} GeV: {ratios}; chi2 "
        f"{test.chi2:.1f} for {test.ndf}, p {test.p_value:.2g} (statistical errors alone: {test.chi2_stat:.1f})"
    )


def _draw(found: Combination, both: Path, gain: Path, *, overwrite: bool) -> list[Path]:
    """Figures; that of the gain only if there is one."""
    table = found.table
    curve = None
    if (table.meta.get("injected") or {}).get("electron"):
        energies = np.geomspace(table.e_min[0], table.e_max[-1], 200)
        curve = (energies, injected_spectrum(table.meta).flux(energies))
    common: dict[str, Any] = {
        "synthetic": bool(table.meta.get("synthetic")),
        "title": "toys" if table.meta.get("toy") else "",
        "overwrite": overwrite,
    }
    paths = plot_combination(found, both, curve=curve, **common)
    if ((found.used.sum(axis=0) > 1) & (table.dnde > 0)).any():
        paths += plot_gain(found, gain, **common)
    return paths
