"""``cre display``: draw one event in the two views of the BGO."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from analysis.plots import plot_event
from processors.exceptions import NtupleError
from processors.geometry import BAR_U_MM, LAYER_Z_MM
from processors.ntuple import Ntuple, load_aliases
from processors.ntuplefile import look, open_events


@click.command("display")
@click.argument("file")
@click.option("--entry", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Stem.")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--overwrite", is_flag=True, help="Replace figures.")
def command(file: str, entry: int, output: Path, aliases: str, overwrite: bool) -> None:
    """Draw event ENTRY of FILE: bar energies in x-z and y-z with the reconstructed axis."""
    convention = load_aliases(aliases)
    content = look(file, convention)
    if entry >= content.entries:
        msg = f"{file} has {content.entries} events; entry {entry} does not exist"
        raise NtupleError(msg)
    events = Ntuple(open_events(content.path, content.tree, stop=entry + 1), convention)
    row = np.arange(len(events)) == entry
    number = {
        name: float(events[name][entry])
        for name in ("slope_x", "slope_y", "intercept_x", "intercept_y", "e_corr", "zeta")
    }
    paths = plot_event(
        1e3 * events.image(row)[0],
        output,
        bar_u_mm=BAR_U_MM,
        layer_z_mm=LAYER_Z_MM,
        slope=(number["slope_x"], number["slope_y"]),
        intercept_mm=(number["intercept_x"], number["intercept_y"]),
        e_corr_gev=number["e_corr"],
        zeta=number["zeta"],
        synthetic=bool(content.record.get("synthetic")),
        title=str(content.record.get("kind", "")),
        overwrite=overwrite,
    )
    for path in paths:
        click.echo(f"wrote {path}")
