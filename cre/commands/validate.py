"""``cre validate``: hold the simulation against Geant4 events."""

from __future__ import annotations

from pathlib import Path

import click

from simulation.validationreport import validate


@click.command("validate")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace an earlier validation.")
def command(output: Path, seed: int, overwrite: bool) -> None:
    """Simulate the primaries of the Geant4 reference events, compare, write tables and figures."""
    if output.exists() and any(output.iterdir()) and not overwrite:
        msg = f"{output} is not empty; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    validate(output, seed)
    click.echo((output / "validation.md").read_text("utf-8"))
