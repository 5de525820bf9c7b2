"""``cre simulate``: write synthetic ntuples of the experiment's form."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cre.progress import progress
from processors.exceptions import CreError
from processors.spectrum import ELECTRON_2017, PROTON_2026, Spectrum, parse
from simulation.sample import Sample, simulate


def _spectrum(text: str | None, default: Spectrum) -> Spectrum:
    if text is None:
        return default
    return parse(json.loads(Path(text).read_text("utf-8") if Path(text).is_file() else text))


@click.command("simulate")
@click.option("--kind", type=click.Choice(["data", "electron", "proton"]), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--events", type=click.IntRange(1), help="Monte Carlo: primaries thrown.")
@click.option("--livetime-s", type=float, help="Data: livetime.")
@click.option("--e-min-gev", type=float, default=100.0, show_default=True)
@click.option("--e-max-gev", type=float, default=10_000.0, show_default=True)
@click.option("--min-deposit-gev", type=float, default=0.0, help="Skim: drop smaller raw energies.")
@click.option("--triggered-only", is_flag=True, help="Write only events with the trigger.")
@click.option("--reconstruction", type=click.Choice(["new", "old"]), default="new")
@click.option("--hadronic-model", type=click.Choice(["a", "b"]), default="a")
@click.option("--tail-sampling", is_flag=True, help="Protons: importance-sample the e-like tail.")
@click.option("--outside-share", type=float, default=1.0, help="Share of other rays (data: 0, 1).")
@click.option(
    "--full-region",
    type=click.Choice(["fiducial", "topfiducial", "both"]),
    default="fiducial",
    show_default=True,
    help="Rays that --outside-share does not thin.",
)
@click.option("--data-mc-difference", is_flag=True, help="Data: offsets of RMS, F_last, protons.")
@click.option("--electron-spectrum", help="Data: JSON text or file; default DAMPE 2017.")
@click.option("--proton-spectrum", help="Data: JSON text or file; default DAMPE 2026.")
@click.option(
    "--gain-drift-per-year",
    type=float,
    default=0.0,
    help="Data: drift of the energy scale, 0.01: 1 %.",
)
@click.option(
    "--spread-over-years", type=float, default=0.0, help="Data: spread the livetime in short runs."
)
@click.option("--files", type=click.IntRange(1), default=1, show_default=True)
@click.option("--first-run", type=click.IntRange(1), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes; default one per core.")
@click.option("--overwrite", is_flag=True, help="Replace files.")
def command(
    kind: str,
    output: Path,
    seed: int,
    events: int | None,
    livetime_s: float | None,
    e_min_gev: float,
    e_max_gev: float,
    min_deposit_gev: float,
    triggered_only: bool,
    reconstruction: str,
    hadronic_model: str,
    tail_sampling: bool,
    outside_share: float,
    full_region: str,
    data_mc_difference: bool,
    electron_spectrum: str | None,
    proton_spectrum: str | None,
    gain_drift_per_year: float,
    spread_over_years: float,
    files: int,
    first_run: int,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Simulate a sample: the same files for the same options, whatever the number of workers."""
    try:
        sample = Sample(
            kind=kind,  # type: ignore[arg-type]
            seed=seed,
            n_events=events,
            livetime_s=livetime_s,
            e_min_gev=e_min_gev,
            e_max_gev=e_max_gev,
            min_deposit_gev=min_deposit_gev,
            triggered_only=triggered_only,
            reconstruction=reconstruction,  # type: ignore[arg-type]
            hadronic_model=hadronic_model,  # type: ignore[arg-type]
            tail_sampling=tail_sampling,
            outside_share=outside_share,
            full_region=full_region,  # type: ignore[arg-type]
            data_mc_difference=data_mc_difference,
            electron_spectrum=_spectrum(electron_spectrum, ELECTRON_2017),
            proton_spectrum=_spectrum(proton_spectrum, PROTON_2026),
            gain_drift_per_year=gain_drift_per_year,
            spread_years=spread_over_years,
            n_files=files,
            first_run=first_run,
        )
    except ValueError as err:
        raise CreError(str(err).split(": Sample(", maxsplit=1)[0]) from err
    with progress(f"simulate {kind}", 100.0, "%") as advance:
        seen = 0.0

        def told(done: int, total: int) -> None:
            nonlocal seen
            advance(100 * done / total - seen)
            seen = 100 * done / total

        paths = simulate(sample, output, workers=workers, overwrite=overwrite, progress=told)
    for path in paths:
        click.echo(f"wrote {path}")
