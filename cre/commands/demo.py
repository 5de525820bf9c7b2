"""``cre demo``: the whole chain on a synthetic sample, command by command."""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from cre.card import shipped_card
from cre.commands import (
    average,
    closure,
    compare,
    display,
    export,
    fit,
    flux,
    manifest,
    plot,
    regions,
    run,
    simulate,
    stability,
    toy,
)

#: "break" is a keyword, its module can only be imported by name.
break_ = importlib.import_module("cre.commands.break")

#: Data are complete from 106 GeV on; the simulated samples reach beyond the last populated bins. Rays
#: that miss the fiducial square at the top are thinned, with weights, to spend the time where the analysis looks.
#: The livetime lies in two years, so that there are months to compare.
DATA = (
    "--kind data --e-min-gev 95 --e-max-gev 10000 --min-deposit-gev 95 --triggered-only "
    "--spread-over-years 2 --files 4 --seed 1"
)
ELECTRON = (
    "--kind electron --e-min-gev 85 --e-max-gev 20000 --min-deposit-gev 70 --triggered-only "
    "--outside-share 0.1 --full-region both --seed 2"
)
PROTON = (
    "--kind proton --min-deposit-gev 80 --triggered-only --outside-share 0.1 --full-region both "
    "--tail-sampling --seed 3"
)
#: Ten years of toys; the simulation as large as that of an experiment, and protons that are shifted, in the
#: showers that leak by more.
TOY = "--electron-events 20000 --proton-events 50000 --proton-bulk-weight 10 --seed 4"
SHIFT = {"fiducial": "--shift 0.8 0.4", "topfiducial": "--shift 1.2 0.6"}
TOY_MODEL = {"fiducial": "synthetic_omega", "topfiducial": "synthetic_omega_topfiducial"}
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
    cards = {region: output / f"{region}.yaml" for region in SHIFT}
    for region, card in cards.items():
        if card.exists() and not overwrite:
            msg = f"{card} exists; choose another --output or give --overwrite"
            raise FileExistsError(msg)
        card.write_text(shipped_card(region).read_text("utf-8"), "utf-8")
    here, again = shlex.quote(str(output)), "--overwrite" if overwrite else ""
    files = _simulate(output / "ntuples", scale, workers, again)
    _do(manifest.command, f"{shlex.join(map(str, files))} -o {here}/manifest.json {again}")
    processes = f"--workers {workers or os.cpu_count() or 1}"
    runs = {}
    for region, card in cards.items():
        folder = f"{here}/run" if region == "fiducial" else f"{here}/run_{region}"
        runs[region] = f"{folder}/histograms.json.gz"
        _do(run.command, f"{shlex.quote(str(card))} -o {folder} {processes} {again}")
    _both(runs, here, dict.fromkeys(runs, ""), 1000.0, 288.0, again)
    _do(stability.command, f"{runs['fiducial']} -o {here}/stability {again}")
    for kind in ("electron", "proton"):
        file = next(f for f in files if f"_{kind}_" in f.name)
        _do(
            display.command,
            f"{shlex.quote(str(file))} --entry 11 -o {here}/figures/event_{kind} {again}",
        )
    _ten_years(f"{here}/ten_years", cards, again)
    click.echo(
        f"the flux is in {output}/flux.csv, the figures are in {output}/figures and {output}/fit;"
    )
    click.echo(
        f"{output}/topfiducial has those of the showers that leak, {output}/combined both together;"
    )
    click.echo(f"{output}/ten_years holds the same for toys of the full exposure, with the break")


def _simulate(folder: Path, scale: float, workers: int | None, again: str) -> list[Path]:
    """Data and simulated samples."""
    where = f"-o {shlex.quote(str(folder))}" + (f" --workers {workers}" if workers else "")
    _do(simulate.command, f"{DATA} --livetime-s {LIVETIME_S * scale:.0f} {where} {again}")
    _do(simulate.command, f"{ELECTRON} --events {ELECTRONS_THROWN * scale:.0f} {where} {again}")
    for low, high, thrown in PROTONS_THROWN:
        energies = f"--e-min-gev {low} --e-max-gev {high} --events {thrown * scale:.0f}"
        _do(simulate.command, f"{PROTON} {energies} {where} {again}")
    return sorted(folder.glob("DmlNtup_synthetic_*.root"))


def _both(
    histograms: Mapping[str, str],
    folder: str,
    cards: Mapping[str, str],
    most_gev: float,
    combined_from_gev: float,
    again: str,
) -> None:
    """Measure both regions, put them side by side, and combine them."""
    own = {"fiducial": folder, "topfiducial": f"{folder}/topfiducial"}
    for region, file in histograms.items():
        _measure(file, own[region], cards[region], most_gev, again)
    tables = " ".join(f"{place}/flux.ecsv" for place in own.values())
    files = " ".join(histograms.values())
    _do(regions.command, f"{files} --flux {tables} -o {folder}/combined {again}")
    _do(
        average.command,
        f"{tables} -o {folder}/combined/flux --e-min-gev {combined_from_gev:g} "
        f"--figures {folder}/combined {again}",
    )
    _do(compare.command, f"{folder}/combined/flux.ecsv --injected --e-max-gev {most_gev:g}")


def _measure(histograms: str, folder: str, card: str, most_gev: float, again: str) -> None:
    """From histograms to the fit, the flux, its figures and the files for publication."""
    _do(fit.command, f"{histograms} -o {folder}/fit {card} {again}")
    _do(flux.command, f"{histograms} -o {folder}/flux --systematics {card} {again}")
    _do(compare.command, f"{folder}/flux.ecsv --injected --e-max-gev {most_gev:g}")
    _do(plot.command, f"{histograms} --flux {folder}/flux.ecsv -o {folder}/figures {again}")
    publication = f"--hepdata {folder}/hepdata --crdb {folder}/flux.usine --latex {folder}/flux.tex"
    _do(export.command, f"{folder}/flux.ecsv {publication} {again}")


def _ten_years(folder: str, cards: Mapping[str, Path], again: str) -> None:
    """Toys of ten years in orbit, with a proton shift: the fit must find it, the spectrum its break."""
    own = {"fiducial": folder, "topfiducial": f"{folder}/topfiducial"}
    given = {region: f"--card {shlex.quote(str(card))}" for region, card in cards.items()}
    for region, place in own.items():
        _do(toy.command, f"-o {place} --model {TOY_MODEL[region]} {SHIFT[region]} {TOY} {again}")
    histograms = {region: f"{place}/histograms.json.gz" for region, place in own.items()}
    _both(histograms, folder, given, 11_000.0, 1000.0, again)
    for region, place in own.items():
        toys = f"--model {TOY_MODEL[region]} {SHIFT[region]} --toys 50"
        _do(closure.command, f"-o {place}/closure {toys} {again}")
    _do(
        break_.command,
        f"{folder}/combined/flux.ecsv -o {folder}/break --toys 1000 {given['fiducial']} {again}",
    )


def _do(step: click.Command, line: str) -> None:
    """Run a sub-command as a user would, and show its line."""
    click.echo(f"$ cre {step.name} {' '.join(line.split())}")
    step.main(shlex.split(line), prog_name=f"cre {step.name}", standalone_mode=False)
