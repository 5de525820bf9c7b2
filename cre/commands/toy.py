"""``cre toy``: histograms of a run drawn from a toy model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from analysis.histfile import SUFFIXES, save
from analysis.toys.draw import expectation, random_stream, read_toy_model, truth_table
from analysis.toys.file import toy_histograms
from cre.provenance import program, record, write_json
from processors.exceptions import CreError
from processors.spectrum import ELECTRON_2017, Spectrum, parse


@click.command("toy")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--model", default="synthetic_omega", show_default=True, help="Name, or JSON file.")
@click.option("--livetime-s", type=float, default=236_375_620.0, show_default=True)
@click.option(
    "--shift",
    type=(float, float),
    default=(0.0, 0.0),
    show_default=True,
    help="S0 S1: the protons of the data are moved by S0 + S1 log10(E/E0).",
)
@click.option("--e0-gev", type=float, default=1000.0, show_default=True, help="E0 of the shift.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Protons stretched by.")
@click.option("--proton-scale", type=float, default=1.0, show_default=True, help="Proton flux.")
@click.option(
    "--spectrum",
    default="published",
    show_default=True,
    help="Injected electrons: 'published' (DAMPE 2017), or a YAML file with a spectrum of the card.",
)
@click.option("--electron-events", type=float, default=2000.0, show_default=True, help="Per bin.")
@click.option("--proton-events", type=float, default=500.0, show_default=True, help="Per bin.")
@click.option(
    "--proton-bulk-weight",
    type=float,
    default=1.0,
    show_default=True,
    help="Weight of simulated protons of the bulk over that of the upper tail.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the products of an earlier toy.")
def command(
    output: Path,
    model: str,
    livetime_s: float,
    shift: tuple[float, float],
    e0_gev: float,
    width: float,
    proton_scale: float,
    spectrum: str,
    electron_events: float,
    proton_events: float,
    proton_bulk_weight: float,
    seed: int,
    overwrite: bool,
) -> None:
    """Draw data and simulation of a toy model and write them as `cre run` does, with the truth.

    Toys of two regions are independent also with the same seed.
    """
    stem = output / "histograms"
    for path in [stem.with_name(stem.name + s) for s in SUFFIXES] + [output / "truth.json"]:
        if path.exists() and not overwrite:
            msg = f"{path} exists; choose another --output or give --overwrite"
            raise FileExistsError(msg)
    toy, electron = read_toy_model(model), electron_spectrum(spectrum)
    edges = toy.energy_edges
    proton = dict(toy.target_spectrum["proton"])
    proton["norm"] *= proton_scale
    moved: dict[str, Any] = {"shift": shift, "e0_gev": e0_gev, "width": width}
    moved["proton_scale"] = proton_scale
    events = {"electron_events": electron_events, "proton_events": proton_events}
    events["proton_bulk_weight"] = proton_bulk_weight
    integral = electron.integral(edges[:-1], edges[1:])
    truth = expectation(toy, integral, livetime_s, flux=electron.flux, **moved)
    hists, meta = toy_histograms(
        truth,
        np.random.default_rng(random_stream(seed, toy.region)),
        {"electron": electron.to_dict(), "proton": proton if proton_scale > 0 else None},
        **events,
        program=program(),
        notes={"seed": seed},
    )
    table = truth_table(truth, float(toy.score["cut"]))
    output.mkdir(parents=True, exist_ok=True)
    arguments = {"model": model, "livetime_s": livetime_s, "spectrum": spectrum, "seed": seed}
    with record(
        output / "provenance.json", "toy", {**arguments, **moved, **events, "output": output}
    ) as entry:
        if Path(model).is_file():
            entry.read(Path(model))
        if spectrum != "published":
            entry.read(Path(spectrum))
        entry.wrote(save(stem, hists, meta, overwrite=overwrite))
        write_json(output / "truth.json", {"toy": meta["toy"], **table})
        entry.wrote([output / "truth.json"])
    click.echo(f"TOY of the model {toy.name}, not data of the experiment")
    score: Any = hists["score"]["data", toy.region, toy.bgo, "pass", :, :]
    first = int(np.argmin(np.abs(toy.omega_edges - float(toy.score["cut"])))) + 1
    drawn = score.values(flow=True)[1:-1, first:].sum(axis=1)
    click.echo(f"{'E bin (GeV)':>19} {'N':>9} {'expected':>11} {'bkg':>8} {'eff':>7}")
    for i, n in enumerate(drawn):
        click.echo(
            f"{edges[i]:9.1f}-{edges[i + 1]:9.1f} {n:9.0f} {table['n_data'][i]:11.1f} "
            f"{_number(table['background_fraction'][i]):>8} {_number(table['efficiency'][i]):>7}"
        )
    click.echo(f"wrote {stem}{{{','.join(SUFFIXES)}}}; livetime {livetime_s:.1f} s")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def electron_spectrum(text: str) -> Spectrum:
    """The spectrum that an option names.

    Args:
        text: ``published`` or the path of a YAML file with a spectrum of the card.

    Returns:
        The spectrum.

    Raises:
        CreError: no such file, or no spectrum in it.
    """
    if text == "published":
        return ELECTRON_2017
    path = Path(text)
    if not path.is_file():
        msg = f"--spectrum {text}: no such file; give 'published' or a YAML file"
        raise CreError(msg)
    try:
        return parse(yaml.safe_load(path.read_text("utf-8")))
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as err:
        msg = f"{path}: not a spectrum ({err})"
        raise CreError(msg) from err
