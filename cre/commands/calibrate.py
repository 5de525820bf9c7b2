"""``cre calibrate``: derive the calibration of simulated shower variables from data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import click

from analysis.plots.calibration import plot_calibration
from cre.calibration import DEFAULT_NODES, SPECIES, Nodes, Species, derive, with_replicas
from cre.calibrationreport import panels, pulls, report, summary, table_text
from cre.card import Card, read_card
from cre.progress import progress
from cre.provenance import program, record
from processors.calibration import Calibration
from processors.controlsamples import (
    ControlEvents,
    ControlSampleError,
    Tags,
    control_cuts,
    read_events,
)
from processors.manifest import FileEntry, build, read
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.spectrum import parse


def _energies(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | None:
    del context
    if text is None:
        return None
    try:
        values = tuple(float(t) for t in text.split(","))
    except ValueError as err:
        msg = f"{option.name}: energies in GeV with commas between, not {text!r}"
        raise click.BadParameter(msg) from err
    if list(values) != sorted(set(values)) or values[0] <= 0:
        msg = f"{option.name}: energies must be positive and ascend, got {text}"
        raise click.BadParameter(msg)
    return values


@click.command("calibrate")
@click.argument("data", nargs=-1)
@click.option("--mc-electron", multiple=True, help="Electron file; may be given again.")
@click.option("--mc-proton", multiple=True, help="Proton file; may be given again.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Instead of all files.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="YAML table.")
@click.option("--name", help="Name of the table; default that of the output.")
@click.option("--card", type=click.Path(path_type=Path), help="Cuts and target fluxes.")
@click.option("--region", type=click.Choice(["fiducial", "topfiducial"]), default="fiducial")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--nodes-gev", callback=_energies, help="Nodes of the RMS offsets, with commas.")
@click.option("--f-last-electron-gev", callback=_energies, help="Nodes of F_last of electrons.")
@click.option("--f-last-proton-gev", callback=_energies, help="Nodes of F_last of protons.")
@click.option(
    "--replicas", type=click.IntRange(0), default=20, show_default=True, help="For the errors."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--figure", type=click.Path(path_type=Path), help="Stem of a figure, PNG and PDF.")
@click.option("--note", multiple=True, help="Line for the head of the table; may be given again.")
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    data: tuple[str, ...],
    mc_electron: tuple[str, ...],
    mc_proton: tuple[str, ...],
    manifest: Path | None,
    output: Path,
    name: str | None,
    card: Path | None,
    region: str,
    aliases: str,
    nodes_gev: tuple[float, ...] | None,
    f_last_electron_gev: tuple[float, ...] | None,
    f_last_proton_gev: tuple[float, ...] | None,
    replicas: int,
    seed: int,
    figure: Path | None,
    note: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Derive offsets of layer RMS and F_last from DATA and Monte Carlo control samples.

    The table makes simulated electrons and protons look like data; a run card names it under
    ``calibration``.
    """
    if output.exists() and not overwrite:
        msg = f"{output} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    files = _files(data, mc_electron, mc_proton, manifest, aliases)
    recipe = _card(card)
    nodes = Nodes(
        rms=nodes_gev or DEFAULT_NODES.rms,
        f_last={
            "electron": f_last_electron_gev or DEFAULT_NODES.f_last["electron"],
            "proton": f_last_proton_gev or DEFAULT_NODES.f_last["proton"],
        },
    )
    arguments = {
        "files": [f.path for f in files],
        "region": region,
        "replicas": replicas,
        "seed": seed,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with record(output.with_suffix(".provenance.json"), "calibrate", arguments) as entry:
        entry.inputs += [{"path": f.path, "sha256": f.sha256} for f in files]
        cuts, dropped = control_cuts(recipe.cuts, region)
        with progress("read", sum(f.entries for f in files)) as advance:
            events = {
                kind: read_events(
                    [f for f in files if f.kind == kind],
                    cuts,
                    kind=kind,
                    region=region,
                    target=None if kind == "data" else parse(recipe.target[kind]),
                    advance=advance,
                )
                for kind in ("data", *SPECIES)
            }
        simulated: dict[Species, ControlEvents] = {s: events[s] for s in SPECIES}
        tags = Tags()
        with progress("derive", replicas + 1, "rounds") as advance:
            derived = derive(
                events["data"],
                simulated,
                name=name or output.stem,
                synthetic=any(f.synthetic for f in files if f.kind == "data"),
                nodes=nodes,
                tags=tags,
            )
            advance(1)
            derived = with_replicas(
                derived,
                events["data"],
                simulated,
                replicas=replicas,
                seed=seed,
                nodes=nodes,
                tags=tags,
                advance=advance,
            )
        difference = _difference(files)
        found = pulls(derived.table, difference) if difference else []
        provenance = {
            "program": program(),
            "region": region,
            "cuts": [c.name for c in cuts],
            "cuts_on_the_probed_variables_dropped": list(dropped),
            "target_spectrum": recipe.as_dict()["target"],
            "selected_events": {kind: len(e) for kind, e in events.items()},
            "seed": seed,
            **report(derived, nodes, tags),
            "inputs": [
                {
                    "file": Path(f.path).name,
                    "uuid": f.uuid,
                    "sha256": f.sha256,
                    "kind": f.kind,
                    "entries": f.entries,
                    "bgo_reconstruction": f.bgo_reconstruction,
                    "synthetic": f.synthetic,
                }
                for f in files
            ],
        }
        table = derived.table.model_copy(update={"provenance": provenance})
        _write(output, table_text(table, [*_header(table), *note]))
        entry.wrote([output])
        if figure is not None:
            entry.wrote(
                plot_calibration(
                    panels(derived, difference),
                    figure,
                    synthetic=table.synthetic,
                    title=f"calibration {table.name}, {region}",
                    overwrite=overwrite,
                )
            )
    click.echo(summary(derived, found))
    if derived.moved > 1:
        click.echo(
            f"WARNING: after {derived.iterations} iterations a node still moves by "
            f"{derived.moved:.1f} errors; more events or fewer nodes are needed",
            err=True,
        )
    click.echo(f"wrote {output}")


def _files(
    data: Sequence[str],
    electron: Sequence[str],
    proton: Sequence[str],
    manifest: Path | None,
    aliases: str,
) -> list[FileEntry]:
    paths = [*data, *electron, *proton]
    if (manifest is None) == (not paths):
        msg = "give DATA with --mc-electron and --mc-proton, or --manifest alone"
        raise click.UsageError(msg)
    files = (read(manifest) if manifest else build(paths, aliases=aliases)).files
    if manifest is None:
        asked = ["data"] * len(data) + ["electron"] * len(electron) + ["proton"] * len(proton)
        by_path = {str(Path(p).resolve()): k for p, k in zip(paths, asked, strict=True)}
        for file in files:
            kind = by_path.get(file.path, file.kind)
            if kind != file.kind:
                msg = f"{file.path} holds {file.kind}, but was given as {kind}"
                raise ControlSampleError(msg)
    versions = sorted({f.bgo_reconstruction for f in files})
    if len(versions) > 1:
        msg = f"files of several BGO reconstructions ({', '.join(versions)}): calibrate each apart"
        raise ControlSampleError(msg)
    return files


def _card(path: Path | None) -> Card:
    if path is not None:
        return read_card(path)
    with resources.as_file(resources.files("cre.cards") / "fiducial.yaml") as shipped:
        return read_card(shipped)


def _difference(files: Sequence[FileEntry]) -> Mapping[str, Any] | None:
    """What synthetic data were made with; None unless all data files agree on it."""
    found = [
        look(f.path, load_aliases(f.aliases)).record.get("difference")
        for f in files
        if f.kind == "data"
    ]
    first: Mapping[str, Any] | None = found[0]
    return first if all(f == first for f in found) else None


def _header(table: Calibration) -> list[str]:
    what = "SYNTHETIC data" if table.synthetic else "data"
    return [
        f"Calibration of simulated shower variables, derived from {what} by `cre calibrate`.",
        "Monte Carlo only: RMS_i <- max(0, RMS_i - d_i(E)), F_last <- F_last 10^(0.0430103 n(E)).",
    ]


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, "utf-8")
    part.replace(path)
