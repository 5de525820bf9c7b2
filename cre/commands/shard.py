"""``cre shard``: what a batch job runs; not for users."""

from __future__ import annotations

from pathlib import Path

import click

from cre.shards import run_shard


@click.command("shard", hidden=True)
@click.argument("shard", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The part.")
def command(shard: Path, output: Path) -> None:
    """Run the plain shard SHARD from the files beside it; exit code 2 if chunks are missing."""
    run_shard(shard, output)
