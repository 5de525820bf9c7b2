"""``cre resubmit``: submit again the shards that are not done."""

from __future__ import annotations

from pathlib import Path

import click

from condor.queue import QueueError, call
from condor.records import lock, name_of, read_shard, read_submission
from condor.shards import ShardState, part_path
from condor.site import Site, read_site
from condor.submit import submit
from cre.queuestate import shard_states

#: States after which a shard is submitted again.
AGAIN = ("waiting", "incomplete", "failed", "damaged", "foreign", "lost", "held")


@click.command("resubmit")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--memory-mb", type=click.IntRange(1), help="Memory of a job, instead of the site's.")
@click.option("--site", help="Site file, instead of the one at submission.")
@click.option(
    "--lost", is_flag=True, help="Also shards of which the batch system tells nothing: you looked."
)
@click.option("--dry-run", is_flag=True, help="Say what would be submitted.")
def command(
    folder: Path, memory_mb: int | None, site: str | None, lost: bool, dry_run: bool
) -> None:
    """Submit the shards of FOLDER that are not done; those that wait or run are left alone.

    Held jobs are removed and submitted anew.
    """
    folder = folder.absolute()
    submission = read_submission(folder)
    used = submission.site if site is None else read_site(site)
    if memory_mb is not None:
        used = Site.model_validate(used.model_dump() | {"memory_mb": memory_mb})
    with lock(folder):
        states, trouble = shard_states(folder, submission)
        if trouble is not None and not lost:
            msg = f"{trouble}; --lost submits every shard without a part, look first that none waits or runs"
            raise QueueError(msg)
        wanted = (*AGAIN, "unknown") if lost else AGAIN
        again = [s for s in states if s.state in wanted]
        if not again:
            click.echo(f"{folder}: nothing to submit")
            return
        click.echo(f"{len(again)} of {len(states)} shards: {_list(again)}")
        if dry_run:
            return
        _remove([s for s in again if s.state == "held"], used)
        for s in again:
            path = part_path(folder, s.number)
            if path.exists() and s.state != "incomplete":
                path.replace(path.with_suffix(f".{s.state}"))
        shards = [read_shard(folder / "shards" / f"{name_of(s.number)}.json") for s in again]
        batches, warnings = submit(folder, submission, used, shards)
    for line in warnings:
        click.echo(line, err=True)
    click.echo(f"submitted {len(again)} jobs: {', '.join(b.cluster for b in batches)}")


def _remove(held: list[ShardState], site: Site) -> None:
    if held:
        tool = "scancel" if site.scheduler == "slurm" else "condor_rm"
        call([tool, *(s.job for s in held)], site.queue.timeout_s)


def _list(states: list[ShardState]) -> str:
    return ", ".join(f"{s.number} ({s.state})" for s in states)
