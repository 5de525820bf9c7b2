"""What became of plain shards: their parts, checked, and the state of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from condor.queue import Job, describe
from condor.records import Chunk, Submission, Summary, name_of, read_batches
from processors import partfile
from processors.exceptions import PartError

__all__ = [
    "FAILED",
    "PART_SCHEMA",
    "ForeignPartError",
    "Part",
    "ShardState",
    "chunk_of",
    "log_tail",
    "part_path",
    "read_part",
    "survey",
]

PART_SCHEMA = "cre-shard-part/1"
#: What the wrapper writes in place of a part when there is none.
FAILED = b"the shard failed"

State = Literal[
    "waiting",
    "idle",
    "running",
    "held",
    "done",
    "incomplete",
    "failed",
    "damaged",
    "foreign",
    "lost",
    "unknown",
]


class ForeignPartError(PartError):
    """A part that was made by another card, model or program."""


@dataclass(frozen=True)
class Part:
    """What a shard brought back, checked: header and packed histograms."""

    header: Mapping[str, Any]
    content: bytes

    @property
    def processed(self) -> set[Chunk]:
        """Chunks that it read."""
        return {chunk_of(c) for c in self.header["processed"]}

    @property
    def missing(self) -> dict[Chunk, str]:
        """Chunks that it could not read, with the reason."""
        return {chunk_of(c): str(c[3]) for c in self.header["missing"]}


@dataclass(frozen=True)
class ShardState:
    """Where a shard is.

    Attributes:
        number: Of the shard.
        state: What it does or what became of it.
        text: Why, and what to do.
        job: Its job in the queue, if it has one.
    """

    number: int
    state: State
    text: str = ""
    job: str = ""


def part_path(folder: Path, number: int) -> Path:
    """Where the part of a shard comes back."""
    return folder / "parts" / f"{name_of(number)}.part"


def chunk_of(entry: Sequence[Any]) -> Chunk:
    """A chunk from JSON."""
    return str(entry[0]), int(entry[1]), int(entry[2])


def read_part(folder: Path, submission: Submission, summary: Summary) -> Part:
    """Read what a shard brought back and hold it against the submission.

    Raises:
        PartError: If it is damaged, or of another shard, card, model or program.
    """
    path = part_path(folder, summary.number)
    header, content = partfile.read(path)
    ours = {
        "schema": PART_SCHEMA,
        "submission": submission.id,
        "shard": summary.number,
        "code": submission.code,
        "keys": submission.keys,
    }
    other = [key for key, value in ours.items() if header.get(key) != value]
    if other:
        msg = f"part {str(path)!r} belongs to another run: its {', '.join(other)} differ"
        raise ForeignPartError(msg)
    part = Part(header, content)
    planned = {chunk_of(c) for c in header["planned"]}
    if planned != set(summary.chunks) or part.processed | set(part.missing) != planned:
        msg = f"part {str(path)!r} has other chunks than its shard; run the shard again"
        raise ForeignPartError(msg)
    return part


def log_tail(folder: Path, number: int, lines: int = 3) -> str:
    """The last lines that a shard wrote to standard error, in one."""
    try:
        text = (folder / "logs" / f"{name_of(number)}.err").read_text("utf-8", "replace")
    except OSError:
        return "no log came back"
    last = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " | ".join(last)[-600:] or "its log is empty"


def survey(
    folder: Path,
    submission: Submission,
    jobs: Mapping[int, Job] | None,
    *,
    ended: Mapping[int, str] | None = None,
) -> list[ShardState]:
    """The state of every shard.

    Args:
        folder: Of the submission.
        submission: Its record.
        jobs: Shard to its job in the queue, read before this call; None if the queue cannot be read.
        ended: Shard to the batch system's word for how its job ended, where known.

    Returns:
        States in order of the shards.
    """
    submitted = {number for batch in read_batches(folder) for number in batch.shards}
    states = []
    for summary in submission.shards:
        number = summary.number
        job = (jobs or {}).get(number)
        if job is not None and job.state in {"idle", "running", "held"}:
            states.append(_of_job(number, job))
            continue
        state = _of_part(folder, submission, summary)
        if state is None and number not in submitted:
            state = ShardState(number, "waiting", "not submitted; 'cre resubmit' does it")
        elif state is None and jobs is None:
            state = ShardState(
                number, "unknown", "the queue cannot be read; no part came back so far"
            )
        elif state is None and job is not None:
            state = ShardState(number, "running", "on its way out of the queue", job.id)
        elif state is None:
            word = (ended or {}).get(number)
            why = f"{word}; " if word else ""
            text = f"{why}it left the queue without a part: {log_tail(folder, number)}"
            state = ShardState(number, "lost", text)
        states.append(state)
    return states


def _of_job(number: int, job: Job) -> ShardState:
    text = ""
    if job.state == "held":
        text = describe([job], 0.0, analyse="")[0]
    elif job.state == "idle":
        text = f"for {job.since_s:.0f} s" + (f" ({job.reason})" if job.reason else "")
    states: Mapping[str, State] = {"idle": "idle", "running": "running", "held": "held"}
    return ShardState(number, states[job.state], text, job.id)


def _of_part(folder: Path, submission: Submission, summary: Summary) -> ShardState | None:
    number = summary.number
    path = part_path(folder, number)
    if not path.exists():
        return None
    with path.open("rb") as stream:
        start = stream.read(len(FAILED))
    if start == FAILED:
        return ShardState(number, "failed", log_tail(folder, number))
    try:
        part = read_part(folder, submission, summary)
    except ForeignPartError as err:
        return ShardState(number, "foreign", str(err))
    except PartError as err:
        return ShardState(number, "damaged", str(err))
    if part.missing:
        chunk, why = next(iter(part.missing.items()))
        text = f"{len(part.missing)} of {len(summary.chunks)} chunks are missing, for example [{chunk[1]}:{chunk[2]}]: {why}"
        return ShardState(number, "incomplete", text)
    return ShardState(number, "done")
