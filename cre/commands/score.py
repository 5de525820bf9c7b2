"""``cre score``: copies of ntuples with the scores of the networks and omega."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cre.card import CardError, card_models, read_card, shipped_card
from cre.progress import progress
from cre.provenance import program, record, sha256
from processors.calibration import load_calibration
from processors.exceptions import NonFiniteError
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.score import SCORES
from processors.scorefile import Scoring, check_fields, score_file


@click.command("score")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option(
    "--card", type=click.Path(path_type=Path), help="Names networks and cuts; default the shipped."
)
@click.option("--kind", type=click.Choice(["data", "electron", "proton"]), help="If not stored.")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--drop", multiple=True, metavar="BRANCH", help="Branch to leave out (repeatable).")
@click.option("--overwrite", is_flag=True, help="Replace the copies.")
def command(
    files: tuple[str, ...],
    output: Path,
    card: Path | None,
    kind: str | None,
    aliases: str,
    drop: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Copy FILES and add MLscore_<network> for each network of the card, and omega.

    An event has scores if it is selected in a region for which the card has networks, the edge cut aside;
    the others have NaN.
    """
    targets = [output / Path(f).name for f in files]
    existing = [t for t in targets if t.exists()]
    if existing and not overwrite:
        msg = f"{existing[0]} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    if len(set(targets)) < len(targets):
        msg = "two of the files have the same name; score them into different folders"
        raise click.UsageError(msg)
    source = card or shipped_card("fiducial")
    resolved = read_card(source)
    per_region = {
        region: list(networks) for region, networks in resolved.models.items() if networks
    }
    if not per_region:
        msg = f"card {str(source)!r} names no network; add some under 'models'"
        raise CardError(msg)
    parts = [
        card_models(
            resolved.model_copy(update={"regions": (region,)}), scores=names, any_energy=True
        )
        for region, names in per_region.items()
    ]
    models = replace(
        parts[0],
        members={r: m for part in parts for r, m in part.members.items()},
        omega={r: o for part in parts for r, o in part.omega.items()},
        omega_files={r: f for part in parts for r, f in part.omega_files.items()},
    )
    names = list(dict.fromkeys(n for several in per_region.values() for n in several))
    scoring = Scoring(
        cuts=resolved.cuts,
        regions=tuple(per_region),
        names=[n for n in names if n not in SCORES],
        models=models,
        calibration=None
        if resolved.calibration is None
        else load_calibration(resolved.calibration),
        note={"program": program(), "card": resolved.name},
    )
    convention = load_aliases(aliases)
    contents = [look(f, convention) for f in files]
    for content in contents:  # before the first copy is written
        check_fields(content, convention, scoring)
    total = sum(content.entries for content in contents)
    output.mkdir(parents=True, exist_ok=True)
    arguments = {"files": list(files), "output": output, "card": source, "drop": list(drop)}
    # named after the first copy: another call into the folder leaves it alone
    with record(output / f"{targets[0].stem}.score.provenance.json", "score", arguments) as entry:
        entry.read(source)
        entry.inputs += [{"path": c.path, "uuid": c.uuid} for c in contents]
        entry.notes["models"] = scoring.models.to_list()
        entry.notes["scored"] = {}
        entry.notes["nonfinite"] = {}
        with progress("score", total) as advance:
            for file, target in zip(files, targets, strict=True):
                counts, bad, lost = score_file(
                    file, target, convention, scoring, kind=kind, drop=drop, advance=advance
                )
                entry.outputs.append({"path": str(target), "sha256": sha256(target)})
                entry.notes["scored"][target.name] = counts
                entry.notes["nonfinite"][target.name] = bad
                if lost:
                    click.echo(f"{file}: not in the copy: {', '.join(lost)}", err=True)
        for target in targets:
            counts = entry.notes["scored"][target.name]
            click.echo(f"wrote {target}: " + ", ".join(f"{n} {b}" for b, n in counts.items()))
        for target in targets:
            for branch, bad_events in entry.notes["nonfinite"][target.name].items():
                events = bad_events + entry.notes["scored"][target.name][branch]
                if bad_events > resolved.max_nonfinite_fraction * events:
                    msg = (
                        f"{target}: {bad_events} of {events} selected events have a NaN or infinite {branch} "
                        "or input of it; find out why, or raise max_nonfinite_fraction "
                        f"({resolved.max_nonfinite_fraction}) in the card"
                    )
                    raise NonFiniteError(msg)
