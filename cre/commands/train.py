"""``cre train``: train a network by its recipe, on given or on its own simulated ntuples."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import click

from analysis.plots.classifiers import draw_training
from cre.card import read_card
from cre.commands import simulate
from cre.progress import progress
from cre.provenance import record, write_json
from models.recipes import Recipe, load_recipe
from models.samples import MC_KINDS, Prepared, prepare
from processors.calibration import load_calibration
from processors.chain import Cut
from processors.exceptions import CreError
from processors.ntuple import load_aliases
from processors.ntuplefile import look


class TrainError(CreError):
    """A training cannot be started as it was asked for."""


@click.command("train")
@click.argument("name")
@click.option("--ntuples", type=click.Path(path_type=Path), multiple=True, help="File or folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default training/NAME.")
@click.option("--card", type=click.Path(path_type=Path), help="Cuts; default the shipped card.")
@click.option("--aliases", default="dmlntup", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Default beside the output.")
@click.option("--epochs", type=click.IntRange(1), help="In place of the recipe's number.")
@click.option("--events-per-epoch", type=click.IntRange(1), help="In place of the recipe's number.")
@click.option("--bfloat16-share", type=click.FloatRange(0, 1), help="In place of the recipe's.")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), default=40.0)
@click.option("--threads", type=click.IntRange(1), help="Default one per core.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Default a GPU if there is one.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier training.")
def command(
    name: str,
    ntuples: tuple[Path, ...],
    output: Path | None,
    card: Path | None,
    aliases: str,
    cache: Path | None,
    epochs: int | None,
    events_per_epoch: int | None,
    bfloat16_share: float | None,
    max_minutes: float,
    threads: int | None,
    device: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train the network NAME: a shipped recipe, or the path of one's own.

    Without --ntuples the recipe's own synthetic sample is simulated once, into a folder beside the output
    that recipes with the same sample share. Needs PyTorch: pip install 'dampe-cre[train]'.
    """
    recipe = load_recipe(name)
    changed = {
        "epochs": epochs,
        "events_per_epoch": events_per_epoch,
        "bfloat16_share": bfloat16_share,
    }
    training = recipe.training.model_copy(
        update={key: value for key, value in changed.items() if value is not None}
    )
    recipe = recipe.model_copy(update={"training": training})
    output = output or Path("training") / recipe.name
    if (output / "checkpoint.pt").exists() and not (resume or overwrite):
        msg = f"{output} holds a training; give --resume, --overwrite or another --output"
        raise FileExistsError(msg)
    # Threads that spin while they wait stop each other on a busy machine; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from models.training import set_threads, train  # noqa: PLC0415 - loads PyTorch
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        msg = "training needs PyTorch; install it with: pip install 'dampe-cre[train]'"
        raise TrainError(msg) from err
    set_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    arguments = {"name": name, "output": output, "resume": resume, "max_minutes": max_minutes}
    with record(output / "train.provenance.json", "train", arguments) as entry:
        paths = _files(ntuples) if ntuples else _simulated(recipe, output.parent)
        for path in paths:
            entry.read(path)
        sample = _prepare(recipe, paths, card, cache or output.parent / "prepared", aliases)
        batches = recipe.training.epochs * recipe.training.events_per_epoch
        with progress(f"train {recipe.name}", batches) as advance:
            trained = train(
                recipe,
                sample,
                output,
                resume=resume,
                device=device,
                max_minutes=max_minutes,
                advance=advance,
                report=_report,
            )
        figure = output / "training.png"
        best = float(trained.metrics["best_epoch"])
        drawn = draw_training(
            trained.history, recipe.name, figure, best=best, synthetic=sample.synthetic
        )
        files = ("checkpoint.pt", "history.json", "metrics.json", "recipe.json")
        entry.wrote([*(output / f for f in files), *drawn])
        entry.notes["metrics"] = dict(trained.metrics)
        entry.notes["stopped"] = trained.stopped
    why = {"epochs": "all epochs done", "early": "no further improvement", "time": "time limit"}
    click.echo(f"{why[trained.stopped]}; kept epoch {trained.metrics['best_epoch']}: {output}")


def _report(figures: Mapping[str, float]) -> None:
    values = "  ".join(f"{k} {v:.5f}" for k, v in figures.items() if k != "epoch")
    click.echo(f"epoch {figures['epoch']:.0f}  {values}")


def _files(given: tuple[Path, ...]) -> list[Path]:
    """Files, and the ROOT files of folders, sorted."""
    paths: list[Path] = []
    for path in given:
        inside = sorted(path.glob("*.root")) if path.is_dir() else [path]
        if not inside:
            msg = f"{path} holds no .root file"
            raise TrainError(msg)
        paths += inside
    return paths


def _simulated(recipe: Recipe, folder: Path) -> list[Path]:
    """The recipe's own sample; recipes with the same one share it, a finished one is used again."""
    if not recipe.simulation:
        msg = f"recipe {recipe.name!r} has no entry 'simulation'; give --ntuples"
        raise TrainError(msg)
    ntuples = folder / f"ntuples_{recipe.region}_{recipe.simulation_hash()[:8]}"
    finished = ntuples / "sample.json"
    if not finished.exists():
        for line in recipe.simulation:
            click.echo(f"$ cre simulate {line}")
            options = [*shlex.split(line), "-o", str(ntuples), "--overwrite"]
            simulate.command.main(options, prog_name="cre simulate", standalone_mode=False)
        write_json(finished, {"simulation": list(recipe.simulation)})
    return sorted(ntuples.glob("*.root"))


def _cuts(card: Path | None) -> tuple[Cut, ...]:
    """The card's cuts; the energies are the recipe's affair, which needs a margin beyond its range."""
    if card is None:
        with resources.as_file(resources.files("cre.cards") / "fiducial.yaml") as shipped:
            cuts = read_card(shipped).cuts
    else:
        cuts = read_card(card).cuts
    return tuple(c for c in cuts if c.name != "energy_range")


def _prepare(
    recipe: Recipe, paths: list[Path], card: Path | None, cache: Path, aliases: str
) -> Prepared:
    convention = load_aliases(aliases)
    entries = sum(look(str(p), convention).entries for p in paths)
    calibration = load_calibration(recipe.calibration) if recipe.calibration else None
    with progress(f"read the {recipe.region} sample", entries) as advance:
        return prepare(
            paths,
            recipe.region,
            _cuts(card),
            cache,
            aliases=aliases,
            calibration=calibration,
            required=("electron",) if recipe.task == "energy" else MC_KINDS,
            advance=advance,
        )
