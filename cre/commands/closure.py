"""``cre closure``: pseudo-experiments of the measurement, with what was injected beside what is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click
import numpy as np
from numpy.typing import NDArray

from analysis.closure import WITH_MIGRATION, Closure, closure
from analysis.closureflux import Way
from analysis.exceptions import FitNotConvergedError
from analysis.fluxtable import plain
from analysis.plots.closure import plot_flux_bias, plot_migration_bias, plot_pulls
from analysis.toys.model import ToyModel, read_toy_model
from cre.analysiscard import analysis_card
from cre.commands.toy import electron_spectrum
from cre.measuring import fit_settings
from cre.provenance import record, write_json

FloatArray = NDArray[np.float64]

_WAYS: dict[Way, str] = {
    "none": "no correction",
    "bin_by_bin": "bin by bin",
    "folding": "forward folding",
}
_NAMES = {
    "electrons": "electron yield",
    "protons": "proton yield",
    "background": "background above the cut",
    "flux": "flux",
}


@click.command("closure")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--model", default="synthetic_omega", show_default=True, help="Name, or JSON file.")
@click.option("--toys", type=click.IntRange(2), default=100, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--livetime-s", type=float, default=236_375_620.0, show_default=True)
@click.option("--shift", type=(float, float), default=(0.8, 0.4), show_default=True)
@click.option("--electron-events", type=float, default=100_000.0, show_default=True)
@click.option("--proton-events", type=float, default=400_000.0, show_default=True)
@click.option(
    "--spectrum",
    default="target",
    show_default=True,
    help="Injected electrons: 'target' (that of the model's simulation), 'published', or a YAML file.",
)
@click.option(
    "--migration",
    type=click.Choice(["auto", "none", "bin_by_bin", "folding"]),
    default="auto",
    show_default=True,
    help="Correction of energy migration; auto: none for fiducial, else folding.",
)
@click.option("--card", type=click.Path(path_type=Path), help="Card; its section 'fit'.")
@click.option("--overwrite", is_flag=True, help="Replace the products.")
def command(
    output: Path,
    model: str,
    toys: int,
    seed: int,
    livetime_s: float,
    shift: tuple[float, float],
    electron_events: float,
    proton_events: float,
    spectrum: str,
    migration: Way | Literal["auto"],
    card: Path | None,
    overwrite: bool,
) -> None:
    """Draw data and simulation TOYS times, fit each, and print pulls and coverage.

    Writes OUTPUT/closure.json and figures of the pulls and of the bias, with and without the shift, and where
    migration is corrected also of the bias by each correction.
    """
    path = output / "closure.json"
    if path.exists() and not overwrite:
        msg = f"{path} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    output.mkdir(parents=True, exist_ok=True)
    options = {
        "model": model, "toys": toys, "seed": seed, "livetime_s": livetime_s, "shift": shift,
        "electron_events": electron_events, "proton_events": proton_events, "card": card,
        "spectrum": spectrum, "migration": migration,
    }  # fmt: skip
    with record(output / "provenance.json", "closure", options) as entry:
        toy = read_toy_model(model)
        injected = None if spectrum == "target" else electron_spectrum(spectrum)
        if Path(model).is_file():
            entry.read(Path(model))
        if spectrum not in {"target", "published"}:
            entry.read(Path(spectrum))
        found = closure(
            toy,
            toys,
            seed,
            fit_settings(analysis_card(card, {}).fit),
            livetime_s=livetime_s,
            shift=shift,
            electron_events=electron_events,
            proton_events=proton_events,
            flux_integral=None if injected is None else injected.integral(*_ends(toy)),
            spectrum=None if injected is None else injected.flux,
            migration=migration,
        )
        numbers = {"model": toy.name, "region": toy.region, **_numbers(found)}
        write_json(path, {"schema": "cre-closure/1", "synthetic": True, **numbers})
        if not np.isfinite(found.pulls["flux"]).any():
            msg = f"none of the {toys} toys has a fit; is the shift of {shift} on the score axis?"
            raise FitNotConvergedError(msg)
        entry.wrote([path])
        for paths in _figures(found, toy, output, livetime_s, overwrite):
            entry.wrote(paths)
    click.echo(summary(found))
    click.echo(f"wrote {path}")


def _ends(toy: ToyModel) -> tuple[FloatArray, FloatArray]:
    return toy.energy_edges[:-1], toy.energy_edges[1:]


def _figures(
    found: Closure, toy: ToyModel, output: Path, livetime_s: float, overwrite: bool
) -> Iterator[list[Path]]:
    """Pulls, and the bias in the bins with at least one expected electron."""
    title = f"{toy.region}, {livetime_s:.3g} s"
    bins = found.e_min, found.e_max
    pulls = {label: found.pulls[name] for name, label in _NAMES.items()}
    yield plot_pulls(*bins, pulls, output / "pulls", title=title, overwrite=overwrite)
    seen = found.expected - found.truth["background"] >= 1.0

    def shown(values: FloatArray) -> FloatArray:
        return np.where(seen, values, np.nan) if seen.any() else values

    title = f"{toy.region}, {found.number} toys, {livetime_s:.3g} s"
    for what in ("flux", "background"):
        ratios = {
            "template fit with shift": found.ratio(what),
            "control region, no shift": found.ratio(f"sideband_{what}"),
        }
        if what == "flux":
            ratios = {label: (shown(m), shown(e)) for label, (m, e) in ratios.items()}
        stem = output / f"bias_{what}"
        yield plot_flux_bias(*bins, ratios, stem, quantity=what, title=title, overwrite=overwrite)
    if found.bias:
        name = f"flux_{found.migration}"
        mean, error = found.ratio(name)
        yield plot_migration_bias(
            *bins,
            {_WAYS[way]: shown(values) for way, values in found.bias.items()},
            (_WAYS[found.migration], shown(mean), shown(error)),
            shown(found.spread(name)),
            found.truth["flux"],
            toy.target_flux_integral["electron"] / np.diff(toy.energy_edges),
            output / "bias_migration",
            title=title,
            overwrite=overwrite,
        )


def _numbers(found: Closure) -> dict[str, object]:
    """Mean, width and coverage per quantity and energy bin; NaN is null."""
    numbers: dict[str, object] = plain(
        {
            "toys": found.number,
            "e_min": found.e_min,
            "e_max": found.e_max,
            "expected": found.expected,
            "failed": found.failed,
            "migration": found.migration,
            "truth": dict(found.truth),
            "ratios": {
                name: dict(zip(("mean", "error"), found.ratio(name), strict=True))
                for name in found.ratios
            },
            "bias": dict(found.bias),
            "pulls": {
                name: {
                    "mean": found.mean(name),
                    "width": found.width(name),
                    "coverage": found.coverage(name),
                }
                for name in (*found.pulls, "coefficients")
            },
        }
    )
    return numbers


def summary(found: Closure) -> str:
    """Pulls below and coverage above 1 TeV as text."""
    low = found.e_max <= 1000.0 * (1 + 1e-9)
    high = ~low & (found.expected >= 1.0)  # an interval on nothing always holds
    head = (
        f"{found.number} TOYS; below 1 TeV mean and width of the pulls, above it the coverage of "
        f"{high.sum()} bins with an event or more expected"
    )
    lines = [head]
    names = _NAMES | ({WITH_MIGRATION: "flux, with migration"} if found.bias else {})
    for name, label in names.items():
        mean, width, coverage = found.mean(name), found.width(name), found.coverage(name)
        lines.append(
            f"{label:25s} mean {np.nanmean(mean[low]):+.3f} (largest {np.nanmax(np.abs(mean[low])):.3f}), "
            f"width {np.nanmin(width[low]):.2f} to {np.nanmax(width[low]):.2f}, "
            f"coverage {np.nanmean(coverage[high]) if high.any() else np.nan:.3f}"
        )
    for i, name in enumerate(("s0", "s1")):
        mean, width = found.mean("coefficients")[i], found.width("coefficients")[i]
        lines.append(f"{name:25s} mean {mean:+.3f}, width {width:.2f}")
    side, fit = (np.nanmean(found.ratio(k)[0]) for k in ("sideband_background", "background"))
    lines.append(
        f"background over the true one: {fit:.3f} with the shift, {side:.3f} from the control region "
        "without it"
    )
    if found.bias:
        seen = found.expected - found.truth["background"] >= 10.0
        most = {way: np.abs(found.bias[way][seen] - 1) for way in _WAYS}
        told = ", ".join(f"{_WAYS[way]} {100 * np.nanmax(most[way]):.2f} %" for way in _WAYS)
        lines.append(
            f"largest bias of the flux without fluctuations, bins of 10 electrons and more: {told}"
        )
    return "\n".join(lines)
