"""``cre flux``: from histograms to a flux table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from analysis.exceptions import IncompleteDataError
from analysis.fluxtable import FluxTable, write_flux_table
from analysis.histfile import load
from analysis.measurement import measure
from analysis.plots.systematics import systematics_table
from analysis.selection import Edge, default_region
from analysis.systematics import with_systematics
from cre.analysiscard import analysis_card
from cre.measuring import (
    check_converged,
    flux_settings,
    partial_line,
    partial_option,
    poor_fit,
    selection_options,
    shift_lowered,
    sources,
)
from cre.provenance import record, sha256

SUFFIXES = (".ecsv", ".csv", ".json")


@click.command("flux")
@click.argument("histograms", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Stem, e.g. flux"
)
@selection_options
@click.option(
    "--method",
    type=click.Choice(["fit", "sideband"]),
    help="Background from the template fit or from the control region alone; default the card's.",
)
@click.option(
    "--migration",
    type=click.Choice(["auto", "bin_by_bin", "folding", "none"]),
    help="Correction of energy migration; default the card's.",
)
@click.option(
    "--systematics/--no-systematics",
    default=False,
    help="Evaluate the systematic errors of the card; without, those of the fit and the acceptance only.",
)
@click.option(
    "--electrons-in-control",
    is_flag=True,
    help="Sideband: subtract electrons from the control region.",
)
@click.option("--index", type=float, help="Of the reference energy; default the card's, -3.")
@partial_option
@click.option("--overwrite", is_flag=True, help="Replace the tables.")
def command(
    histograms: Path,
    output: Path,
    card: Path | None,
    region: str | None,
    edge: Edge,
    bgo: str | None,
    score: str | None,
    cut: float | None,
    control: tuple[float, float] | None,
    e_min_gev: float | None,
    e_max_gev: float | None,
    method: str | None,
    migration: str | None,
    systematics: bool,
    electrons_in_control: bool,
    index: float | None,
    partial: bool,
    overwrite: bool,
) -> None:
    """Measure the flux from HISTOGRAMS; writes OUTPUT.ecsv, .csv and .json.

    Exit code 2: the run is incomplete, or no bin has a flux.
    """
    paths = [output.with_name(output.name + suffix) for suffix in SUFFIXES]
    for path in paths:
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another name or give --overwrite"
            raise FileExistsError(msg)
    options: dict[str, Any] = {
        "region": region, "edge": edge, "bgo": bgo, "score_name": score, "cut": cut,
        "control": control, "e_min_gev": e_min_gev, "e_max_gev": e_max_gev, "method": method,
        "migration": migration, "electrons_in_control": electrons_in_control, "index": index,
        "allow_incomplete": partial,
    }  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"file": histograms, "card": card, "systematics": systematics, **options}
    with record(output.with_name(output.name + ".provenance.json"), "flux", arguments) as entry:
        content = load(histograms)
        entry.read(histograms)
        chosen = analysis_card(card, content.meta)
        options["region"] = region or default_region(content.meta)
        settings = flux_settings(chosen, **options)
        meta = {**content.meta, "histograms_sha256": sha256(histograms)}
        if systematics:
            found = with_systematics(
                content.hists,
                meta,
                settings,
                sources(chosen.systematics, entry),
                tell=lambda name: click.echo(f"systematic error: {name}", err=True),
            )
        else:
            found = measure(content.hists, meta, settings)
        table = found.table
        for path in paths:
            write_flux_table(table, path, overwrite=overwrite)
        entry.wrote(paths)
    click.echo(summary(table))
    if systematics:
        click.echo(systematics_table(table))
        for name, reason in table.meta["systematics"]["left_out"].items():
            click.echo(f"systematic error {name} left out: {reason}")
    click.echo(f"wrote {output}{{{','.join(SUFFIXES)}}}")
    if not table.success.any():
        msg = "no bin has a flux; the reasons stand in the table's metadata"
        raise IncompleteDataError(msg)
    check_converged(found.fit)


def summary(table: FluxTable) -> str:
    """The table as text, failed bins left out but counted."""
    lines = []
    if table.meta.get("synthetic"):
        toy = " (TOY)" if table.meta.get("toy") else ""
        lines.append(f"SYNTHETIC data{toy}, not data of the experiment")
    lines += partial_line(table.meta)
    flux = table.meta["flux"]
    lines.append(
        f"{flux['region']}, edge cut {flux.get('edge_cut', 'on')}, "
        f"{flux.get('bgo_reconstruction', 'new')} BGO reconstruction, score {flux.get('score')}"
    )
    lines.append(_how(flux))
    fit = flux.get("fit") or {}
    if "shift_order_lowered_from" in fit:
        lowered = shift_lowered(fit["shift_order_lowered_from"], fit["shift_order"])
        lines.append(f"WARNING: {lowered}")
    poor = poor_fit(fit["deviance"], fit["ndf"], fit["p_value"]) if fit else None
    if poor is not None:
        lines.append(f"WARNING: {poor}")
    if flux["region"] != "fiducial":
        network = (table.meta.get("energy") or {}).get(flux["region"])
        if network is None:
            lines.append(
                "WARNING: showers of this region leak, and these are corrected energies: take the energies of a "
                "network (card topfiducial.yaml)"
            )
        else:
            lines.append(f"energies of the network {network['model']}")
        if flux["migration"]["method"] == "none":
            lines.append("WARNING: events that migrate between energy bins are not corrected for")
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


def _how(flux: Mapping[str, Any]) -> str:
    """Where background and migration come from."""
    migration = f"migration: {flux['migration']['method']}"
    fit = flux.get("fit")
    if fit is None:
        return f"background from the control region, {migration}"
    shift = "no shift of the protons"
    if fit["method"] == "per_bin":
        shift = "a shift of the protons in each energy bin"
    elif fit["shift_order"] is not None:
        known = {k: v for k, v in fit["coefficients"].items() if None not in v}
        values = (f"{k} {v[0]:.4f} ± {v[1]:.4f}" for k, v in known.items())
        shift = f"proton shift {', '.join(values)}" if known else "its shift was not found"
    return (
        f"background from the {fit['method']} template fit ({shift}; deviance "
        f"{fit['deviance']:.0f} for {fit['ndf']}), {migration}"
    )


def _background(table: FluxTable, i: int, limited: set[int]) -> str:
    if table.n_data[i] == 0:
        return "-"
    if i in limited:
        return f"<{table.background_fraction_err[i]:.3f}"
    return f"{table.background_fraction[i]:.3f}"
