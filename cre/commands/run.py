"""``cre run``: fill the histograms of a run card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from distributed import Client

from analysis.histfile import SUFFIXES
from condor.clusters import BATCH, open_cluster
from condor.site import read_site
from cre.card import CardError
from cre.progress import progress
from cre.provenance import record
from cre.runmeta import livetimes
from cre.running import clear_products, note_inputs, prepare, told, write_products
from processors.checkpoints import Checkpoints
from processors.daskrun import DaskOptions
from processors.memory import read_chunks_only
from processors.run import execute

_QUEUE_S = 86_400.0


@click.command("run")
@click.argument("card", type=click.Path(path_type=Path))
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--cluster", help="Dask workers: local, htcondor, slurm, or a scheduler's tcp://… or tls://…"
)
@click.option("--site", help="Site file for --cluster, a shipped name or a path.")
@click.option("--jobs", type=click.IntRange(1), default=10, show_default=True, help="Batch jobs.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Instead of the card's folder."
)
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Take finished chunks of an earlier run with the same code, card and models.",
)
@click.option("--overwrite", is_flag=True, help="Replace the products of an earlier run.")
@click.option("--dry-run", is_flag=True, help="Check everything, read no events.")
def command(
    card: Path,
    workers: int,
    cluster: str | None,
    site: str | None,
    jobs: int,
    output: Path | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Read the files of CARD's manifest, select, score and fill; exit code 2 if anything is missing."""
    run = prepare(card, output)
    click.echo(f"{len(run.files)} files, {len(run.items)} chunks, {run.events} events", err=True)
    if dry_run:
        return
    clear_products(run, overwrite=overwrite)
    run.folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "card": card, "workers": workers, "cluster": cluster, "site": site, "jobs": jobs,
        "output": run.folder, "resume": resume,
    }  # fmt: skip
    with record(run.folder / "provenance.json", "run", arguments) as entry:
        entry.read(card)
        note_inputs(run, entry)
        checkpoints = Checkpoints(run.folder / "checkpoints", run.config)
        if not resume:
            checkpoints.forget(run.items)
        known = sum(checkpoints.path(item).exists() for item in run.items)
        if known:
            click.echo(f"{known} of {len(run.items)} chunks are there already", err=True)
        entry.notes["resumed_chunks"] = known
        with (
            progress("run", run.events) as advance,
            _workers(cluster, site, jobs, run.folder) as (client, options),
        ):
            read_chunks_only()
            result = execute(
                run.items,
                run.config,
                workers=workers,
                client=client,
                options=options,
                checkpoints=checkpoints,
                progress=told(run, advance),
            )
        meta = write_products(run, result, entry, overwrite=overwrite)
    several = len(run.card.bgo_reconstruction) > 1
    seconds = ", ".join(
        f"{s:.1f} s" + (f" ({bgo} BGO)" if several else "") for bgo, s in livetimes(meta).items()
    )
    click.echo(f"wrote {run.stem}{{{','.join(SUFFIXES)}}}; livetime {seconds}")


@contextmanager
def _workers(
    cluster: str | None, site: str | None, jobs: int, folder: Path
) -> Iterator[tuple[Client | None, DaskOptions | None]]:
    """Dask workers of a cluster and how patient to be with them; none for this machine alone."""
    if cluster is None:
        if site is not None:
            msg = "--site describes a cluster: give --cluster htcondor or slurm with it"
            raise CardError(msg)
        yield None, None
        return
    chosen = None if site is None else read_site(site)
    with open_cluster(cluster, chosen, jobs, folder) as (client, watch):
        # jobs may wait long in the queue of a batch system, and are watched there
        patience = _QUEUE_S if cluster in BATCH else DaskOptions.no_worker_s
        yield (
            client,
            DaskOptions(
                no_worker_s=patience, watch=watch, tell=lambda text: click.echo(text, err=True)
            ),
        )
