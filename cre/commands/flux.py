"""``cre flux``: from histograms to a flux table."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.exceptions import IncompleteDataError
from analysis.flux import flux_from_histograms
from analysis.fluxtable import FluxTable, write_flux_table
from analysis.histfile import load
from analysis.selection import Edge
from cre.provenance import record, sha256

SUFFIXES = (".ecsv", ".csv", ".json")


@click.command("flux")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Stem, e.g. flux"
)
@click.option("--region", type=click.Choice(["fiducial", "topfiducial"]), default="fiducial")
@click.option(
    "--edge", type=click.Choice(["on", "off"]), default="on", show_default=True, help="Edge cut."
)
@click.option("--bgo", help="BGO reconstruction; default the only one, 'new' if there are several.")
@click.option("--score", help="A further score of the file, with --cut and --control.")
@click.option("--cut", type=float, help="Score cut; default the card's.")
@click.option("--control", type=(float, float), help="Proton control region; default the card's.")
@click.option("--electrons-in-control", is_flag=True, help="Subtract electrons from the control.")
@click.option("--e-min-gev", type=float, help="Lowest bin; default where the data are complete.")
@click.option("--e-max-gev", type=float, help="Highest bin.")
@click.option(
    "--index", type=float, default=-3.0, show_default=True, help="Of the reference energy."
)
@click.option("--overwrite", is_flag=True, help="Replace the tables.")
def command(
    histograms: Path,
    output: Path,
    region: str,
    edge: Edge,
    bgo: str | None,
    score: str | None,
    cut: float | None,
    control: tuple[float, float] | None,
    electrons_in_control: bool,
    e_min_gev: float | None,
    e_max_gev: float | None,
    index: float,
    overwrite: bool,
) -> None:
    """Cut and count on HISTOGRAMS (.pkl, .json.gz or .root): background, efficiency, flux."""
    paths = [output.with_name(output.name + suffix) for suffix in SUFFIXES]
    existing = [p for p in paths if p.exists()]
    if existing and not overwrite:
        msg = f"{existing[0]} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    options = {
        "region": region,
        "edge": edge,
        "bgo": bgo,
        "score_name": score,
        "cut": cut,
        "control": control,
        "electrons_in_control": electrons_in_control,
        "e_min_gev": e_min_gev,
        "e_max_gev": e_max_gev,
        "index": index,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with record(
        output.with_name(output.name + ".provenance.json"), "flux", {"file": histograms, **options}
    ) as entry:
        content = load(histograms)
        entry.read(histograms)
        table = flux_from_histograms(
            content.hists,
            {**content.meta, "histograms_sha256": sha256(histograms)},
            **options,  # type: ignore[arg-type]
        )
        for path in paths:
            write_flux_table(table, path, overwrite=overwrite)
        entry.wrote(paths)
    click.echo(summary(table))
    click.echo(f"wrote {output}{{{','.join(SUFFIXES)}}}")
    if not table.success.any():
        msg = "no bin has a flux; the reasons stand in the table's metadata"
        raise IncompleteDataError(msg)


def summary(table: FluxTable) -> str:
    """The table as text, failed bins left out but counted."""
    lines = []
    if table.meta.get("synthetic"):
        lines.append("SYNTHETIC data, not data of the experiment")
    flux = table.meta["flux"]
    lines.append(
        f"{flux['region']}, edge cut {flux.get('edge_cut', 'on')}, "
        f"{flux.get('bgo_reconstruction', 'new')} BGO reconstruction, score {flux.get('score')}"
    )
    if flux["region"] != "fiducial":
        lines.append(
            "WARNING: showers of this region leak; without unfolding their flux is off by 5 to 20 %"
        )
    limited = set(flux["background_mc_limited_bins"])
    lines.append(
        f"{'E bin (GeV)':>19} {'N':>6} {'bkg':>6} {'eff':>6} {'A m2sr':>7} "
        f"{'flux GeV-1 m-2 s-1 sr-1':>30}"
    )
    lines += [
        f"{table.e_min[i]:9.1f}-{table.e_max[i]:9.1f} {table.n_data[i]:6.0f} "
        f"{_background(table, i, limited):>6} {table.efficiency[i]:6.3f} {table.acceptance[i]:7.4f} "
        f"{table.dnde[i]:10.3e} -{table.dnde_errn[i]:8.2e} +{table.dnde_errp[i]:8.2e}"
        for i in range(len(table))
        if table.success[i]
    ]
    if any(table.success[i] for i in limited):
        lines.append("bkg <: no simulated proton above the cut; its error enters the flux error")
    failed = int((~table.success).sum())
    if failed:
        lines.append(f"{failed} bins without a flux; the reasons stand in the table's metadata")
    return "\n".join(lines)


def _background(table: FluxTable, i: int, limited: set[int]) -> str:
    if table.n_data[i] == 0:
        return "-"
    if i in limited:
        return f"<{table.background_fraction_err[i]:.3f}"
    return f"{table.background_fraction[i]:.3f}"
