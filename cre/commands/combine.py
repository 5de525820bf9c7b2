"""``cre combine``: fit how the networks of a region are combined into omega."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import click

from cre.card import CardError, card_models, read_card, shipped_card
from cre.progress import progress
from cre.provenance import record, sha256
from models import catalogue
from models.combination import areas, fit_omega
from models.scored import score_sample
from processors.calibration import load_calibration
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.omega import write_omega

EDGES_GEV = (20.0, 100.0, 1000.0, 10_000.0)


@click.command("combine")
@click.argument("region", type=click.Choice(["fiducial", "topfiducial"]))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file.")
@click.option("--zoo", type=click.Path(path_type=Path), help="Folder of a zoo, with its index.")
@click.option(
    "--card", type=click.Path(path_type=Path), help="Names networks and cuts; default the shipped."
)
@click.option("--pair", type=(str, str), help="Networks of the likelihood ratio.")
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def command(
    region: Literal["fiducial", "topfiducial"],
    files: tuple[Path, ...],
    output: Path | None,
    zoo: Path | None,
    card: Path | None,
    pair: tuple[str, str] | None,
    aliases: str,
    overwrite: bool,
) -> None:
    """Score the simulated FILES with the networks of REGION and fit the parameters of omega.

    Use other files than those of the training.
    """
    if (output is None) == (zoo is None):
        msg = "give --output or --zoo"
        raise click.UsageError(msg)
    output = output or Path(str(zoo)) / f"omega_{region}.json"
    if output.exists() and not overwrite:
        msg = f"{output} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    source = card or shipped_card("fiducial")
    resolved = read_card(source).model_copy(update={"regions": (region,)})
    names = [n for n in resolved.models.get(region, {}) if n != "omega"]
    if not names:
        msg = f"card {str(source)!r} names no network for the {region} region; add some under 'models'"
        raise CardError(msg)
    models = card_models(resolved, scores=names, any_energy=True)
    calibration = None if resolved.calibration is None else load_calibration(resolved.calibration)
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {
        "region": region, "files": files, "output": output, "card": source, "pair": pair,
    }  # fmt: skip
    with record(output.with_name(output.stem + ".provenance.json"), "combine", arguments) as entry:
        entry.notes["models"] = models.to_list()
        inputs = [{"path": str(path), "sha256": sha256(path)} for path in files]
        entry.inputs += inputs
        convention = load_aliases(aliases)
        total = sum(look(str(path), convention).entries for path in files)
        with progress("score", total) as advance:
            sample, synthetic = score_sample(
                files, region, models, resolved.cuts, resolved.target,
                aliases=aliases, calibration=calibration, advance=advance,
            )  # fmt: skip
        plain = resolved.as_dict()
        fit = {
            "inputs": [{"file": path.name, "sha256": i["sha256"]} for path, i in zip(files, inputs, strict=True)],
            "cuts": plain["cuts"],
            "calibration": None if calibration is None else calibration.name,
            "target": plain["target"],
        }  # fmt: skip
        omega = fit_omega(sample, region, models, pair=pair, synthetic=synthetic, fit=fit)
        write_omega(omega, output)
        entry.wrote([output])
        if zoo is not None:
            catalogue.register(output.stem, output.name, zoo=zoo)
        table = areas(sample, omega, EDGES_GEV)
        entry.notes["auc"] = {"edges_gev": list(EDGES_GEV), **table}
    click.echo(f"{omega.fit['electrons']} electrons, {omega.fit['protons']} protons; AUC on them:")
    ranges = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(EDGES_GEV)]
    click.echo(f"{'GeV':>18} " + " ".join(f"{r:>11}" for r in ranges))
    for name, values in table.items():
        click.echo(f"{name:>18} " + " ".join(f"{v:11.6f}" for v in values))
    click.echo(f"wrote {output}")
