"""``cre regions``: acceptance and flux of both regions beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from analysis.acceptance import Acceptance, acceptance_from_histogram
from analysis.compare import compare_to_spectrum
from analysis.exceptions import AnalysisError
from analysis.fluxtable import FluxTable, read_flux_table
from analysis.histfile import load
from analysis.plots import plot_region_acceptance, plot_region_fluxes
from analysis.plots.regions import bgo_path_cut
from analysis.plots.style import marked
from analysis.selection import project
from analysis.usable import partial_text
from cre.injected import bin_average, injected_spectrum

REGIONS = ("fiducial", "topfiducial")


@click.command("regions")
@click.argument("fiducial", type=click.Path(path_type=Path))
@click.argument("topfiducial", type=click.Path(path_type=Path), required=False)
@click.option(
    "--flux",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    help="Flux tables of both regions (.ecsv, .csv or .json).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--bgo", help="BGO reconstruction; default the only one, 'new' if there are several.")
@click.option("--chi2-max-gev", type=float, default=1000.0, help="χ² against injected: up to here.")
@click.option("--overwrite", is_flag=True, help="Replace figures.")
def command(
    fiducial: Path,
    topfiducial: Path | None,
    flux: tuple[Path, Path] | None,
    output: Path,
    bgo: str | None,
    chi2_max_gev: float,
    overwrite: bool,
) -> None:
    """Draw the acceptance of both regions and their sum, and both fluxes if tables are given.

    FIDUCIAL and TOPFIDUCIAL are the histogram files of the two runs; one file serves for both regions if its
    run had both.
    """
    acceptances: dict[str, Acceptance] = {}
    synthetic = set()
    metas: list[Mapping[str, Any]] = []
    min_x0 = None
    for region, path in zip(REGIONS, (fiducial, topfiducial or fiducial), strict=True):
        content = load(path)
        hists, meta = project(content.hists, content.meta, bgo=bgo)
        integral = meta["target_flux_integral"]["electron"]
        acceptances[region] = acceptance_from_histogram(hists["passed"], integral, region=region)
        synthetic.add(bool(meta.get("synthetic")))
        metas.append(meta)
        if region == "topfiducial":
            min_x0 = bgo_path_cut(meta)
    tables = {} if flux is None else _tables(flux)
    synthetic |= {bool(t.meta.get("synthetic")) for t in tables.values()}
    if len(synthetic) > 1:
        msg = "some of the files are synthetic and some are not; they do not belong into one figure"
        raise AnalysisError(msg)
    metas += [table.meta for table in tables.values()]
    common: dict[str, Any] = {
        "synthetic": synthetic.pop(),
        "title": "toys" if any(meta.get("toy") for meta in metas) else "",
        "overwrite": overwrite,
    }
    with marked(partial_text(*metas)):
        paths = plot_region_acceptance(
            acceptances, output / "acceptance_regions", min_x0=min_x0, **common
        )
        if tables:
            truth = _truth(tables, chi2_max_gev)
            paths += plot_region_fluxes(tables, output / "flux_regions", **truth, **common)
    click.echo(f"wrote {len(paths)} files to {output}")


def _tables(paths: tuple[Path, Path]) -> dict[str, FluxTable]:
    """Both tables in the order of the regions, whichever was given first."""
    found = {}
    for path in paths:
        table = read_flux_table(path)
        region = str((table.meta.get("flux") or {}).get("region"))
        if region not in REGIONS or region in found:
            msg = f"{path} is a flux of region {region!r}: give one table of each region, not made of both"
            raise AnalysisError(msg)
        found[region] = table
    return {region: found[region] for region in REGIONS}


def _truth(tables: dict[str, FluxTable], chi2_max_gev: float) -> dict[str, Any]:
    """Curve and comparisons with the injected spectrum, where both tables know the same one."""
    known = [(t.meta.get("injected") or {}).get("electron") for t in tables.values()]
    if not known[0] or known[0] != known[1]:
        return {}
    spectrum = injected_spectrum(next(iter(tables.values())).meta)
    low, high = min(t.e_min[0] for t in tables.values()), max(t.e_max[-1] for t in tables.values())
    energies = np.geomspace(low, high, 200)
    comparisons = {
        region: compare_to_spectrum(
            t,
            bin_average(spectrum, t.e_min, t.e_max),
            e_max_gev=chi2_max_gev,
            systematics=True,
        )
        for region, t in tables.items()
    }
    return {"curve": (energies, spectrum.flux(energies)), "comparisons": comparisons}
