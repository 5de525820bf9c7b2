"""``cre status``: how far a run is and what is missing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import click

from processors.exceptions import CreError, IncompleteError


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(folder: Path, as_json: bool) -> None:
    """Show the state of the run in FOLDER; exit code 2 if it is incomplete."""
    path = folder / "status.json"
    try:
        state = json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as err:
        msg = f"{path} cannot be read: is {folder} the output folder of a run?"
        raise CreError(msg) from err
    if state["state"] == "running" and not _alive(state):
        state["state"] = "interrupted"
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        click.echo(f"{folder}: {state['state']}")
        click.echo(f"chunks: {state.get('processed', '?')} of {state['planned']} processed")
        click.echo(f"events: {state['events']}")
        if "livetime_s" in state:
            click.echo(f"livetime: {state['livetime_s']:.1f} s")
        for name, count in state.get("nonfinite", {}).items():
            if count:
                click.echo(f"NaN or infinite {name}: {count}")
    missing = state.get("missing", {})
    if missing:
        lines = "\n  ".join(f"{name}: {why}" for name, why in missing.items())
        msg = f"{len(missing)} chunks are missing:\n  {lines}"
        raise IncompleteError(msg)
    if state["state"] == "interrupted":
        msg = "the process of this run is gone; start it again with --overwrite"
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
