"""The manifest: which files a run reads, what they are, and the livetime or generated events they carry."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from processors.exceptions import ManifestError, NtupleError, sentences
from processors.livetime import Run, check_runs, runs_of_file
from processors.ntuple import FIELDS, Aliases, aliases_hash, load_aliases, shipped_aliases
from processors.ntuplefile import is_url, look
from processors.weights import Generated

__all__ = [
    "FileEntry",
    "Manifest",
    "build",
    "describe_file",
    "join",
    "read",
    "relative_to",
]

SCHEMA = "cre-manifest/1"
#: Fields without which no run is possible; what else a card needs is checked when it runs.
CORE_FIELDS = ("e_corr", "layer_fraction", "layer_rms", "slope_x", "slope_y")
CORE_FIELDS_MC = ("e_true",)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file of the manifest.

    ``weights`` says whether the weight branch holds importance-sampling weights, which multiply the weights
    of the target flux, or is not to be used. ``complete_above_gev`` is the corrected energy from which a skimmed file misses no event;
    ``only_region`` is the region of a skim that lacks what an analysis of the other one needs. ``unused_runs`` are
    left out by the period of a card (:func:`processors.period.select_runs`) and never stand in a manifest.
    """

    path: str
    uuid: str
    tree: str
    entries: int = Field(ge=0)
    clusters: list[int]
    size_bytes: int
    sha256: str
    kind: Literal["data", "electron", "proton"]
    bgo_reconstruction: Literal["new", "old"]
    aliases: str
    aliases_sha256: str
    fields: list[str]
    synthetic: bool = False
    runs: list[Run] = []
    unused_runs: list[Run] = Field(default=[], exclude=True)
    generated: Generated | None = None
    weights: Literal["sampling", "none"] = "none"
    complete_above_gev: float = 0.0
    only_region: Literal["fiducial", "topfiducial"] | None = None
    injected: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    @property
    def livetime_s(self) -> float:
        """Livetime of the runs of a data file, s."""
        return sum(r.livetime_s for r in self.runs)


class Quarantined(_Strict):
    """A file that the user set aside; it is not read and its livetime does not count."""

    path: str
    reason: str


class Manifest(_Strict):
    """All files of an analysis.

    Paths are relative to the folder of the manifest file; URLs stay as they are.
    """

    schema_: Literal["cre-manifest/1"] = Field(default="cre-manifest/1", alias="schema")
    files: list[FileEntry]
    quarantined: list[Quarantined] = []

    def of_kind(self, kind: str) -> list[FileEntry]:
        """Files of one kind."""
        return [f for f in self.files if f.kind == kind]

    @property
    def livetime_s(self) -> float:
        """Livetime of all data files, s."""
        return sum(f.livetime_s for f in self.of_kind("data"))


def read(path: str | Path) -> Manifest:
    """Read and check a manifest; local paths come back absolute.

    Args:
        path: The JSON file.

    Returns:
        The manifest.

    Raises:
        ManifestError: If it cannot be read or is malformed.
    """
    path = Path(path)
    try:
        manifest = Manifest.model_validate_json(path.read_text("utf-8"))
    except OSError as err:
        msg = (
            f"manifest {str(path)!r} cannot be read ({err.strerror}); make one with 'cre manifest'"
        )
        raise ManifestError(msg) from err
    except ValidationError as err:
        msg = f"manifest {str(path)!r} is malformed:\n  {sentences(err)}"
        raise ManifestError(msg) from err
    folder = path.resolve().parent
    files = [f.model_copy(update={"path": _resolve(f.path, folder)}) for f in manifest.files]
    bad = [q.model_copy(update={"path": _resolve(q.path, folder)}) for q in manifest.quarantined]
    return manifest.model_copy(update={"files": files, "quarantined": bad})


def _resolve(path: str, folder: Path) -> str:
    return path if is_url(path) else str((folder / path).resolve())


def relative_to(manifest: Manifest, folder: Path) -> Manifest:
    """The same manifest with local paths relative to a folder where they lie below it."""

    def shorten(path: str) -> str:
        p = Path(path)
        inside = not is_url(path) and p.is_relative_to(folder)
        return p.relative_to(folder).as_posix() if inside else path

    files = [f.model_copy(update={"path": shorten(f.path)}) for f in manifest.files]
    bad = [q.model_copy(update={"path": shorten(q.path)}) for q in manifest.quarantined]
    return manifest.model_copy(update={"files": files, "quarantined": bad})


def describe_file(
    path: str,
    aliases: Aliases,
    alias_name: str,
    *,
    kind: str | None = None,
    bgo_reconstruction: str | None = None,
    generated: Generated | None = None,
    weights: Literal["sampling", "none"] | None = None,
    livetimes: Mapping[str, Sequence[Run]] | None = None,
    complete_above_gev: float = 0.0,
) -> FileEntry:
    """Open one file and describe it.

    What the file says of itself (the record ``cre_metadata`` of simulated files) may be given for
    files without it, but not contradicted.

    Args:
        path: Local path or URL.
        aliases: The convention of the file.
        alias_name: Its name or path, for workers to load it again.
        kind: ``data``, ``electron`` or ``proton``.
        bgo_reconstruction: ``new`` or ``old``.
        generated: Generated events, for Monte Carlo.
        weights: ``sampling`` if the weight branch of Monte Carlo holds importance-sampling weights only,
            ``none`` if it holds anything else (a target spectrum, a stitching factor) or is missing.
        livetimes: Livetime records by file name, for data.
        complete_above_gev: Corrected energy from which a skimmed file misses no event, if not stored.

    Returns:
        The entry, with an absolute path for local files.

    Raises:
        NtupleError: If the file is unreadable or truncated, or lacks its tree, a core branch, its
            kind, its livetime or its generated events.
    """
    if not is_url(path):
        path = str(Path(path).resolve())
    size, digest = _size_and_hash(path)
    content = look(path, aliases)
    stored = content.record
    present = set(content.branches)
    sample: Any = _agreed(path, "kind", stored.get("kind"), kind)
    bgo: Any = _agreed(
        path, "bgo_reconstruction", stored.get("bgo_reconstruction"), bgo_reconstruction
    )
    fields = [f for f in FIELDS if aliases.available(f, present)]
    for field in (*CORE_FIELDS, *(CORE_FIELDS_MC if sample != "data" else ())):
        if field not in fields:
            missing = ", ".join(aliases.missing_branches(field, present))
            msg = f"{path}: branch {missing} is missing ({FIELDS[field].text}); no run is possible without"
            raise NtupleError(msg)
    runs: list[Run] = []
    if sample == "data":
        weights = "none"
        runs = runs_of_file(path, stored, livetimes or {})
        check_runs(path, runs, content.run_numbers)
    elif "generated" in stored:
        if generated is not None:
            msg = f"{path}: says itself how it was generated; leave out --generated"
            raise NtupleError(msg)
        generated, weights = Generated.model_validate(stored["generated"]), "sampling"
    elif generated is None:
        msg = f"{path}: the number and energies of the generated events are not known; give --generated"
        raise NtupleError(msg)
    if weights is None or (weights == "sampling" and "weight" not in fields):
        msg = (
            f"{path}: say with --weights what its weight branch is: 'sampling' (importance sampling only, "
            "the branch must exist) or 'none' (do not use it: it holds a spectrum or a stitching factor)"
        )
        raise NtupleError(msg)
    return FileEntry(
        path=path,
        uuid=content.uuid,
        tree=content.tree,
        entries=content.entries,
        clusters=list(content.clusters),
        size_bytes=size,
        sha256=digest,
        kind=sample,
        bgo_reconstruction=bgo,
        aliases=alias_name,
        aliases_sha256=aliases_hash(aliases),
        fields=fields,
        synthetic=bool(stored.get("synthetic", False)),
        runs=runs,
        generated=generated if sample != "data" else None,
        weights=weights,
        complete_above_gev=stored.get("skim", {}).get(
            "complete_above_ecorr_gev", complete_above_gev
        ),
        only_region=stored.get("skim", {}).get("only_region"),
        injected=stored.get("injected") or {},
        metadata={k: stored[k] for k in ("generator", "seed", "spectrum") if k in stored},
    )


def _size_and_hash(path: str) -> tuple[int, str]:
    if is_url(path):
        return 0, ""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
            return stream.tell(), digest.hexdigest()
    except OSError as err:
        msg = f"{path}: cannot be read ({err.strerror})"
        raise NtupleError(msg) from err


def _agreed(path: str, what: str, stored: str | None, given: str | None) -> str:
    if stored and given and stored != given:
        msg = f"{path}: {what} is {stored!r} by its own record, not {given!r}"
        raise NtupleError(msg)
    if not (stored or given):
        msg = f"{path}: {what} is not known from the file; give --{what.replace('_', '-')}"
        raise NtupleError(msg)
    return str(stored or given)


def build(
    paths: Sequence[str],
    *,
    aliases: str = "dmlntup",
    quarantine: Sequence[str] = (),
    kind: str | None = None,
    bgo_reconstruction: str | None = None,
    generated: Generated | None = None,
    weights: Literal["sampling", "none"] | None = None,
    livetimes: Mapping[str, Sequence[Run]] | None = None,
    complete_above_gev: float = 0.0,
) -> Manifest:
    """Describe files and refuse what would bias a flux.

    Args:
        paths: Files.
        aliases: Convention of the files, a shipped name or a path.
        quarantine: Those of the paths that the user sets aside.
        kind: See :func:`describe_file`.
        bgo_reconstruction: See :func:`describe_file`.
        generated: See :func:`describe_file`; the primaries of all files together, which share them evenly.
        weights: See :func:`describe_file`.
        livetimes: See :func:`describe_file`.
        complete_above_gev: See :func:`describe_file`.

    Returns:
        The manifest, with files in the order given.

    Raises:
        ManifestError: With one sentence for each bad, duplicate or overlapping file.
    """
    convention = load_aliases(aliases)
    if aliases not in shipped_aliases():
        aliases = str(Path(aliases).resolve())
    aside = {_resolve(p, Path.cwd()) for p in quarantine}
    wanted = {_resolve(p, Path.cwd()): None for p in paths}
    strangers = sorted(aside - set(wanted))
    if strangers:
        msg = f"quarantined file {strangers[0]!r} is not among the files; name it there too"
        raise ManifestError(msg)
    problems: list[str] = []
    files: list[FileEntry] = []
    bad: list[Quarantined] = []
    shares = _shares(generated, len(set(wanted) - aside))
    for path in wanted:
        try:
            entry = describe_file(
                path,
                convention,
                aliases,
                kind=kind,
                bgo_reconstruction=bgo_reconstruction,
                generated=None if path in aside else next(shares),
                weights=weights,
                livetimes=livetimes,
                complete_above_gev=complete_above_gev,
            )
        except NtupleError as err:
            if path in aside:
                bad.append(Quarantined(path=path, reason=str(err)))
            else:
                problems.append(str(err))
            continue
        if path in aside:
            bad.append(Quarantined(path=path, reason="set aside by the user"))
        else:
            files.append(entry)
    problems += _clashes(files)
    if problems:
        lines = "\n  ".join(problems)
        msg = f"{len(problems)} problem(s):\n  {lines}\nMend them, or set a file aside with --quarantine."
        raise ManifestError(msg)
    return Manifest(files=files, quarantined=bad)


def _shares(total: Generated | None, files: int) -> Iterator[Generated | None]:
    """The generated primaries of a production, shared evenly by its files."""
    for i in range(files):
        if total is None:
            yield None
        else:
            events = total.events * (i + 1) // files - total.events * i // files
            yield total.model_copy(update={"events": events})


def join(manifests: Sequence[Manifest]) -> Manifest:
    """Put manifests together, for example those of data and of each simulation.

    Args:
        manifests: As :func:`read` gives them, with absolute paths.

    Returns:
        One manifest with all files.

    Raises:
        ManifestError: If files are duplicates or their runs overlap.
    """
    files = [f for m in manifests for f in m.files]
    quarantined = [q for m in manifests for q in m.quarantined]
    aside = {q.path for q in quarantined}
    problems = _clashes(files)
    problems += [f"{f.path}: quarantined by another manifest" for f in files if f.path in aside]
    if problems:
        msg = f"{len(problems)} problem(s):\n  " + "\n  ".join(problems)
        raise ManifestError(msg)
    return Manifest(files=files, quarantined=quarantined)


def _clashes(files: Sequence[FileEntry]) -> list[str]:
    """Sentences on files with the same identity or the same runs."""
    problems = []
    seen: dict[str, str] = {}
    for f in files:
        if f.uuid in seen:
            problems.append(f"{f.path}: the same file (uuid {f.uuid}) as {seen[f.uuid]}")
        seen.setdefault(f.uuid, f.path)
    for reconstruction in ("new", "old"):
        runs = sorted(
            (r.run_first, r.run_last, f.path)
            for f in files
            if f.kind == "data" and f.bgo_reconstruction == reconstruction
            if seen[f.uuid] == f.path
            for r in f.runs
        )
        problems += [
            f"{b[2]}: run {b[0]} overlaps runs {a[0]} to {a[1]} of {a[2]}"
            for a, b in itertools.pairwise(runs)
            if b[0] <= a[1]
        ]
    return problems
