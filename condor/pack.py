"""What a bare worker needs: a wheel of this program, and a tarball of the packages that it imports.

Both are made of what is installed here, so that workers run the very files of the submit host; they fit
workers with the same version of Python and the same kind of machine.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from processors.exceptions import CreError

__all__ = ["PACKAGES", "distributions", "make_environment", "make_wheel"]

#: Packages of this program, as in pyproject.toml.
PACKAGES = ("processors", "models", "analysis", "condor", "simulation", "cre")
_NAME = "dampe-cre"
#: Parts of packages that nothing imports at run time.
_LEFT_OUT = {"__pycache__", "tests", "test", "testing_data"}
_SUFFIXES = {".pyc", ".pyi", ".pyx", ".pxd", ".a", ".h", ".hpp", ".c", ".cpp", ".f90"}
#: Packages that import parts which are called tests.
_WITH_TESTS = {"numba", "llvmlite", "numpy"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make_wheel(folder: Path) -> Path:
    """Write a wheel of the program as it is installed or checked out here.

    Args:
        folder: Where to.

    Returns:
        The wheel.
    """
    metadata = importlib.metadata.distribution(_NAME)
    version = metadata.version
    stem = f"{_NAME.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    content: dict[str, bytes] = {}
    for package in PACKAGES:
        root = _root(package)
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and not _LEFT_OUT & set(inside.parts) and path.suffix != ".pyc":
                content[f"{package}/{inside.as_posix()}"] = path.read_bytes()
    described = metadata.read_text("METADATA") or metadata.read_text("PKG-INFO") or ""
    content[f"{info}/METADATA"] = described.encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: cre\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    content[f"{info}/entry_points.txt"] = b"[console_scripts]\ncre = cre.main:main\n"
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-py3-none-any.whl"
    part = wheel.with_name(f".{wheel.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return part.replace(wheel)


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        msg = f"package {package!r} of this program is not installed; install the program anew"
        raise CreError(msg)
    return Path(spec.origin).parent


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def distributions() -> list[importlib.metadata.Distribution]:
    """Installed packages that the program needs at run time, without itself.

    Raises:
        CreError: If one is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = [Requirement(r) for r in importlib.metadata.distribution(_NAME).requires or ()]
    while todo:
        requirement = todo.pop()
        extras = ("", *requirement.extras)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": e}) for e in extras):
            continue
        name = requirement.name.lower().replace("_", "-").replace(".", "-")
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError as err:
            msg = f"package {requirement.name!r}, which the program needs, is not installed here"
            raise CreError(msg) from err
        todo += [r for r in map(Requirement, found[name].requires or ()) if _wanted(r, extras)]
    return [found[name] for name in sorted(found)]


def _wanted(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in extras)


def make_environment(folder: Path) -> tuple[Path, int]:
    """Write the tarball of the packages that the program needs.

    Args:
        folder: Where to.

    Returns:
        The tarball and the size of its content, bytes.

    Raises:
        CreError: If a package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "environment.tar.gz"
    part = target.with_name(f".{target.name}.part")
    size = 0
    with tarfile.open(part, "w:gz", compresslevel=6) as archive:
        version = "{}.{}".format(*sys.version_info[:2]).encode()
        entry = tarfile.TarInfo("python-version")
        entry.size = len(version)
        archive.addfile(entry, io.BytesIO(version))
        for distribution in distributions():
            for name, path in _files(distribution):
                archive.add(path, name, recursive=False)
                size += path.stat().st_size
    return part.replace(target), size


def _files(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, Path]]:
    keep_tests = str(distribution.metadata["Name"]).lower() in _WITH_TESTS
    for file in distribution.files or ():
        parts = set(file.parts[:-1])
        if ".." in parts or file.suffix in _SUFFIXES or "__pycache__" in parts:
            continue
        if parts & _LEFT_OUT and not keep_tests:
            continue
        path = Path(str(file.locate()))
        if path.is_file():
            yield file.as_posix(), path
