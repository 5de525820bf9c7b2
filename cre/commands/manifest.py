"""``cre manifest``: describe files and refuse those that would bias a flux."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from cre.provenance import write_json
from processors.exceptions import ManifestError
from processors.livetime import read_livetimes
from processors.manifest import FileEntry, build, join, read, relative_to
from processors.weights import Generated


@click.command("manifest")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file.")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--quarantine", multiple=True, help="File to set aside; may be given again.")
@click.option("--kind", type=click.Choice(["data", "electron", "proton"]), help="If not stored.")
@click.option("--bgo-reconstruction", type=click.Choice(["new", "old"]), help="If not stored.")
@click.option("--generated", type=int, help="Generated events, all FILES together.")
@click.option("--e-min-gev", type=float, help="Lowest generated energy.")
@click.option("--e-max-gev", type=float, help="Highest generated energy.")
@click.option("--index", type=float, default=-1.0, show_default=True, help="Generated spectrum.")
@click.option(
    "--weights",
    type=click.Choice(["sampling", "none"]),
    help="MC weight branch: importance sampling, or not to be used. If not stored.",
)
@click.option("--livetime", type=click.Path(path_type=Path), help="CSV of runs and livetimes.")
@click.option(
    "--complete-above-gev", type=float, default=0.0, help="Skimmed files: complete from here."
)
@click.option("--join", "joining", is_flag=True, help="FILES are manifests: put them together.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
def command(
    files: tuple[str, ...],
    output: Path,
    aliases: str,
    quarantine: tuple[str, ...],
    kind: str | None,
    bgo_reconstruction: str | None,
    generated: int | None,
    e_min_gev: float | None,
    e_max_gev: float | None,
    index: float,
    weights: Literal["sampling", "none"] | None,
    livetime: Path | None,
    complete_above_gev: float,
    joining: bool,
    overwrite: bool,
) -> None:
    """Describe FILES: identity, entries, kind, reconstruction, livetime or generated events."""
    if output.exists() and not overwrite:
        msg = f"{output} exists; choose another name or give --overwrite"
        raise ManifestError(msg)
    sample = None
    if generated is not None:
        if e_min_gev is None or e_max_gev is None:
            msg = "--generated needs --e-min-gev and --e-max-gev"
            raise ManifestError(msg)
        sample = Generated(events=generated, e_min_gev=e_min_gev, e_max_gev=e_max_gev, index=index)
    if joining:
        manifest = join([read(path) for path in files])
    else:
        manifest = build(
            files,
            aliases=aliases,
            quarantine=quarantine,
            kind=kind,
            bgo_reconstruction=bgo_reconstruction,
            generated=sample,
            weights=weights,
            livetimes=read_livetimes(livetime) if livetime else None,
            complete_above_gev=complete_above_gev,
        )
    write_json(
        output,
        relative_to(manifest, output.resolve().parent).model_dump(mode="json", by_alias=True),
    )
    for name in ("data", "electron", "proton"):
        for bgo in ("new", "old"):
            found = [f for f in manifest.of_kind(name) if f.bgo_reconstruction == bgo]
            if found:
                click.echo(
                    f"{name} ({bgo} BGO reconstruction): {len(found)} files, "
                    f"{sum(f.entries for f in found)} events, {_exposure(found)}"
                )
    for empty in (f for f in manifest.files if f.entries == 0):
        click.echo(f"note: {empty.path} has no events", err=True)
    for bad in manifest.quarantined:
        click.echo(f"quarantined: {bad.path} ({bad.reason})", err=True)
    click.echo(f"wrote {output}")


def _exposure(files: list[FileEntry]) -> str:
    if files[0].kind == "data":
        return f"livetime: {sum(f.livetime_s for f in files):.1f} s"
    return f"{sum(f.generated.events for f in files if f.generated)} generated"
