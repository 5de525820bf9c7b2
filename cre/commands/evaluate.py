"""``cre evaluate``: how well the scores separate electrons from protons, on an independent sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from cre.card import read_card, shipped_card
from cre.evaluation import Geant4, chosen, energy_bundles, ntuple_files, write_csv
from cre.evaluationfigures import draw_performance
from cre.progress import progress
from cre.provenance import program, record, write_json
from models.evaluation import EvaluationError
from models.holdout import score_holdout
from models.performance import Performance, evaluate
from models.reference import (
    ReferenceComparison,
    ReferenceEnergy,
    energy_rows,
    reference_rows,
)
from models.tables import performance_tables
from processors.calibration import load_calibration
from processors.ntuple import load_aliases
from processors.ntuplefile import look
from processors.score import score_axis
from processors.spectrum import parse


@click.command("evaluate")
@click.argument("region", type=click.Choice(["fiducial", "topfiducial"]))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option(
    "--card", type=click.Path(path_type=Path), help="Networks, cuts, spectra; default the shipped."
)
@click.option(
    "--models", "networks", multiple=True, help="NAME=FILE of a network; may be repeated."
)
@click.option("--scores", help="Comma-separated; default all that the card has models for.")
@click.option("--energy-model", multiple=True, help="Energy network; default the shipped one.")
@click.option(
    "--geant4",
    is_flag=True,
    help="Also against Geant4 events (topfiducial: moved until they leave through a side).",
)
@click.option("--replicas", type=click.IntRange(20), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--aliases", default="dmlntup", show_default=True, help="Shipped name or YAML file.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation.")
def command(
    region: Literal["fiducial", "topfiducial"],
    files: tuple[Path, ...],
    output: Path,
    card: Path | None,
    networks: tuple[str, ...],
    scores: str | None,
    energy_model: tuple[str, ...],
    geant4: bool,
    replicas: int,
    seed: int,
    aliases: str,
    overwrite: bool,
) -> None:
    """Evaluate all scores of REGION on the same events of FILES (files or folders of ntuples).

    The files must not have served in training. Files of data among them are compared with the
    simulated score distributions.
    """
    target = output / "evaluation.json"
    if target.exists() and not overwrite:
        msg = f"{target} exists; choose another --output or give --overwrite"
        raise FileExistsError(msg)
    source = card or shipped_card(region)
    wanted = tuple(scores.split(",")) if scores else ()
    resolved, names, models = chosen(read_card(source), region, _pairs(networks), wanted)
    energy = energy_bundles(energy_model, region)
    calibration = None if resolved.calibration is None else load_calibration(resolved.calibration)
    axes = {name: score_axis(name, resolved.score.strategy) for name in names}
    paths = ntuple_files(files)
    records = [look(str(path), load_aliases(aliases)) for path in paths]
    arguments: dict[str, Any] = {
        "region": region, "files": paths, "card": source, "scores": list(names), "seed": seed,
        "replicas": replicas, "geant4": geant4,
    }  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    with record(output / "provenance.json", "evaluate", arguments) as entry:
        entry.notes["models"] = models.to_list()
        for path in (source, *paths):
            entry.read(path)
        with progress("score", sum(r.entries for r in records)) as advance:
            sample = score_holdout(
                paths, region, resolved.cuts, models, names,
                target={kind: parse(flux) for kind, flux in resolved.target.items()},
                calibration=calibration, energy_model=energy, aliases=aliases, progress=advance,
            )  # fmt: skip
        result = evaluate(sample, axes, replicas=replicas, seed=seed)
        synthetic = any(r.record.get("synthetic") for r in records)
        written = draw_performance(
            result, axes, output, title=region, synthetic=synthetic, overwrite=overwrite
        )
        tables = performance_tables(result)
        for name, rows in tables.items():
            write_csv(output / f"{name}.csv", rows)
        comparisons: list[ReferenceComparison] = []
        energies: list[ReferenceEnergy] = []
        if geant4:
            reference = Geant4(
                output, region, resolved, models, calibration,
                energy_model=energy, overwrite=overwrite,
            )  # fmt: skip
            comparisons = reference.compare(result, names, seed)
            energies = reference.energies()
            written += reference.write(comparisons, energies, axes, output)
            tables["geant4"] = reference_rows(comparisons)
            if energies:
                tables["geant4_energy"] = energy_rows(energies)
        write_json(
            target,
            {
                "schema": "cre-evaluation/1",
                "program": program(),
                "synthetic": synthetic,
                "region": region,
                "scores": list(names),
                "models": models.to_list(),
                "energy_models": [ref.to_dict() for ref in energy],
                "files": [i for i in entry.inputs if i["path"] != str(source)],
                "replicas": replicas,
                "seed": seed,
                "unscored_events": result.unscored,
                "tables": tables,
            },
        )
        entry.wrote([target, *(output / f"{name}.csv" for name in tables), *written])
    click.echo(summary(result, comparisons, energies, synthetic=synthetic))
    click.echo(f"wrote {target}, tables and figures")


def _pairs(entries: tuple[str, ...]) -> dict[str, list[str]]:
    """Network to its files, from NAME=FILE."""
    networks: dict[str, list[str]] = {}
    for entry in entries:
        name, sign, file = entry.partition("=")
        if not (name and sign and file):
            msg = f"--models {entry!r}: give NAME=FILE, such as hamf=mine.onnx"
            raise EvaluationError(msg)
        networks.setdefault(name, []).append(file)
    return networks


def summary(
    result: Performance,
    comparisons: list[ReferenceComparison],
    energies: list[ReferenceEnergy],
    *,
    synthetic: bool,
) -> str:
    """The main numbers as text."""
    lines = ["SYNTHETIC events, not data of the experiment"] if synthetic else []
    if result.unscored:
        lines.append(
            f"{result.unscored} selected events lie outside the networks' energies: left out"
        )
    for name, c in result.counts.items():
        lines.append(
            f"{name:>12}: {c['electrons']} electrons, {c['protons']} protons "
            f"(effective {c['effective_protons']:.0f})"
        )
    lines.append(f"{'AUC':>12} " + " ".join(f"{name:>28}" for name in result.names))
    for r in result.ranges:
        a = result.auc[r.name]
        cells = []
        for name in result.names:
            low, high = a.interval(name)
            value = a.of(name)
            cells.append(f"{f'{value:.6f} -{value - low:.6f} +{high - value:.6f}':>28}")
        lines.append(f"{r.name:>12} " + " ".join(cells))
    number = int(((result.bin_edges_gev[:-1] <= 1000) & (result.bin_edges_gev[1:] > 1000)).argmax())
    for name in result.names:
        rejection = result.rejections.get((name, 0.9))
        if rejection is None:
            continue
        ratio = result.ratios.get(name, [None] * (number + 1))[number]
        text = f"{name:>12}: proton rejection at 90 % around 1 TeV {rejection.value[number]:.4g} "
        text += f"({rejection.lower[number]:.4g} to {rejection.upper[number]:.4g})"
        if ratio is not None and (ratio.n_first or ratio.n_second):
            text += f", {ratio.value:.3g} times zeta's ({ratio.lower:.3g} to {ratio.upper:.3g})"
        elif ratio is not None:
            text += ", no proton left above zeta's cut either"
        lines.append(text)
    lines += _energy_lines(result) + _geant4_lines(comparisons)
    lines += _geant4_energy_lines(energies)
    return "\n".join(lines)


def _energy_lines(result: Performance) -> list[str]:
    if result.energy is None:
        return []
    before, after = (e["true energy"] for e in (result.energy.before, result.energy.after))
    pulls = result.energy.pulls
    return [
        f"{'E_true (GeV)':>19} {'bias %':>8} {'68 % half width %':>18} {'of E_corr %':>12}",
        *(
            f"{after.edges[i]:9.0f}-{after.edges[i + 1]:9.0f} {100 * after.bias[i]:8.2f} "
            f"{100 * after.half_width_68[i]:18.2f} {100 * before.half_width_68[i]:12.2f}"
            for i in range(after.events.size)
        ),
        f"energy network: pulls {pulls.median:.2f} ± {pulls.width:.2f}",
    ]


def _geant4_lines(comparisons: list[ReferenceComparison]) -> list[str]:
    lines = []
    for c in comparisons:
        if c.part != "full":
            continue
        if c.kind == "electron":
            lines.append(
                f"{c.score:>12}: Geant4 electrons above the 90 % cut {c.reference_efficiency:.3f} "
                f"({c.reference_lower:.3f} to {c.reference_upper:.3f}), simulated "
                f"{c.simulated_efficiency:.3f}; KS p = {c.test.p_value:.2g}"
            )
        else:
            rejected = (
                "zeta not evaluated"
                if c.above_zeta_rejected is None
                else (f"{c.above_zeta_rejected} of them rejected by zeta")
            )
            lines.append(
                f"{c.score:>12}: {c.above} of {c.reference_events} selected Geant4 protons above it, "
                f"{rejected}; KS p = {c.test.p_value:.2g}"
            )
    return lines


def _geant4_energy_lines(energies: list[ReferenceEnergy]) -> list[str]:
    lines = []
    for e in energies:
        if e.part != "full":
            continue
        c = e.network[1]
        lines.append(
            f"{e.sample:>19}: {int(c.events[0])} electrons, network's energy {100 * c.bias[0]:+.2f} "
            f"± {100 * c.bias_error[0]:.2f} %, 68 % half width {100 * c.half_width_68[0]:.2f} ± "
            f"{100 * c.half_width_68_error[0]:.2f} %, pulls {e.pulls.median:.2f} ± {e.pulls.width:.2f}"
        )
    return lines
