"""Entry point of the command ``cre``: sub-commands, and what an error looks like to the user."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import click
from pydantic import ValidationError

from analysis.exceptions import AnalysisError, IncompleteDataError
from analysis.histformats import HistFileError, UnsafePickleError
from cre.provenance import program
from processors.exceptions import CreError, sentences

__all__ = ["cli", "main"]

#: Sub-commands in the order of the work; imported only when used, the scientific stack is slow to load.
COMMANDS: Mapping[str, str] = {
    "simulate": "Write synthetic ntuples of the experiment's form.",
    "inspect": "Show what a file holds and which cuts it can serve.",
    "manifest": "Describe files and refuse those that would bias a flux.",
    "calibrate": "Derive the calibration of simulated shower variables from data.",
    "run": "Fill the histograms of a run card.",
    "condor": "Submit a run to a batch system as plain shards, or show what would be submitted.",
    "status": "Show how far a run is and what is missing.",
    "resubmit": "Submit the shards that are not done.",
    "merge": "Merge the shards of a batch system.",
    "score": "Write copies of ntuples with the scores of the networks.",
    "fit": "Fit the score templates, with a proton shift that depends on energy.",
    "flux": "From histograms to a flux table.",
    "parametrise": "Describe the score templates by analytic shapes.",
    "toy": "Draw histograms of a run from a toy model.",
    "closure": "Pseudo-experiments: does the fit find what was injected?",
    "average": "Combine the fluxes of the fiducial and the top-fiducial region.",
    "break": "Fit broken power laws to a flux and test the break.",
    "compare": "Hold a flux table against published or injected spectra.",
    "stability": "Follow the flux in time, month by month.",
    "plot": "Draw the figures of a run and its flux.",
    "regions": "Draw both regions beside each other.",
    "display": "Draw one event in the two views of the BGO.",
    "train": "Train a network by its recipe.",
    "export": "Write a flux table for HEPData, CRDB or a paper, or a network as ONNX bundle.",
    "combine": "Fit how the networks are combined into omega.",
    "evaluate": "Hold the scores against each other on an independent sample.",
    "validate": "Hold the simulation against Geant4 events.",
    "demo": "The whole chain on a synthetic sample.",
}

#: What batch jobs call.
HIDDEN = ("shard",)


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        command: click.Command = importlib.import_module(f"cre.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(program()["version"], prog_name="cre")
def cli() -> None:
    """From DAMPE ntuples to the cosmic-ray electron + positron flux.

    Exit codes: 0 done, 1 error of the input or the call, 2 incomplete data, 3 a fit that did not
    converge, 130 interrupted.
    """


def main() -> None:
    """Run ``cre`` and exit with its code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as err:
        err.show()
        code = 1
    except click.Abort:
        print("interrupted", file=sys.stderr)  # noqa: T201
        code = 130
    except ValidationError as err:
        print(f"error: {sentences(err)}", file=sys.stderr)  # noqa: T201
        code = 1
    except FileExistsError as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        code = 1
    except OSError as err:
        print(f"error: {err.filename or ''}: {err.strerror or err}", file=sys.stderr)  # noqa: T201
        code = 1
    except (CreError, AnalysisError, HistFileError, UnsafePickleError) as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        code = 2 if isinstance(err, IncompleteDataError) else getattr(err, "exit_code", 1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
