"""``cre status``: how far a run or a submission is, and what is missing."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from condor.records import read_submission
from condor.shards import ShardState
from cre.queuestate import shard_states
from processors.exceptions import CreError, IncompleteError

#: States of shards that need no sentence each.
_QUIET = ("done", "running", "idle")


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(folder: Path, as_json: bool) -> None:
    """Show the state of the run or of the shards in FOLDER; exit code 2 if it is incomplete."""
    if (folder / "submission.json").exists():
        _submission(folder, as_json=as_json)
        return
    state = _read(folder)
    if state["state"] == "running" and not _alive(state):
        state["state"] = "interrupted"
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        _show(folder, state)
    _complain(state)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "status.json"
    try:
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as err:
        msg = f"{path} cannot be read: is {folder} the output folder of a run?"
        raise CreError(msg) from err
    return state


def _show(folder: Path, state: dict[str, Any]) -> None:
    click.echo(f"{folder}: {state['state']}")
    click.echo(f"chunks: {state.get('processed', '?')} of {state['planned']} processed")
    click.echo(f"events: {state['events']}")
    if "livetime_s" in state:
        click.echo(f"livetime: {state['livetime_s']:.1f} s")
    for name, count in state.get("nonfinite", {}).items():
        if count:
            click.echo(f"NaN or infinite {name}: {count}")


def _complain(state: dict[str, Any]) -> None:
    missing = state.get("missing", {})
    if missing:
        lines = "\n  ".join(f"{name}: {why}" for name, why in missing.items())
        msg = f"{len(missing)} chunks are missing:\n  {lines}"
        raise IncompleteError(msg)
    if state["state"] == "interrupted":
        msg = "the process of this run is gone; start it again, finished chunks are kept"
        raise IncompleteError(msg)
    if state["state"] == "incomplete":
        msg = "too many NaN or infinite values; the run's message said how many are allowed"
        raise IncompleteError(msg)


def _alive(state: dict[str, Any]) -> bool:
    """Whether the process of a run still exists; on another host nobody can tell, so yes."""
    if state.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(state["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _submission(folder: Path, *, as_json: bool) -> None:
    """Shards held against the queue."""
    folder = folder.absolute()
    submission = read_submission(folder)
    states, trouble = shard_states(folder, submission)
    counts = dict(Counter(s.state for s in states))
    done = counts.get("done", 0)
    merged = _read(folder)["state"] if (folder / "status.json").exists() else None
    if as_json:
        content = {
            "state": "complete" if done == len(states) else "incomplete",
            "submission": submission.id,
            "site": submission.site.name,
            "shards": [asdict(s) for s in states],
            "counts": counts,
            "queue": trouble,
            "merged": merged,
        }
        click.echo(json.dumps(content, indent=1))
    else:
        click.echo(f"{folder}: {done} of {len(states)} shards done ({submission.site.name})")
        click.echo(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
        for s in states:
            if s.state not in _QUIET:
                job = f" (job {s.job})" if s.job else ""
                click.echo(f"shard {s.number}{job} {s.state}: {s.text}")
        _waiting(states)
        if trouble is not None:
            click.echo(f"queue: {trouble}")
        if merged is not None:
            click.echo(f"merged: {merged}")
    if done < len(states):
        under_way = {"idle", "running"} >= {s.state for s in states if s.state != "done"}
        rest = (
            "wait for them"
            if under_way
            else "'cre resubmit' runs again what neither waits nor runs"
        )
        msg = f"{len(states) - done} of {len(states)} shards are not done; {rest}"
        raise IncompleteError(msg)


def _waiting(states: list[ShardState]) -> None:
    idle = [s for s in states if s.state == "idle"]
    if idle:
        click.echo(
            f"{len(idle)} wait, for example job {idle[0].job} {idle[0].text} -> "
            f"if that is too long, 'condor_q -better-analyze {idle[0].job}' (Slurm: 'scontrol show job') says why"
        )
