"""``cre closure``: pseudo-experiments of the template fit, with what was injected beside what is found."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from analysis.closure import Closure, closure
from analysis.exceptions import FitNotConvergedError
from analysis.fluxtable import plain
from analysis.plots.closure import plot_flux_bias, plot_pulls
from analysis.toys.model import read_toy_model
from cre.analysiscard import analysis_card
from cre.measuring import fit_settings
from cre.provenance import record, write_json

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
    card: Path | None,
    overwrite: bool,
) -> None:
    """Draw data and simulation TOYS times, fit each, and print pulls and coverage.

    Writes OUTPUT/closure.json and figures of the pulls and of the bias, with and without the shift.
    """
    path = output / "closure.json"
    if path.exists() and not overwrite:
        msg = f"{path} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    output.mkdir(parents=True, exist_ok=True)
    options = {
        "model": model, "toys": toys, "seed": seed, "livetime_s": livetime_s, "shift": shift,
        "electron_events": electron_events, "proton_events": proton_events, "card": card,
    }  # fmt: skip
    with record(output / "provenance.json", "closure", options) as entry:
        found = closure(
            read_toy_model(model),
            toys,
            seed,
            fit_settings(analysis_card(card, {}).fit),
            livetime_s=livetime_s,
            shift=shift,
            electron_events=electron_events,
            proton_events=proton_events,
        )
        write_json(path, {"schema": "cre-closure/1", "synthetic": True, **_numbers(found)})
        if not np.isfinite(found.pulls["flux"]).any():
            msg = f"none of the {toys} toys has a fit; is the shift of {shift} on the score axis?"
            raise FitNotConvergedError(msg)
        title = f"{toys} toys, {livetime_s:.3g} s"
        pulls = {label: found.pulls[name] for name, label in _NAMES.items()}
        entry.wrote([path])
        entry.wrote(
            plot_pulls(
                found.e_min,
                found.e_max,
                pulls,
                output / "pulls",
                title=f"{livetime_s:.3g} s",
                overwrite=overwrite,
            )
        )
        for what in ("flux", "background"):
            ratios = {
                "template fit with shift": found.ratio(what),
                "control region, no shift": found.ratio(f"sideband_{what}"),
            }
            entry.wrote(
                plot_flux_bias(
                    found.e_min,
                    found.e_max,
                    ratios,
                    output / f"bias_{what}",
                    quantity=what,
                    title=title,
                    overwrite=overwrite,
                )
            )
    click.echo(summary(found))
    click.echo(f"wrote {path}")


def _numbers(found: Closure) -> dict[str, object]:
    """Mean, width and coverage per quantity and energy bin; NaN is null."""
    numbers: dict[str, object] = plain(
        {
            "toys": found.number,
            "e_min": found.e_min,
            "e_max": found.e_max,
            "expected": found.expected,
            "failed": found.failed,
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
    lines = [f"{found.number} TOYS; below 1 TeV mean and width of the pulls, above it the coverage"]
    for name, label in _NAMES.items():
        mean, width, coverage = found.mean(name), found.width(name), found.coverage(name)
        lines.append(
            f"{label:25s} mean {np.nanmean(mean[low]):+.3f} (largest {np.nanmax(np.abs(mean[low])):.3f}), "
            f"width {np.nanmin(width[low]):.2f} to {np.nanmax(width[low]):.2f}, "
            f"coverage {np.nanmean(coverage[~low]):.3f}"
        )
    for i, name in enumerate(("s0", "s1")):
        mean, width = found.mean("coefficients")[i], found.width("coefficients")[i]
        lines.append(f"{name:25s} mean {mean:+.3f}, width {width:.2f}")
    side, fit = (np.nanmean(found.ratio(k)[0]) for k in ("sideband_background", "background"))
    lines.append(
        f"background over the true one: {fit:.3f} with the shift, {side:.3f} from the control region "
        "without it"
    )
    return "\n".join(lines)
