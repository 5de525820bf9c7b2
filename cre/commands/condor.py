"""``cre condor``: plain shards on a batch system, and what would be submitted."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import click

from condor.jobscript import SETUP, setup_script
from condor.records import lock
from condor.site import Site, SiteError, read_site, shipped_sites
from condor.submit import description, prepare_folder, submit
from cre.provenance import record
from cre.running import note_inputs, prepare
from cre.shards import pack_card, submission_of, write_inputs

SITE = click.option("--site", required=True, help="Site file, or the name of a shipped one.")
SHARDS = click.option("--shards", type=click.IntRange(1), help="Number of shards.")
EVENTS = click.option(
    "--shard-events", type=click.IntRange(1), help="Most events of a shard  [default: 5000000]"
)
_EVENTS = 5_000_000


@click.group("condor")
def command() -> None:
    """Plain shards: one job per group of files, without connection between worker and submit host."""


@command.command("sites")
def sites() -> None:
    """Show the shipped site files."""
    for name in shipped_sites():
        site = read_site(name)
        click.echo(
            f"{name}: {site.scheduler}, files {site.files}, {site.memory_mb} MiB, {site.walltime_s} s; "
            f"{resources.files('condor') / 'sites' / name}.yaml"
        )


@command.command("pack")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
def pack(output: Path) -> None:
    """Make what a bare worker needs: a wheel of this program and a tarball of its packages."""
    from condor.pack import make_environment, make_wheel  # noqa: PLC0415 - slow to import, used here only

    wheel = make_wheel(output)
    click.echo(f"wrote {wheel} ({wheel.stat().st_size / 1e6:.0f} MB)")
    environment, size = make_environment(output)
    click.echo(
        f"wrote {environment} ({environment.stat().st_size / 1e6:.0f} MB, unpacked {size / 1e6:.0f} MB)"
    )


def _counts(shards: int | None, shard_events: int | None) -> tuple[int | None, int | None]:
    if shards is not None and shard_events is not None:
        msg = "give --shards or --shard-events, not both"
        raise click.UsageError(msg)
    return shards, (shard_events or _EVENTS) if shards is None else None


@command.command("script")
@click.argument("card", type=click.Path(path_type=Path))
@SITE
@SHARDS
@EVENTS
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("shards"), help="Folder."
)
def script(
    card: Path, site: str, shards: int | None, shard_events: int | None, output: Path
) -> None:
    """Print what would be submitted for CARD: for plain shards, and for Dask workers."""
    place = read_site(site)
    folder = output.absolute()
    click.echo(f"# ---- {SETUP}, sourced by each job\n{setup_script(place)}")
    _show(card, place, folder, _counts(shards, shard_events))
    if place.scheduler == "hep_sub":
        click.echo("# ---- Dask workers cannot be submitted with hep_sub")
        return
    from condor.pool import worker_description  # noqa: PLC0415 - needs the extra 'batch'

    click.echo(f"# ---- a Dask worker of 'cre run --cluster {place.scheduler}'")
    click.echo(worker_description(place, folder / "dask"))


def _show(card: Path, site: Site, folder: Path, counts: tuple[int | None, int | None]) -> None:
    run = prepare(card)
    submission, parts = submission_of(run, site, pack_card(run), shards=counts[0], events=counts[1])
    for name, text, call in description(folder, submission, site, parts):
        click.echo(f"# ---- {name}, given to: {' '.join(call)}\n{text}")
    click.echo(f"# {len(parts)} shards, {len(run.files)} files, {run.events} events")


@command.command("submit")
@click.argument("card", type=click.Path(path_type=Path))
@SITE
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@SHARDS
@EVENTS
@click.option("--dry-run", is_flag=True, help="Check everything and print it, submit nothing.")
def submit_command(
    card: Path,
    site: str,
    output: Path,
    shards: int | None,
    shard_events: int | None,
    dry_run: bool,
) -> None:
    """Cut the files of CARD into shards and submit them; records, parts and logs lie in the folder."""
    counts = _counts(shards, shard_events)
    place = read_site(site)
    place.check_files()
    folder = output.absolute()
    if (folder / "submission.json").exists():
        msg = f"{folder} holds a submission; see 'cre status', use 'cre resubmit', or choose another folder"
        raise FileExistsError(msg)
    if dry_run:
        _show(card, place, folder, counts)
        return
    if shutil.which(place.submit_command[0]) is None:
        msg = f"there is no command {place.submit_command[0]!r} on this machine; log in to a submit host of the site"
        raise SiteError(msg)
    run = prepare(card)
    travelling = pack_card(run)
    submission, parts = submission_of(run, place, travelling, shards=counts[0], events=counts[1])
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"card": card, "site": site, "output": folder}
    with lock(folder), record(folder / "submit.json", "condor submit", arguments) as entry:
        entry.read(card)
        note_inputs(run, entry)
        write_inputs(folder, run, submission, travelling)
        prepare_folder(folder, submission, parts)
        batches, warnings = submit(folder, submission, place, parts)
    for line in warnings:
        click.echo(line, err=True)
    jobs = ", ".join(b.cluster for b in batches)
    click.echo(
        f"submitted {len(parts)} shards, {run.events} events (jobs {jobs}); 'cre status {output}' shows them"
    )
