"""From parts to one result: nothing is merged that is not whole, of this card and of this program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coffea.processor.executor import WorkItem

from condor.records import Chunk, Submission
from condor.shards import FAILED, log_tail, part_path, read_part
from processors import accumulators
from processors.accumulators import chunk_id
from processors.chunk import chunk_name
from processors.exceptions import CodeMismatchError, IncompleteError, PartError
from processors.identity import code_identity, differences, run_key
from processors.processor import RunConfig
from processors.run import RunResult

__all__ = ["check_same", "gather"]


def check_same(submission: Submission, config: RunConfig, items: Sequence[WorkItem]) -> None:
    """Refuse to merge with another program, card, model or manifest than the shards had.

    Args:
        submission: What was submitted.
        config: The run, prepared anew.
        items: Its chunks.

    Raises:
        CodeMismatchError: If the program or its packages changed.
        PartError: If card, models or files changed.
    """
    if submission.code != code_identity():
        msg = (
            f"the shards ran with another program: {'; '.join(differences(submission.code))}; merge with that one "
            "or submit anew"
        )
        raise CodeMismatchError(msg)
    changed = [kind for kind, key in submission.keys.items() if run_key(config, kind) != key]
    if changed:
        msg = f"card, models or calibration changed since the shards were submitted ({', '.join(changed)}); submit anew"
        raise PartError(msg)
    planned = [c for s in submission.shards for c in s.chunks]
    if len(set(planned)) != len(planned) or set(planned) != {chunk_id(i) for i in items}:
        msg = "the chunks of the shards are not those of the manifest, each once; submit anew"
        raise PartError(msg)


def gather(
    folder: Path,
    submission: Submission,
    config: RunConfig,
    items: Sequence[WorkItem],
    *,
    allow_missing: bool = False,
) -> RunResult:
    """Fold the parts of all shards.

    Args:
        folder: Of the submission.
        submission: Its record.
        config: The run, prepared anew.
        items: Its chunks.
        allow_missing: Fold the files that are complete although others are not.

    Returns:
        The result; incomplete only if that was allowed.

    Raises:
        IncompleteError: If a part or a chunk is missing, damaged or of another run, with all of them.
        CodeMismatchError: See :func:`check_same`.
        PartError: See :func:`check_same`.
    """
    check_same(submission, config, items)
    total = accumulators.empty(config)
    processed: set[Chunk] = set()
    reasons: dict[Chunk, str] = {}
    problems: list[str] = []
    for summary in submission.shards:
        label = f"shard {summary.number}"
        try:
            part = read_part(folder, submission, summary)
            accumulators.add(total, part.content)
        except PartError as err:
            why = _why(folder, summary.number, err)
            problems.append(f"{label}: {why}")
            reasons.update(dict.fromkeys(summary.chunks, f"{label}: {why}"))
            continue
        processed |= part.processed
        reasons.update(part.missing)
        if part.missing:
            chunk, why = next(iter(part.missing.items()))
            problems.append(
                f"{label}: {len(part.missing)} of {len(summary.chunks)} chunks are missing "
                f"([{chunk[1]}:{chunk[2]}]: {why})"
            )
    if problems and not allow_missing:
        lines = "\n  ".join(problems)
        msg = (
            f"{len(problems)} of {len(submission.shards)} shards are not complete:\n  {lines}\n"
            "'cre resubmit' runs them again; --allow-missing merges the complete files for 'cre flux --partial'"
        )
        raise IncompleteError(msg)
    folded = total["chunks"]
    incomplete = sorted({i.filename for i in items if chunk_id(i) not in folded})
    lost = {c for c in processed if c not in folded} - {
        chunk_id(i) for i in items if i.filename in incomplete
    }
    if lost or folded - processed:
        msg = "the histograms of the parts hold other chunks than their headers say; run the shards again"
        raise PartError(msg)
    return RunResult(
        output=total if folded else {},
        planned=tuple(map(chunk_name, items)),
        processed=tuple(sorted(chunk_name(i) for i in items if chunk_id(i) in processed)),
        missing={
            chunk_name(i): reasons.get(chunk_id(i), "not in any part")
            for i in items
            if chunk_id(i) not in processed
        },
        incomplete_files=tuple(incomplete),
    )


def _why(folder: Path, number: int, error: PartError) -> str:
    path = part_path(folder, number)
    if not path.exists():
        return "no part came back"
    if path.read_bytes()[: len(FAILED)] == FAILED:
        return f"failed: {log_tail(folder, number)}"
    return str(error)
