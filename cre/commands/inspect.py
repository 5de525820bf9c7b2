"""``cre inspect``: what a file holds, which fields were found, which cuts that disables."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from processors.ntuple import load_aliases
from processors.ntuplefile import disabled_cuts, field_table, look, self_check


@click.command("inspect")
@click.argument("file")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--check", is_flag=True, help="Compare what the file stores twice (reads events).")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def command(file: str, aliases: str, check: bool, as_json: bool) -> None:
    """Show the tree of FILE, its fields under their branches, and what is missing."""
    convention = load_aliases(aliases)
    content = look(file, convention)
    rows = field_table(content, convention)
    disabled = disabled_cuts(content, convention)
    checks = self_check(content, convention) if check else {}
    if as_json:
        click.echo(
            json.dumps(
                {
                    "file": content.path,
                    "uuid": content.uuid,
                    "tree": content.tree,
                    "entries": content.entries,
                    "fields": {name: source for name, _unit, source, _text in rows},
                    "disabled": disabled,
                    "checks": checks,
                    "record": dict(content.record),
                },
                indent=1,
            )
        )
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"{content.path}: tree {content.tree}, {content.entries} events, {content.uuid}")
    if content.record.get("synthetic"):
        console.print("[bold]synthetic[/bold] events, not data of the experiment")
    table = Table("field", "unit", "branch", "meaning")
    for row in rows:
        table.add_row(*row, style="red" if row[2] == "missing" else None)
    console.print(table)
    for cut, lacking in disabled.items():
        console.print(f"cut {cut!r} is not available: it needs {', '.join(lacking)}")
    if not disabled:
        console.print("every cut is available")
    for name, share in checks.items():
        console.print(f"{name}: {share:.2%} of the events disagree")
