"""``cre export``: a flux table for HEPData, CRDB or a paper; a trained network as an ONNX bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from analysis.exports import (
    Dataset,
    marks,
    publishable,
    read_tables,
    write_crdb,
    write_hepdata,
    write_latex,
)
from cre.provenance import record
from processors.exceptions import CreError

_PATH = click.Path(path_type=Path)
_OF_NETWORKS = ("output", "zoo", "metrics")
_OF_TABLES = ("hepdata", "crdb", "latex")
_NEEDS = {  # what is said of the data, and the forms that hold it
    "publication": ("hepdata", "crdb"),
    "dates": ("crdb",),
    "experiment": ("crdb",),
    "energy_scale_error": ("crdb",),
}


class ExportCommandError(CreError):
    """There is nothing to export, or the place for it is taken."""


@click.command("export")
@click.argument("sources", type=_PATH, nargs=-1, required=True, metavar="SOURCE...")
@click.option("--hepdata", type=_PATH, help="Tables: folder of a HEPData submission.")
@click.option("--crdb", type=_PATH, help="Tables: file for CRDB, .usine or .csv (its import form).")
@click.option("--latex", type=_PATH, help="Tables: file with a longtable each.")
@click.option("--publication", help="Tables: bibcode or address.  [default: unpublished]")
@click.option("--dates", help="CRDB: months of the data.  [default: 2015/12-2025/10]")
@click.option("--experiment", help="CRDB: name of the experiment.  [default: DAMPE]")
@click.option("--energy-scale-error", type=float, help="CRDB: relative.  [default: 0, not given]")
@click.option("-o", "--output", type=_PATH, help="Network: the file; default in SOURCE.")
@click.option("--zoo", type=_PATH, help="Network: folder of a zoo, with its index.")
@click.option("--metrics", type=_PATH, help="Network: JSON with further figures.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
def command(sources: tuple[Path, ...], overwrite: bool, **options: Any) -> None:
    """Export flux tables, or a trained network.

    With one or more flux tables (.ecsv, .csv, .json) as SOURCE, say what to write: --hepdata, --crdb,
    --latex, or several of them. Nothing else is read. A table that is the only one of its region is
    called by it, others by their file names. Bins without a flux are left out and named; a flux that
    is not positive becomes an upper limit. --hepdata needs hepdata_lib: pip install -e '.[hepdata]'.

    With the folder of a training (it holds checkpoint.pt) as SOURCE, its network becomes an ONNX bundle,
    which holds the normalisation and says what it is; it is compared with PyTorch on 10 000 events
    before it is written. Needs PyTorch: pip install 'dampe-cre[train]'.
    """
    given = {name for name, value in options.items() if value is not None}
    folders = [source for source in sources if source.is_dir()]
    if folders:
        if len(sources) > 1:
            msg = f"{folders[0]} is a folder; give one training folder, or flux tables only"
            raise ExportCommandError(msg)
        _refuse(given - {*_OF_NETWORKS}, f"a training folder ({sources[0]})")
        _network(sources[0], options["output"], options["zoo"], options["metrics"], overwrite)
        return
    missing = [source for source in sources if not source.exists()]
    if missing:
        msg = f"{missing[0]} does not exist; give flux tables or the folder of a training"
        raise ExportCommandError(msg)
    _refuse(given & {*_OF_NETWORKS}, f"flux tables ({sources[0]})")
    if not given & {*_OF_TABLES}:
        msg = "say what to write: --hepdata FOLDER, --crdb FILE, --latex FILE"
        raise ExportCommandError(msg)
    unused = {name for name, forms in _NEEDS.items() if not given & {*forms}}
    _refuse(given & unused, "what is to be written")
    dataset = Dataset(**{name: options[name] for name in _NEEDS if name in given})
    places = {name: options[name] for name in _OF_TABLES if name in given}
    _tables(sources, places, dataset, overwrite)


def _refuse(options: set[str], what: str) -> None:
    if options:
        msg = f"--{min(options).replace('_', '-')} does not go with {what}"
        raise ExportCommandError(msg)


def _tables(
    sources: tuple[Path, ...], places: dict[str, Path], dataset: Dataset, overwrite: bool
) -> None:
    taken = [path.resolve() for path in (*sources, *places.values())]
    if len(set(taken)) < len(taken):
        msg = "each table and each product must be a file of its own; one path is given twice"
        raise ExportCommandError(msg)
    for path in places.values():  # before a record of this call replaces that of the earlier one
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another name or give --overwrite"
            raise FileExistsError(msg)
    tables = read_tables(sources)
    writers: dict[str, Callable[[Path], list[Path]]] = {
        "hepdata": lambda path: write_hepdata(
            tables, path, publication=dataset.publication, overwrite=overwrite
        ),
        "crdb": lambda path: [write_crdb(tables, path, dataset, overwrite=overwrite)],
        "latex": lambda path: [write_latex(tables, path, overwrite=overwrite)],
    }
    for label, table in tables.items():
        bins = publishable(table)
        click.echo(
            f"{label}: {int(bins.measured.sum())} bins, {int(bins.limit.sum())} upper limits"
        )
        for mark in marks(table):
            click.echo(f"  {mark}: not to be published as data of the experiment")
        for sentence in bins.left_out:
            click.echo(f"  left out {sentence}")
    if "crdb" in places:
        click.echo(
            f"CRDB: {dataset.experiment}, {dataset.dates}, publication {dataset.publication}, "
            f"energy scale {dataset.energy_scale_error or 'not given'}"
        )
    for name, path in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        arguments = {"sources": [*map(str, sources)], name: path, **vars(dataset)}
        with record(path.with_name(f"{path.name}.provenance.json"), "export", arguments) as entry:
            for source in sources:
                entry.read(source)
            written = writers[name](path)
            entry.wrote(written)
        click.echo(f"wrote {path}" + (f" and {written[-1].name}" if len(written) > 1 else ""))


def _network(
    source: Path, output: Path | None, zoo: Path | None, metrics: Path | None, overwrite: bool
) -> None:
    checkpoint = source / "checkpoint.pt"
    if not checkpoint.is_file():
        msg = (
            f"{source} holds no checkpoint.pt; give the folder of a training ('cre train -o FOLDER'), "
            "or flux tables"
        )
        raise ExportCommandError(msg)
    if output is not None and zoo is not None:
        msg = "give --output or --zoo, not both: the zoo names its files itself"
        raise ExportCommandError(msg)
    further = _metrics(metrics) if metrics is not None else None
    name = json.loads((source / "recipe.json").read_text("utf-8"))["name"]
    path = zoo / f"{name}.onnx" if zoo is not None else output or source / f"{name}.onnx"
    if path.exists() and not overwrite:
        msg = f"{path} exists; give --overwrite or another place"
        raise FileExistsError(msg)
    try:
        from models.export import add_to_zoo, export  # noqa: PLC0415 - loads PyTorch
    except ModuleNotFoundError as err:
        if err.name not in {"torch", "onnx"}:
            raise
        msg = f"the export needs {err.name}; install it with: pip install 'dampe-cre[train]'"
        raise ExportCommandError(msg) from err
    bundle = export(checkpoint, path, metrics=further)
    found = bundle.bundle.metrics["parity"]
    click.echo(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    click.echo(f"largest difference from PyTorch: {found:.1e} of the spread of the output")
    if zoo is not None:
        click.echo(f"wrote {add_to_zoo(bundle, zoo)}")


def _metrics(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as err:
        msg = f"{path} is no JSON ({err})"
        raise ExportCommandError(msg) from err
    if not isinstance(content, dict):
        msg = f"{path} must hold a JSON object, name to figure"
        raise ExportCommandError(msg)
    return content
