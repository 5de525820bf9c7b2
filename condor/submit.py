"""Submission of plain shards: the description for each batch system, and the call of its command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from condor.jobscript import SETUP, WRAPPER, setup_script, wrapper_text
from condor.queue import QueueError, call_both
from condor.records import Batch, Shard, Submission, name_of, write_batch
from condor.site import Site, SiteError
from processors.wholefile import write_text

__all__ = ["condor_description", "description", "prepare_folder", "submit"]

#: A submit command that copies large files may take long.
_SUBMIT_S = 600.0


def condor_description(
    folder: Path, submission: Submission, site: Site, shards: Sequence[Shard]
) -> str:
    """The submit description of HTCondor, with one job per shard.

    Args:
        folder: Of the submission.
        submission: Its record.
        site: The site, with its present values.
        shards: The shards.

    Returns:
        The text.

    Raises:
        SiteError: If a path holds what a list of files cannot.
    """
    common = ["submission.json", SETUP, *(f"luggage/{p.file}" for p in submission.luggage.values())]
    inputs = [str(folder / name) for name in common] + list(site.transfer_input_files)
    if site.files == "transfer":
        inputs = [str(folder / name) for name in common] + list(site.travelling)
    lines = [
        f"# {len(shards)} plain shards of {folder}",
        f"executable = {folder / WRAPPER}",
        f"arguments = \"$(cre_shard) '{site.python}'\"",
        f"initialdir = {folder}",
        "should_transfer_files = YES",
        "when_to_transfer_output = ON_EXIT",
        "transfer_output_files = $(cre_shard).part",
        'transfer_output_remaps = "$(cre_shard).part = parts/$(cre_shard).part"',
        "output = logs/$(cre_shard).out",
        "error = logs/$(cre_shard).err",
        "log = logs/jobs.log",
        f"request_cpus = {site.cores}",
        f"request_memory = {site.memory_mb}",
        f"request_disk = {site.disk_mb * 1024}",
        f"batch_name = {submission.id}",
        f'MY.CreSubmission = "{submission.id}"',
        "MY.CreShard = $(cre_number)",
    ]
    if site.container_image:
        lines.append(f"container_image = {site.container_image}")
    if site.accounting_group:
        lines.append(f"accounting_group = {site.accounting_group}")
    if site.x509_proxy:
        lines += ["use_x509userproxy = true", f"x509userproxy = {site.x509_proxy}"]
    lines += [f"{key} = {value}" for key, value in site.directives.items()]
    rows = []
    for shard in shards:
        here = [str(folder / "shards" / f"{name_of(shard.number)}.json"), *shard.local]
        strange = [path for path in (*inputs, *here) if re.search(r"[,\n\"]", path)]
        if strange:
            msg = f"{strange[0]!r}: HTCondor cannot transfer a file with a comma or a quote in its path"
            raise SiteError(msg)
        rows.append(f"{name_of(shard.number)} {shard.number} {', '.join(here)}")
    # several queue statements would do the same, but HTCondor calls them deprecated
    lines += [
        f"transfer_input_files = {', '.join(inputs)}, $(cre_inputs)",
        "queue cre_shard, cre_number, cre_inputs from (",
        *rows,
        ")",
    ]
    return "\n".join(lines) + "\n"


def _array_script(
    folder: Path, submission: Submission, site: Site, shards: Sequence[Shard], list_file: Path
) -> str:
    """The script of an array of Slurm, or of the jobs of one hep_sub call."""
    lines = ["#!/bin/sh"]
    if site.scheduler == "slurm":
        minutes, seconds = divmod(site.walltime_s, 60)
        options = {
            "job-name": submission.id,
            "array": f"1-{len(shards)}",
            "output": folder / "logs" / "slurm-%A_%a.out",
            "ntasks": 1,
            "cpus-per-task": site.cores,
            "mem": f"{site.memory_mb}M",
            "time": f"{minutes}:{seconds:02d}",
        }
        if site.accounting_group:
            options["account"] = site.accounting_group
        lines += [
            f"#SBATCH --{key}={value}" for key, value in {**options, **site.directives}.items()
        ]
        line = '"${SLURM_ARRAY_TASK_ID}p"'
    else:
        line = '"$(($1 + 1))p"'
    home = shlex.quote(str(folder))
    return "\n".join(
        [
            *lines,
            "set -eu",
            f"number=$(sed -n {line} {shlex.quote(str(list_file))})",
            f'exec >{home}"/logs/$number.out" 2>{home}"/logs/$number.err"',
            f'exec /bin/sh {home}/{WRAPPER} "$number" {shlex.quote(site.python)} {home}',
            "",
        ]
    )


def prepare_folder(folder: Path, submission: Submission, shards: Sequence[Shard]) -> None:
    """Lay out the folder of a submission: records, wrapper, and where parts and logs come back."""
    for name in ("shards", "parts", "logs", "jobs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for shard in shards:
        write_text(
            folder / "shards" / f"{name_of(shard.number)}.json",
            shard.model_dump_json(by_alias=True) + "\n",
        )
    write_text(folder / WRAPPER, wrapper_text())
    (folder / WRAPPER).chmod(0o755)
    # last: a folder with this file is a whole one
    write_text(
        folder / "submission.json", submission.model_dump_json(by_alias=True, indent=1) + "\n"
    )


def description(
    folder: Path, submission: Submission, site: Site, shards: Sequence[Shard]
) -> list[tuple[str, str, list[str]]]:
    """What will be submitted.

    Args:
        folder: Of the submission, absolute.
        submission: Its record.
        site: The site, with its present values.
        shards: The shards.

    Returns:
        For each call of the submit command: name of its file, the file's text, and the command.
    """
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{shards[0].number if shards else 0}"
    if site.scheduler == "htcondor":
        name = f"{stem}.sub"
        command = [*site.submit_command, str(folder / "jobs" / name)]
        return [(name, condor_description(folder, submission, site, shards), command)]
    calls = []
    for start in range(0, len(shards), site.array_limit):
        some = shards[start : start + site.array_limit]
        name = f"{stem}-{start}.sh"
        path = folder / "jobs" / name
        text = _array_script(folder, submission, site, some, path.with_suffix(".list"))
        command = [*site.submit_command, str(path)]
        if site.scheduler == "hep_sub":
            options: list[str] = [
                *("-mem", str(site.memory_mb), "-n", str(len(some)), "-argu", "%{ProcId}"),
                *("-o", str(folder / "logs" / "hep-%{ProcId}.out")),
                *("-e", str(folder / "logs" / "hep-%{ProcId}.err")),
            ]
            if site.accounting_group:
                options += ["-g", site.accounting_group]
            for key, value in site.directives.items():
                options += [key, str(value)]
            command = [*site.submit_command, *options, str(path)]
        calls.append((name, text, command))
    return calls


def submit(
    folder: Path, submission: Submission, site: Site, shards: Sequence[Shard]
) -> tuple[list[Batch], list[str]]:
    """Submit shards and note their jobs.

    Args:
        folder: Of the submission, absolute and prepared.
        submission: Its record.
        site: The site, with its present values.
        shards: The shards.

    Returns:
        What was submitted, and warnings of the submit command.

    Raises:
        SiteError: If a file of the site file does not exist.
        QueueError: If the submit command fails; what was submitted before stays noted.
    """
    site.check_files()
    write_text(folder / SETUP, setup_script(site))
    batches: list[Batch] = []
    warnings: list[str] = []
    first = 0
    for name, text, command in description(folder, submission, site, shards):
        path = folder / "jobs" / name
        write_text(path, text)
        some = list(shards)
        if site.scheduler != "htcondor":
            some = list(shards[first : first + site.array_limit])
            first += len(some)
            path.chmod(0o755)  # hep_sub wants it
            write_text(path.with_suffix(".list"), "".join(f"{name_of(s.number)}\n" for s in some))
        out, err = call_both(command, _SUBMIT_S, cwd=str(folder))
        warnings += [line for line in (out + err).splitlines() if "WARNING" in line.upper()]
        batch = Batch(
            cluster=_cluster(out, command[0], len(some)),
            shards=tuple(s.number for s in some),
            submitted=datetime.now(UTC).isoformat(timespec="seconds"),
            memory_mb=site.memory_mb,
        )
        write_batch(folder, batch)
        batches.append(batch)
    return batches, warnings


def _cluster(text: str, command: str, wanted: int) -> str:
    """Number of the jobs from what the submit command printed."""
    condor = re.search(r"(\d+) job\(s\) submitted to cluster (\d+)", text)
    if condor is not None:
        if int(condor[1]) != wanted:
            msg = f"{command!r} took {condor[1]} of {wanted} jobs; remove cluster {condor[2]} and submit again"
            raise QueueError(msg)
        return condor[2]
    slurm = re.search(r"(?:Submitted batch job|cluster) (\d+)", text)
    if slurm is None:
        msg = f"{command!r} printed no job number: {text.strip()[:200]!r}; look whether it submitted jobs"
        raise QueueError(msg)
    return slurm[1]
