"""``cre plot``: draw the figures of a run and its flux."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from analysis.compare import compare_to_spectrum
from analysis.exceptions import AnalysisError
from analysis.fluxtable import read_flux_table
from analysis.histfile import HistFile, load
from analysis.plots import draw_run
from analysis.plots.style import marked
from analysis.selection import Edge
from analysis.stability import can_follow
from analysis.usable import partial_text
from cre.analysiscard import analysis_card
from cre.commands.stability import follow, write
from cre.injected import bin_average, injected_spectrum
from cre.provenance import sha256


@click.command("plot")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--flux", type=click.Path(path_type=Path), help="Flux table (.ecsv, .csv or .json).")
@click.option(
    "--region",
    type=click.Choice(["fiducial", "topfiducial"]),
    help="Default the table's, or the only one of the file's card, or fiducial.",
)
@click.option(
    "--edge", type=click.Choice(["on", "off"]), help="Edge cut; default the table's, or on."
)
@click.option("--bgo", help="BGO reconstruction; default the table's, or the only one, or 'new'.")
@click.option("--chi2-max-gev", type=float, default=1000.0, help="χ² against injected: up to here.")
@click.option("--overwrite", is_flag=True, help="Replace figures.")
def command(
    histograms: Path,
    output: Path,
    flux: Path | None,
    region: str | None,
    edge: Edge | None,
    bgo: str | None,
    chi2_max_gev: float,
    overwrite: bool,
) -> None:
    """Draw HISTOGRAMS, and the flux beside the published spectra if a table is given."""
    content = load(histograms)
    table = read_flux_table(flux) if flux else None
    made_of = None if table is None else table.meta.get("histograms_sha256")
    if made_of is not None and made_of != sha256(histograms):
        click.echo(
            f"WARNING: {flux} was not made of {histograms} but of another file, or of the same histograms "
            "in another format",
            err=True,
        )
    curve = comparison = None
    if table is not None and (table.meta.get("injected") or {}).get("electron"):
        spectrum = injected_spectrum(table.meta)
        energies = np.geomspace(table.e_min[0], table.e_max[-1], 200)
        curve = (energies, spectrum.flux(energies))
        truth = bin_average(spectrum, table.e_min, table.e_max)
        comparison = compare_to_spectrum(table, truth, e_max_gev=chi2_max_gev, systematics=True)
    with marked(partial_text(content.meta, *([table.meta] if table else []))):
        paths = draw_run(
            content.hists,
            content.meta,
            output,
            table=table,
            curve=curve,
            comparison=comparison,
            region=region,
            edge=edge,
            bgo=bgo,
            overwrite=overwrite,
        )
    made_with = table.meta["flux"] if table else {}
    where = region or made_with.get("region"), bgo or made_with.get("bgo_reconstruction")
    paths += _in_time(content, *where, output, sha256(histograms), overwrite=overwrite)
    click.echo(f"wrote {len(paths)} files to {output}")


def _in_time(
    content: HistFile,
    region: str | None,
    bgo: str | None,
    folder: Path,
    made_of: str,
    *,
    overwrite: bool,
) -> list[Path]:
    """Figure and tables of the stability, if the file knows more than one month."""
    if not can_follow(content.hists, content.meta):
        return []
    try:
        found = follow(
            content, analysis_card(None, content.meta), region, bgo, allow_incomplete=True
        )
    except AnalysisError as err:
        click.echo(f"no figure of the stability in time: {err}", err=True)
        return []
    stem = folder / "stability"
    return write(found, content, stem, histograms_sha256=made_of, overwrite=overwrite)
