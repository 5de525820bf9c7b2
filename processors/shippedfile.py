"""Text files that come with the program under a name, or that a user gives by path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from processors.exceptions import CreError

__all__ = ["shipped_names", "shipped_text"]


def shipped_names(package: str, folder: str) -> list[str]:
    """Names of the YAML files in a folder of a package, without suffix, sorted."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in (resources.files(package) / folder).iterdir()
        if p.name.endswith(".yaml")
    )


def shipped_text(
    name_or_path: str | Path, package: str, folder: str, *, what: str, error: type[CreError]
) -> str:
    """Text of a shipped file or of a user's own.

    Args:
        name_or_path: Name of a shipped file, or a path.
        package: Package of the shipped files.
        folder: Their folder.
        what: What the file is, for the sentence.
        error: Raised if the file cannot be read.

    Returns:
        The text.

    Raises:
        CreError: Of type ``error``, with the names of the shipped files.
    """
    names = shipped_names(package, folder)
    if str(name_or_path) in names:
        return (resources.files(package) / folder / f"{name_or_path}.yaml").read_text("utf-8")
    try:
        return Path(name_or_path).read_text("utf-8")
    except OSError as err:
        msg = (
            f"{what} {str(name_or_path)!r} cannot be read ({err.strerror}); give a path or one of: "
            f"{', '.join(names)}"
        )
        raise error(msg) from err
