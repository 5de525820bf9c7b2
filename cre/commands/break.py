"""``cre break``: fit broken power laws to a flux and test the break."""

# ruff: noqa: N999 - a sub-command is called like its module; nobody imports it by name
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

import analysis.published
from analysis.exceptions import FitNotConvergedError
from analysis.fluxtable import read_flux_table
from analysis.plots.style import marked
from analysis.published import load, names
from analysis.spectrum.cost import METHODS, FitOptions, Method
from analysis.spectrum.data import from_flux_table, from_published
from analysis.spectrum.models import MODELS
from analysis.usable import partial_text
from cre.analysiscard import BreakSection, analysis_card
from cre.breakreport import content, draw, study, text
from cre.provenance import program, record, sha256, write_json
from processors.exceptions import CreError

_DEFAULT_MODELS = ("smoothly_broken_power_law", "power_law_cutoff")


@click.command("break")
@click.argument("table")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Stem, e.g. break"
)
@click.option("--card", type=click.Path(path_type=Path), help="Run card; its section 'break'.")
@click.option(
    "--model", "models", type=click.Choice(list(MODELS)), multiple=True,
    help="Beside the power law; may be given again, toys are for the first.",
)  # fmt: skip
@click.option("--method", type=click.Choice(METHODS), help="Default: all three.")
@click.option("--toys", type=click.IntRange(min=0), default=0, help="Toys of the power law.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--toy-errors", type=click.Choice(["fixed", "counts"]), default="fixed",
    show_default=True, help="Errors of the toys' fluxes: the data's, or from the drawn counts.")  # fmt: skip
@click.option("--e-min-gev", type=float, help="Lowest edge.  [default: 55]")
@click.option("--e-max-gev", type=float, help="Highest edge.  [default: 2630]")
@click.option(
    "--leave-out", type=float, multiple=True, help="Energy in GeV whose bin is left out; repeat."
)
@click.option("--smoothness", type=float, help="Width of the break.  [default: 0.1]")
@click.option("--free-smoothness", is_flag=True, help="Fit the width of the break.")
@click.option("--nuisances", type=int, help="Intervals of systematics.  [default: 6]")
@click.option("--no-systematics", is_flag=True, help="Statistical errors only.")
@click.option("--bin-average", is_flag=True, help="Average the model over bins (least squares).")
@click.option("--background", type=click.Choice(["additive", "factor"]), default="additive",
    show_default=True, help="Poisson: known number of protons, or known share.")  # fmt: skip
@click.option("--livetime-s", type=float, help="Of a published set that prints none.")
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    table: str,
    output: Path,
    card: Path | None,
    models: tuple[str, ...],
    method: Method | None,
    toys: int,
    seed: int,
    toy_errors: Literal["fixed", "counts"],
    e_min_gev: float | None,
    e_max_gev: float | None,
    leave_out: tuple[float, ...],
    smoothness: float | None,
    free_smoothness: bool,
    nuisances: int | None,
    no_systematics: bool,
    bin_average: bool,
    background: Literal["additive", "factor"],
    livetime_s: float | None,
    overwrite: bool,
) -> None:
    """Fit TABLE, a flux table (.ecsv, .csv, .json) or the name of a published set.

    Writes STEM.json and the figures STEM_fits, STEM_profiles and, with --toys, STEM_toys.
    """
    path = output.with_name(output.name + ".json")
    figures = [f"{output.name}_{kind}.png" for kind in ("fits", "profiles", "toys")]
    for product in (path, *map(output.with_name, figures)):
        if product.exists() and not overwrite:
            msg = f"{product} exists; choose another --output or give --overwrite"
            raise FileExistsError(msg)
    section = BreakSection() if card is None else analysis_card(card, {}).break_
    given = {
        "e_min_gev": e_min_gev, "e_max_gev": e_max_gev, "left_out_gev": leave_out or None,
        "smoothness": smoothness, "nuisances": nuisances, "method": method,
    }  # fmt: skip
    changed = {key: value for key, value in given.items() if value is not None}
    settings = BreakSection.model_validate({**section.model_dump(), **changed})
    chosen = models or _DEFAULT_MODELS
    options = FitOptions(
        systematics=not no_systematics, bin_average=bin_average, background=background
    )
    source = Path(table)
    if table not in names() and not Path(table).exists():
        msg = f"{table!r} is neither a flux table nor a published set; 'cre compare --list' names those"
        raise CreError(msg)
    made_of: Mapping[str, Any] = {}
    if table in names():
        source = Path(analysis.published.__file__).with_name(f"{table}.csv")
        data = from_published(load(table), livetime_s)
    else:
        measured = read_flux_table(source)
        made_of, data = measured.meta, from_flux_table(measured, source.stem)
    arguments = {
        **settings.model_dump(), "models": chosen, "free_smoothness": free_smoothness,
        "systematics": not no_systematics, "bin_average": bin_average, "background": background,
        "toys": toys, "seed": seed, "toy_errors": toy_errors, "livetime_s": livetime_s,
    }  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    notes = output.with_name(output.name + ".provenance.json")
    with record(notes, "break", {"table": table, "card": card, **arguments}) as entry:
        entry.read(source)
        result = study(
            data, settings, options, chosen, free_smoothness=free_smoothness, n_toys=toys,
            seed=seed, toy_errors=toy_errors, tell=lambda said: click.echo(said, err=True),
        )  # fmt: skip
        origin = {"path": table, "sha256": sha256(source)}
        head = {"program": program(), "input": origin, "options": arguments}
        write_json(path, {**content(result), **head})
        with marked(partial_text(made_of)):
            drawn = draw(result, output, overwrite=overwrite)
        entry.wrote([path, *drawn])
        click.echo(text(result))
        click.echo(f"wrote {path} and {len(drawn)} figures")
        if result.failed:
            msg = f"{len(result.failed)} fits did not converge: {'; '.join(result.failed)}"
            raise FitNotConvergedError(msg)
