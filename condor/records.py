"""Records of plain shards on disk: what was submitted, what each job is given, which jobs there were.

For sites whose workers cannot reach the user's process: nothing but files goes there and comes back.
"""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from coffea.processor.executor import WorkItem
from pydantic import Field, ValidationError

from condor.site import Site, Strict
from processors.accumulators import chunk_id
from processors.exceptions import ClusterError, PartError, sentences
from processors.manifest import FileEntry
from processors.ntuplefile import is_url
from processors.wholefile import write_text

__all__ = [
    "Batch",
    "Chunk",
    "Packed",
    "Shard",
    "Submission",
    "Summary",
    "cut",
    "lock",
    "name_of",
    "new_submission",
    "read_batches",
    "read_shard",
    "read_submission",
    "write_batch",
]

T = TypeVar("T", bound=Strict)
#: File uuid, first entry, entry after the last.
Chunk = tuple[str, int, int]


class Packed(Strict):
    """A file that travels beside the ntuples: its name in the luggage, and its hash."""

    file: str
    sha256: str


class Summary(Strict):
    """A shard in the list of a submission."""

    number: int = Field(ge=0)
    files: tuple[str, ...]
    events: int
    chunks: tuple[Chunk, ...]


class Submission(Strict):
    """The record of a submission, ``submission.json``; it travels with each shard.

    Attributes:
        schema_: Version of the format; ``schema`` in the file.
        id: Name in the queue.
        created: Time of the submission, UTC.
        card: The card with absolute paths.
        generated: Generated events of the whole manifest, which decide the weights in every shard.
        keys: Sample to the hash of all that decides its numbers.
        code: What makes the numbers, :func:`processors.identity.code_identity`.
        models: Files of the networks with their hashes.
        luggage: Path of a model, alias file or calibration, as the card names it, to the file that travels.
        site: The site file.
        shards: All shards.
    """

    schema_: Literal["cre-submission/1"] = Field(default="cre-submission/1", alias="schema")
    id: str
    created: str
    card: dict[str, Any]
    generated: dict[str, dict[str, list[dict[str, Any]]]]
    keys: dict[str, str]
    code: dict[str, str]
    models: tuple[dict[str, Any], ...]
    luggage: dict[str, Packed]
    site: Site
    shards: tuple[Summary, ...]


class Shard(Strict):
    """One job: ``shards/00012.json``.

    Attributes:
        schema_: Version of the format; ``schema`` in the file.
        submission: Name of the submission.
        number: Of the shard.
        files: Its slice of the manifest.
        local: Path of an ntuple to its name in the job's folder, for those that travel.
    """

    schema_: Literal["cre-shard/1"] = Field(default="cre-shard/1", alias="schema")
    submission: str
    number: int
    files: tuple[FileEntry, ...]
    local: dict[str, str] = Field(default_factory=dict)


class Batch(Strict):
    """Shards that were submitted together: the batch system's number, and shards in order of its tasks."""

    cluster: str
    shards: tuple[int, ...]
    submitted: str
    memory_mb: int


def name_of(number: int) -> str:
    """A shard in file names."""
    return f"{number:05d}"


def cut(
    files: Sequence[FileEntry],
    *,
    shards: int | None = None,
    events: int | None = None,
    unique_names: bool = False,
) -> list[tuple[FileEntry, ...]]:
    """Cut a manifest into groups of whole files, in order.

    Args:
        files: The files.
        shards: Number of groups of about the same number of events; or
        events: Most events of a group; a file with more is a group of its own.
        unique_names: Put no two local files with the same name into one group: they would land in one folder.

    Returns:
        The groups, none empty.
    """
    groups: list[list[FileEntry]] = []
    if shards is not None:
        weights = [f.entries + 1 for f in files]
        total, before, slot = sum(weights), 0, -1
        for f, weight in zip(files, weights, strict=True):
            here = min(shards - 1, int((before + weight / 2) / total * shards))
            if here != slot:
                groups.append([])
                slot = here
            groups[-1].append(f)
            before += weight
    else:
        limit = events or 1
        for f in files:
            if not groups or sum(g.entries for g in groups[-1]) + f.entries > limit:
                groups.append([])
            groups[-1].append(f)
    if unique_names:
        groups = [part for group in groups for part in _apart(group)]
    return [tuple(g) for g in groups]


def _apart(group: Sequence[FileEntry]) -> Iterator[list[FileEntry]]:
    part: list[FileEntry] = []
    seen: set[str] = set()
    for f in group:
        name = f.uuid if is_url(f.path) else Path(f.path).name
        if name in seen:
            yield part
            part, seen = [], set()
        part.append(f)
        seen.add(name)
    yield part


def new_submission(
    groups: Sequence[Sequence[FileEntry]], items: Iterable[WorkItem], *, site: Site, **facts: Any
) -> tuple[Submission, list[Shard]]:
    """The records of a submission.

    Args:
        groups: Files of each shard.
        items: All chunks of the run.
        site: The site.
        facts: The other entries of :class:`Submission`: ``card``, ``generated``, ``keys``, ``code``,
            ``models`` and ``luggage``.

    Returns:
        The submission and its shards.
    """
    chunks: dict[str, list[Chunk]] = {}
    for item in items:
        chunks.setdefault(item.filename, []).append(chunk_id(item))
    name = f"cre-{uuid.uuid4().hex[:12]}"
    shards, summaries = [], []
    for number, files in enumerate(groups):
        local = {}
        if site.files == "transfer":
            local = {f.path: Path(f.path).name for f in files if not is_url(f.path)}
        shards.append(Shard(submission=name, number=number, files=tuple(files), local=local))
        summaries.append(
            Summary(
                number=number,
                files=tuple(f.path for f in files),
                events=sum(f.entries for f in files),
                chunks=tuple(c for f in files for c in chunks[f.path]),
            )
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    submission = Submission(id=name, created=created, site=site, shards=tuple(summaries), **facts)
    return submission, shards


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep two commands from submitting the same shards.

    Raises:
        ClusterError: If another one is at it.
    """
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            msg = f"another command submits shards of {folder}; wait for it"
            raise ClusterError(msg) from err
        yield


def read_submission(folder: Path) -> Submission:
    """Read the record of a submission.

    Raises:
        PartError: If there is none in the folder or it is malformed.
    """
    return _read(folder / "submission.json", Submission)


def read_shard(path: Path) -> Shard:
    """Read the description of a shard.

    Raises:
        PartError: If it cannot be read or is malformed.
    """
    return _read(path, Shard)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate_json(path.read_text("utf-8"))
    except OSError as err:
        msg = f"{path} cannot be read ({err.strerror}): is this the folder of 'cre condor submit'?"
        raise PartError(msg) from err
    except ValidationError as err:
        msg = f"{path} is malformed:\n  {sentences(err)}"
        raise PartError(msg) from err


def read_batches(folder: Path) -> list[Batch]:
    """What was submitted so far, in order."""
    try:
        content = json.loads((folder / "jobs.json").read_text("utf-8"))
    except FileNotFoundError:
        return []
    return [Batch.model_validate(entry) for entry in content]


def write_batch(folder: Path, batch: Batch) -> None:
    """Note that shards were submitted."""
    batches = [*read_batches(folder), batch]
    write_text(folder / "jobs.json", json.dumps([b.model_dump() for b in batches], indent=1) + "\n")
