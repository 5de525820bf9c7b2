"""``cre compare``: hold a flux table against published or injected spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from analysis.compare import Comparison, compare_to_published, compare_to_spectrum
from analysis.exceptions import AnalysisError
from analysis.fluxtable import read_flux_table
from analysis.published import load, names
from cre.injected import bin_average, injected_spectrum


@click.command("compare")
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option("--with", "spectra", multiple=True, help="Published set; may be given again.")
@click.option("--injected", is_flag=True, help="The spectrum that synthetic data were made with.")
@click.option("--e-min-gev", type=float, help="Lowest energy.")
@click.option("--e-max-gev", type=float, help="Highest energy.")
@click.option("--list", "listing", is_flag=True, help="List the published sets.")
def command(
    table: Path | None,
    spectra: tuple[str, ...],
    injected: bool,
    e_min_gev: float | None,
    e_max_gev: float | None,
    listing: bool,
) -> None:
    """Print ratios, pulls and chi2 of TABLE (.ecsv, .csv or .json); default: DAMPE 2017."""
    if listing:
        for name in names():
            click.echo(f"{name:45s} {load(name).label}")
        return
    if table is None:
        msg = "give a flux table, or --list"
        raise click.UsageError(msg)
    flux = read_flux_table(table)
    selection = flux.meta.get("flux", {})
    if selection.get("region", "fiducial") != "fiducial" or selection.get("edge_cut", "on") != "on":
        click.echo(f"{selection['region']}, edge cut {selection.get('edge_cut', 'on')}")
    limits: dict[str, Any] = {"e_min_gev": e_min_gev, "e_max_gev": e_max_gev}
    if injected:
        reference = bin_average(injected_spectrum(flux.meta), flux.e_min, flux.e_max)
        _print(compare_to_spectrum(flux, reference, systematics=True, **limits))
    for name in spectra or (() if injected else ("dampe_2017_electron_positron",)):
        _print(compare_to_published(flux, load(name), **limits))


def _print(result: Comparison) -> None:
    if not result.used.any():
        msg = f"no energy bin of the table can be compared with {result.name} in this range"
        raise AnalysisError(msg)
    click.echo(result.name)
    click.echo(f"{'e_ref (GeV)':>12} {'ratio':>8} {'pull':>7}")
    for i in np.flatnonzero(result.used):
        mark = " interpolated" if result.interpolated[i] else ""
        click.echo(f"{result.e_ref[i]:12.1f} {result.ratio[i]:8.3f} {result.pull[i]:7.2f}{mark}")
    click.echo(f"chi2 {result.chi2:.1f} for {result.ndf} bins")
