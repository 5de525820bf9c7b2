"""Named errors of the event side; each carries the exit code that the command line returns."""

from __future__ import annotations

from pydantic import ValidationError

__all__ = [
    "AliasError",
    "ClusterError",
    "CodeMismatchError",
    "CreError",
    "IncompleteError",
    "ManifestError",
    "MissingBranchError",
    "ModelError",
    "NonFiniteError",
    "NtupleError",
    "PartError",
    "SelectionError",
    "sentences",
]


class CreError(Exception):
    """Base of the errors that the user can mend; ``exit_code`` is 1 unless a subclass says otherwise."""

    exit_code = 1


class AliasError(CreError):
    """An alias file is malformed or names an unknown field, unit or key."""


class NtupleError(CreError):
    """A file is not a readable ntuple, or its content contradicts its description."""


class MissingBranchError(NtupleError):
    """A field that is needed has no branch in the file."""


class ManifestError(CreError):
    """A manifest is malformed, or the files that it would list do not fit together."""


class ModelError(CreError):
    """A model, or the parameters that combine models, cannot be used for what the card asks."""


class SelectionError(CreError):
    """A selection names an unknown cut or parameter."""


class PartError(CreError):
    """A file of packed histograms is damaged, or belongs to another run."""


class ClusterError(CreError):
    """A batch system or a Dask cluster cannot be reached, or gives no workers."""


class CodeMismatchError(CreError):
    """A worker has other code or packages than the process that folds its results."""


class IncompleteError(CreError):
    """Part of the planned input was not processed."""

    exit_code = 2


class NonFiniteError(IncompleteError):
    """More events than allowed carry NaN or infinite values."""


#: Kinds of error of pydantic of which the words are those of a programmer.
_PLAIN = {"extra_forbidden": "no such key", "missing": "is missing"}


def sentences(error: ValidationError) -> str:
    """What is wrong with a file that the user wrote, one line per entry."""
    return "\n  ".join(
        f"{'.'.join(map(str, e['loc'])) or 'content'}: {_PLAIN.get(e['type'], e['msg'])}"
        for e in error.errors()
    )
