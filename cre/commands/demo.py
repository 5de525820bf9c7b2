"""``cre demo``: the whole chain on a synthetic sample, command by command."""

from __future__ import annotations

import importlib
import shlex
from importlib import resources
from pathlib import Path

import click

from cre.commands import (
    closure,
    compare,
    display,
    export,
    fit,
    flux,
    manifest,
    plot,
    run,
    simulate,
    toy,
)

#: "break" is a keyword, its module can only be imported by name.
break_ = importlib.import_module("cre.commands.break")

#: Data are complete from 106 GeV on; the simulated samples reach beyond the last populated bins. Rays
#: outside the fiducial volume are thinned, with weights, to spend the time where the analysis looks.
DATA = "--kind data --e-min-gev 95 --e-max-gev 10000 --min-deposit-gev 95 --triggered-only --files 4 --seed 1"
ELECTRON = (
    "--kind electron --e-min-gev 85 --e-max-gev 20000 --min-deposit-gev 70 --triggered-only "
    "--outside-share 0.2 --seed 2"
)
PROTON = "--kind proton --min-deposit-gev 80 --triggered-only --outside-share 0.2 --tail-sampling --seed 3"
#: Ten years of toys; the simulation as large as that of an experiment, and protons that are shifted.
TOY = (
    "--shift 0.8 0.4 --electron-events 20000 --proton-events 50000 --proton-bulk-weight 10 --seed 4"
)
LIVETIME_S = 400_000.0
ELECTRONS_THROWN = 10_000_000
#: Lowest and highest energy and primaries thrown: fewer where showers are large and protons are rare.
PROTONS_THROWN = (
    (95, 250, 18_000_000),
    (250, 800, 15_000_000),
    (800, 4_000, 6_000_000),
    (4_000, 30_000, 1_500_000),
)


@click.command("demo")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo"))
@click.option("--scale", type=click.FloatRange(0.01, 10.0), default=1.0, show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes; default one per core.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
def command(output: Path, scale: float, workers: int | None, overwrite: bool) -> None:
    """Simulate, describe, run, measure and draw; every step is a command that can be repeated.

    SCALE multiplies livetime and simulated events.
    """
    output.mkdir(parents=True, exist_ok=True)
    card = output / "card.yaml"
    if card.exists() and not overwrite:
        msg = f"{card} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    template = resources.files("cre.cards") / "omega.yaml"
    card.write_text(template.read_text("utf-8"), "utf-8")
    ntuples = output / "ntuples"
    where = f"-o {shlex.quote(str(ntuples))}" + (f" --workers {workers}" if workers else "")
    again = "--overwrite" if overwrite else ""
    _do(simulate.command, f"{DATA} --livetime-s {LIVETIME_S * scale:.0f} {where} {again}")
    _do(simulate.command, f"{ELECTRON} --events {ELECTRONS_THROWN * scale:.0f} {where} {again}")
    for low, high, thrown in PROTONS_THROWN:
        energies = f"--e-min-gev {low} --e-max-gev {high} --events {thrown * scale:.0f}"
        _do(simulate.command, f"{PROTON} {energies} {where} {again}")
    files = sorted(ntuples.glob("DmlNtup_synthetic_*.root"))
    here = shlex.quote(str(output))
    _do(
        manifest.command,
        f"{shlex.join(map(str, files))} -o {here}/manifest.json {again}",
    )
    _do(run.command, f"{here}/card.yaml {f'--workers {workers}' if workers else ''} {again}")
    _measure(f"{here}/run/histograms.json.gz", here, "", 1000.0, again)
    for kind in ("electron", "proton"):
        file = next(f for f in files if f"_{kind}_" in f.name)
        _do(
            display.command,
            f"{shlex.quote(str(file))} --entry 11 -o {here}/figures/event_{kind} {again}",
        )
    _ten_years(f"{here}/ten_years", f"--card {here}/card.yaml", again)
    click.echo(
        f"the flux is in {output}/flux.csv, the figures are in {output}/figures and {output}/fit;"
    )
    click.echo(f"{output}/ten_years holds the same for toys of the full exposure, with the break")


def _measure(histograms: str, folder: str, card: str, most_gev: float, again: str) -> None:
    """From histograms to the fit, the flux, its figures and the files for publication."""
    _do(fit.command, f"{histograms} -o {folder}/fit {card} {again}")
    _do(flux.command, f"{histograms} -o {folder}/flux --systematics {card} {again}")
    _do(compare.command, f"{folder}/flux.ecsv --injected --e-max-gev {most_gev:g}")
    _do(plot.command, f"{histograms} --flux {folder}/flux.ecsv -o {folder}/figures {again}")
    publication = f"--hepdata {folder}/hepdata --crdb {folder}/flux.usine --latex {folder}/flux.tex"
    _do(export.command, f"{folder}/flux.ecsv {publication} {again}")


def _ten_years(folder: str, card: str, again: str) -> None:
    """Toys of ten years in orbit, with a proton shift: the fit must find it, the spectrum its break."""
    _do(toy.command, f"-o {folder} {TOY} {again}")
    _measure(f"{folder}/histograms.json.gz", folder, card, 11_000.0, again)
    _do(closure.command, f"-o {folder}/closure --toys 50 {again}")
    _do(break_.command, f"{folder}/flux.ecsv -o {folder}/break --toys 1000 {card} {again}")


def _do(step: click.Command, line: str) -> None:
    """Run a sub-command as a user would, and show its line."""
    click.echo(f"$ cre {step.name} {' '.join(line.split())}")
    step.main(shlex.split(line), prog_name=f"cre {step.name}", standalone_mode=False)
