"""Site files: how jobs are submitted somewhere, and what is refused before anything is.

No parser of a batch system refuses a request in words, a misspelt ``request_*`` or an input file that does
not exist: such jobs idle or are held for ever. So it is done here.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from processors.exceptions import CreError, sentences
from processors.ntuplefile import is_url
from processors.shippedfile import shipped_names, shipped_text

__all__ = [
    "PATH_KEYS",
    "DaskSection",
    "QueueSection",
    "Site",
    "SiteError",
    "Strict",
    "read_site",
    "shipped_sites",
]

Scalar = str | int | float | bool
#: Less than this is no worker: Python with all that it imports takes 0.3 GB before the first event.
LEAST_WORKER_MB = 600
#: Keys of a site file that name local files.
PATH_KEYS = ("environment", "wheel", "x509_proxy")

_REQUESTS = ("request_cpus", "request_disk", "request_gpus", "request_memory")
#: What the program writes itself, by batch system; a second value would win or lose without a word.
_OURS: dict[str, dict[str, str]] = {
    "htcondor": {
        **dict.fromkeys(("request_cpus", "requestcpus"), "cores"),
        **dict.fromkeys(("request_memory", "requestmemory"), "memory_mb"),
        **dict.fromkeys(("request_disk", "requestdisk"), "disk_mb"),
        "transfer_input_files": "transfer_input_files",
        "container_image": "container_image",
        "x509userproxy": "x509_proxy",
        "accounting_group": "accounting_group",
        "should_transfer_files": "files",
        **dict.fromkeys(
            ("executable", "arguments", "queue", "output", "error", "log", "initialdir"), ""
        ),
        **dict.fromkeys(("transfer_output_files", "transfer_output_remaps"), ""),
    },
    "slurm": {
        "mem": "memory_mb",
        "time": "walltime_s",
        "cpus-per-task": "cores",
        "account": "accounting_group",
        **dict.fromkeys(("array", "output", "error", "job-name", "ntasks"), ""),
    },
    "hep_sub": {
        "-mem": "memory_mb",
        "-g": "accounting_group",
        **dict.fromkeys(("-argu", "-n", "-o", "-e"), ""),
    },
}


class SiteError(CreError):
    """A site file is malformed, or asks for what no batch system can give."""


class Strict(BaseModel):
    """A table that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DaskSection(Strict):
    """How Dask workers reach the scheduler, which runs where ``cre run`` does.

    Attributes:
        submit_arguments: Arguments of the submit command for workers only.
        interface: Network interface of the scheduler and the workers.
        host: Address on which the scheduler listens; default that of the interface or the host.
        port: Its port; 0 for any free one.
        contact_address: What workers call instead, behind a gateway.
        worker_ports: Ports of the workers, ``first:last``.
        death_timeout_s: A worker that cannot reach the scheduler for so long ends.
    """

    submit_arguments: tuple[str, ...] = ()
    interface: str | None = None
    host: str | None = None
    port: int = Field(default=0, ge=0, le=65535)
    contact_address: str | None = None
    worker_ports: str | None = Field(default=None, pattern=r"^\d+:\d+$")
    death_timeout_s: int = Field(default=120, ge=5)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.interface and self.host:
            msg = "give 'interface' or 'host', not both"
            raise ValueError(msg)
        return self


class QueueSection(Strict):
    """How often the batch system is asked, and when the user is told.

    Attributes:
        poll_s: Time between two questions.
        timeout_s: A question without answer is given up after so long.
        idle_limit_s: A job that waits longer is told.
        held_limit_s: A run all of whose jobs are held for so long stops.
    """

    poll_s: float = Field(default=10.0, gt=0)
    timeout_s: float = Field(default=20.0, gt=0)
    idle_limit_s: float = Field(default=1800.0, gt=0)
    held_limit_s: float = Field(default=60.0, ge=0)


class Site(Strict):
    """A site file, validated.

    Attributes:
        name: Of the site, for messages.
        scheduler: Batch system.
        files: ``shared`` if jobs see the folders of the user, ``transfer`` if everything travels with the job.
        memory_mb: Memory asked for a job, MiB.
        memory_headroom_mb: Part of it that a worker does not use, for what Python does not count, MiB.
        disk_mb: Scratch space asked for a job, MiB.
        cores: Cores asked for a job; one is used.
        walltime_s: After so long the site ends a job; workers stop before.
        python: Command on the worker.
        environment: Tarball of ``cre condor pack`` with the packages, for bare workers.
        wheel: Wheel of ``cre condor pack`` with this program.
        container_image: Image in which the job runs (HTCondor).
        accounting_group: Account of the jobs.
        x509_proxy: Grid proxy that travels with the job.
        transfer_input_files: Further files that travel with the job (HTCondor).
        prologue: Shell lines before Python starts; the first that fails ends the job.
        directives: Anything else of the submit description: ``+Key``, ``MY.Key``, Slurm options without
            dashes, options of ``hep_sub`` with them.
        submit: Submit command with its arguments.
        array_limit: Jobs per Slurm array.
        log_folder: Where jobs write what they say; default the folder of the run.
        dask: How Dask workers reach the scheduler.
        queue: How the batch system is asked.
    """

    name: str
    scheduler: Literal["htcondor", "slurm", "hep_sub"]
    files: Literal["shared", "transfer"] = "shared"
    memory_mb: int = Field(ge=1)
    memory_headroom_mb: int = Field(default=500, ge=0)
    disk_mb: int = Field(default=4000, ge=1)
    cores: int = Field(default=1, ge=1)
    walltime_s: int = Field(ge=60)
    python: str = Field(default="python3", pattern=r"^[^'\"\n]+$")
    environment: Path | None = None
    wheel: Path | None = None
    container_image: str | None = None
    accounting_group: str | None = None
    x509_proxy: Path | None = None
    transfer_input_files: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    directives: dict[str, Scalar] = Field(default_factory=dict)
    submit: tuple[str, ...] = ()
    array_limit: int = Field(default=1000, ge=1)
    log_folder: Path | None = None
    dask: DaskSection = DaskSection()
    queue: QueueSection = QueueSection()

    @field_validator("prologue", mode="after")
    @classmethod
    def _lines(cls, lines: Sequence[str]) -> Sequence[str]:
        for line in lines:
            if "\n" in line:
                msg = f"{line!r} is several lines; give a list"
                raise ValueError(msg)
        return lines

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.worker_mb < LEAST_WORKER_MB:
            msg = (
                f"memory_mb {self.memory_mb} less memory_headroom_mb {self.memory_headroom_mb} leaves "
                f"{self.worker_mb} MiB; a worker needs {LEAST_WORKER_MB}"
            )
            raise ValueError(msg)
        if self.files == "transfer" and self.scheduler != "htcondor":
            msg = (
                f"files: transfer needs HTCondor; {self.scheduler} jobs must see the user's folders"
            )
            raise ValueError(msg)
        if self.scheduler != "htcondor":
            for key in ("transfer_input_files", "container_image"):
                if getattr(self, key):
                    msg = f"{key} needs HTCondor; with {self.scheduler} use 'prologue' or 'directives'"
                    raise ValueError(msg)
        for key, value in self.directives.items():
            self._check_directive(key, value)
        return self

    def _check_directive(self, key: str, value: Scalar) -> None:
        if "\n" in key or "\n" in str(value):
            msg = f"directive {key!r} has a line break"
            raise ValueError(msg)
        ours = _OURS[self.scheduler]
        if key.lower() in ours:
            instead = ours[key.lower()]
            msg = f"directive {key!r} is written by the program" + (
                f"; set {instead!r}" if instead else ""
            )
            raise ValueError(msg)
        if self.scheduler != "htcondor":
            return
        if key.lower().startswith("request_") and key.lower() not in _REQUESTS:
            near = difflib.get_close_matches(key.lower(), _REQUESTS, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"directive {key!r} asks for a resource of that name, which no machine has{meant}"
            raise ValueError(msg)
        if key.lower() == "request_gpus" and not str(value).isdigit():
            msg = f"directive {key!r} must be a number, not {value!r}"
            raise ValueError(msg)
        attribute = key.startswith("+") or key.lower().startswith("my.")
        if attribute and isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value):
            msg = f"directive {key!r}: a word must be quoted, '\"{value}\"' (unquoted it names an attribute)"
            raise ValueError(msg)

    @property
    def worker_mb(self) -> int:
        """Memory limit of a worker, MiB."""
        return self.memory_mb - self.memory_headroom_mb

    @property
    def submit_command(self) -> tuple[str, ...]:
        """The submit command with its arguments."""
        default = {"htcondor": "condor_submit", "slurm": "sbatch", "hep_sub": "hep_sub"}
        return self.submit or (default[self.scheduler],)

    @property
    def travelling(self) -> tuple[str, ...]:
        """Files that travel with each job: the user's, the environment and the wheel."""
        packed = [str(p) for p in (self.environment, self.wheel) if p is not None]
        return (*self.transfer_input_files, *packed)

    def check_files(self) -> None:
        """Refuse files that do not exist, and two that would have the same name on the worker.

        Raises:
            SiteError: With all of them.
        """
        named = {key: getattr(self, key) for key in PATH_KEYS}
        missing = [
            f"{key}: {path} does not exist"
            for key, path in named.items()
            if path and not path.exists()
        ]
        missing += [
            f"transfer_input_files: {path} does not exist"
            for path in self.transfer_input_files
            if not is_url(path) and not Path(path).exists()
        ]
        if self.wheel is not None and self.wheel.suffix != ".whl":
            missing.append(f"wheel: {self.wheel} is no wheel (.whl)")
        names = [Path(p).name for p in self.travelling]
        missing += [
            f"transfer_input_files: two files are called {name!r}; the job would get one of them"
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        if missing:
            msg = f"site {self.name!r}:\n  " + "\n  ".join(missing)
            raise SiteError(msg)


def shipped_sites() -> list[str]:
    """Names of the shipped site files."""
    return shipped_names("condor", "sites")


def read_site(name_or_path: str | Path, **changes: Any) -> Site:
    """Read and check a site file; its paths come back absolute.

    Args:
        name_or_path: A YAML file, or the name of a shipped one.
        changes: Keys of the file with other values.

    Returns:
        The site.

    Raises:
        SiteError: With the entry and what is wrong with it.
    """
    shipped = str(name_or_path) in shipped_sites()
    path = Path(name_or_path)
    text = shipped_text(name_or_path, "condor", "sites", what="site file", error=SiteError)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as err:  # ValueError: a date that does not exist
        msg = f"site file {str(path)!r} is no YAML: {err}"
        raise SiteError(msg) from err
    if not isinstance(content, dict):
        msg = f"site file {str(path)!r} is no table of keys"
        raise SiteError(msg)
    folder = Path.cwd() if shipped else path.resolve().parent
    for key in (*PATH_KEYS, "log_folder"):
        if isinstance(content.get(key), str):
            content[key] = _absolute(content[key], folder)
    if isinstance(content.get("transfer_input_files"), list):
        content["transfer_input_files"] = [
            _absolute(entry, folder) if isinstance(entry, str) and not is_url(entry) else entry
            for entry in content["transfer_input_files"]
        ]
    try:
        return Site.model_validate(content | changes)
    except ValidationError as err:
        msg = f"site file {str(path)!r}:\n  {sentences(err)}"
        raise SiteError(msg) from err


def _absolute(entry: str, folder: Path) -> str:
    return str((folder / Path(os.path.expandvars(entry)).expanduser()).absolute())
