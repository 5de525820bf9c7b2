"""``cre merge``: from the parts of plain shards to the histograms of the run."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.histfile import SUFFIXES
from condor.merging import gather
from condor.records import read_submission
from cre.card import CardError
from cre.provenance import record
from cre.runmeta import livetimes
from cre.running import clear_products, note_inputs, prepare, write_products


@click.command("merge")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Instead of FOLDER itself.")
@click.option(
    "--allow-missing", is_flag=True, help="Merge the complete files although others are missing."
)
@click.option("--overwrite", is_flag=True, help="Replace the products of an earlier merge.")
def command(folder: Path, output: Path | None, allow_missing: bool, overwrite: bool) -> None:
    """Merge the parts of the shards of FOLDER; exit code 2 if one is missing, damaged or of another run."""
    submission = read_submission(folder)
    card = folder / "card.yaml"
    run = prepare(card, output or folder)
    plain = run.card.as_dict() | {k: submission.card[k] for k in ("manifest", "output")}
    if plain != submission.card:
        different = sorted(k for k in plain if plain[k] != submission.card.get(k))
        msg = (
            f"{card} is not the card that was submitted: {', '.join(different)} differ; submit anew"
        )
        raise CardError(msg)
    run.folder.mkdir(parents=True, exist_ok=True)
    arguments = {"folder": folder, "output": run.folder, "allow_missing": allow_missing}
    with record(run.folder / "provenance.json", "merge", arguments) as entry:
        entry.read(card)
        note_inputs(run, entry)
        entry.notes["submission"] = submission.id
        result = gather(folder, submission, run.config, run.items, allow_missing=allow_missing)
        clear_products(run, overwrite=overwrite)
        meta = write_products(run, result, entry, overwrite=overwrite)
    shown = ", ".join(f"{s:.1f} s ({b} BGO)" for b, s in livetimes(meta).items())
    click.echo(f"wrote {run.stem}{{{','.join(SUFFIXES)}}}; livetime {shown}")
