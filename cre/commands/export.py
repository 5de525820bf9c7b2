"""``cre export``: write a trained network as an ONNX bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from processors.exceptions import CreError


class ExportCommandError(CreError):
    """There is nothing to export, or the place for it is taken."""


@click.command("export")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file; default in SOURCE."
)
@click.option("--zoo", type=click.Path(path_type=Path), help="Folder of a zoo, with its index.")
@click.option("--metrics", type=click.Path(path_type=Path), help="JSON with further figures.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier bundle.")
def command(
    source: Path, output: Path | None, zoo: Path | None, metrics: Path | None, overwrite: bool
) -> None:
    """Export SOURCE, the folder of a training (it holds checkpoint.pt).

    The bundle holds the normalisation and says what it is; it is compared with PyTorch on 10 000 events
    before it is written. Needs PyTorch: pip install 'dampe-cre[train]'.
    """
    checkpoint = source / "checkpoint.pt"
    if not checkpoint.is_file():
        msg = f"{source} holds no checkpoint.pt; give the folder of a training ('cre train -o FOLDER')"
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
