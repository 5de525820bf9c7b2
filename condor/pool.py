"""Dask workers as jobs of HTCondor or Slurm.

The batch system is read back while the run goes on, because Dask only knows workers that reached it: a held,
waiting or removed job would look like a worker that is still to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue.core import Job as DaskJob
from dask_jobqueue.htcondor import HTCondorCluster, HTCondorJob
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client
from distributed.core import Status

from condor import tls
from condor.jobscript import SETUP, setup_script
from condor.poolwatch import Pool
from condor.queue import QueueError, call
from condor.site import Site
from processors.daskrun import SETTINGS
from processors.exceptions import ClusterError

__all__ = ["cluster_options", "lifetime_s", "open_pool", "worker_description"]

#: Submit commands at a time.
_AT_ONCE = 8
_POOL = "pool.json"


def lifetime_s(walltime_s: float) -> tuple[float, float]:
    """When a worker stops by itself, so that the site does not have to end it.

    Args:
        walltime_s: When the site ends the job, s.

    Returns:
        Lifetime and how much it varies from worker to worker, s; together less than nine tenths of the
        walltime.
    """
    stagger = min(300.0, 0.05 * walltime_s)
    return 0.9 * walltime_s - stagger, stagger


def cluster_options(site: Site, folder: Path, run: str) -> dict[str, Any]:
    """Arguments of the clusters of dask-jobqueue, but for the security.

    Args:
        site: The site.
        folder: With the setup script, keys and logs.
        run: Name by which the jobs are found in the queue.

    Returns:
        Keyword arguments.
    """
    lifetime, stagger = lifetime_s(site.walltime_s)
    transfer = site.files == "transfer"
    setup = f"./{SETUP}" if transfer else shlex.quote(str(folder / SETUP))
    arguments = [
        *("--lifetime", f"{lifetime:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"),
        *("--dashboard-address", "127.0.0.1:0"),
    ]
    if site.dask.worker_ports:
        arguments += ["--worker-port", site.dask.worker_ports]
    scheduler: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "port": site.dask.port}
    for key in ("host", "contact_address"):
        if value := getattr(site.dask, key):
            scheduler[key] = value
    options: dict[str, Any] = {
        "cores": 1,
        "processes": 1,
        # The batch system watches over the process. And with python 3.13 a nanny that hangs up leaves an OpenSSL
        # error behind in the scheduler, which then drops a healthy TLS connection: another worker, or the client.
        "nanny": False,
        "memory": f"{site.worker_mb}MiB",
        "name": run,
        "job_name": run,
        "python": site.python,
        "interface": site.dask.interface,
        "death_timeout": site.dask.death_timeout_s,
        "local_directory": "$CRE_SCRATCH",
        "job_script_prologue": ["set -e", f". {setup}"],
        "worker_extra_args": arguments,
        "log_directory": str(site.log_folder or folder / "logs"),
        "scheduler_options": scheduler,
        "protocol": "tls://",
        "silence_logs": "critical",
    }
    if site.scheduler == "slurm":
        return options | {
            "job_mem": f"{site.memory_mb}M",
            "job_cpu": site.cores,
            "walltime": _slurm_time(site.walltime_s),
            "account": site.accounting_group,
            "job_extra_directives": [f"--{k}={v}" for k, v in site.directives.items()],
        }
    return options | {
        "disk": f"{site.disk_mb}MiB",
        "job_extra_directives": _condor_directives(site, folder, run),
    }


def _slurm_time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}:{rest:02d}"


def _condor_directives(site: Site, folder: Path, run: str) -> dict[str, Any]:
    directives: dict[str, Any] = {
        "MY.CreRun": f'"{run}"',
        "RequestCpus": site.cores,
        "RequestMemory": site.memory_mb,
        "RequestDisk": site.disk_mb * 1024,
        "initialdir": str(folder),
        "transfer_executable": "False",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": '""',
    }
    inputs = [str(p) for p in site.travelling]
    if site.files == "transfer":
        directives["should_transfer_files"] = "YES"
        inputs = [str(folder / n) for n in (SETUP, "cre-run.crt", "cre-run.key")] + inputs
    else:
        directives["should_transfer_files"] = "IF_NEEDED"
    if inputs:
        directives["transfer_input_files"] = ", ".join(inputs)
    if site.container_image:
        directives["container_image"] = site.container_image
    if site.accounting_group:
        directives["accounting_group"] = site.accounting_group
    if site.x509_proxy:
        directives["x509userproxy"] = str(site.x509_proxy)
    return directives | dict(site.directives)


def _job_class(site: Site, worker_security: Any, errors: list[str]) -> type[DaskJob]:
    """The job of dask-jobqueue with this site's submit command, its keys, and errors that are kept."""
    base: type[DaskJob] = SLURMJob if site.scheduler == "slurm" else HTCondorJob
    gate = asyncio.Semaphore(_AT_ONCE)  # a thousand submit commands at once would exhaust the host

    class WorkerJob(base):  # type: ignore[valid-type,misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"security": worker_security}))
            self.submit_command = shlex.join((*site.submit_command, *site.dask.submit_arguments))

        async def start(self) -> None:
            async with gate:
                try:
                    await super().start()
                except (OSError, RuntimeError, ValueError) as err:
                    errors.append(" ".join(str(err).split())[-600:])
                    self.status = Status.failed
                    raise

    return WorkerJob


def worker_description(site: Site, folder: Path) -> str:
    """What is submitted for one worker, but for names that are drawn anew for each run.

    Args:
        site: The site.
        folder: Of the run's jobs.

    Returns:
        The submit description or script.
    """
    options = cluster_options(site, folder, "cre-RUN")
    logs = options["log_directory"]
    for key in ("scheduler_options", "silence_logs"):
        del options[key]
    certificate = tls.Certificate(folder / "cre-run.crt", folder / "cre-run.key")
    security = certificate.security(base_names=site.files == "transfer")
    with tempfile.TemporaryDirectory() as scratch:  # the job makes its log folder at once
        job = _job_class(site, security, [])(
            "tls://SCHEDULER:PORT", **options | {"log_directory": scratch}
        )
        text: str = job.job_script()
    return text.replace(scratch, logs)


@contextlib.contextmanager
def open_pool(
    site: Site, jobs: int, folder: Path
) -> Iterator[tuple[Client, Callable[[], list[str]]]]:
    """Submit workers as jobs and hold their number until the end.

    Args:
        site: The site.
        jobs: How many.
        folder: For the setup script, the keys and the logs.

    Yields:
        The client and :meth:`Pool.watch`.

    Raises:
        SiteError: If a file of the site file does not exist.
        ClusterError: If the batch system's commands do not exist.
    """
    site.check_files()
    tools = ("squeue", "scancel") if site.scheduler == "slurm" else ("condor_q", "condor_rm")
    for tool in (site.submit_command[0], *tools):
        if shutil.which(tool) is None:
            msg = (
                f"there is no command {tool!r} on this machine; log in to a submit host of the site"
            )
            raise ClusterError(msg)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(site, folder)
    run = f"cre-{uuid.uuid4().hex[:12]}"
    (folder / SETUP).write_text(setup_script(site), "utf-8")
    state = {
        "run": run,
        "scheduler": site.scheduler,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    (folder / _POOL).write_text(json.dumps(state), "utf-8")
    certificate = tls.make(folder)
    errors: list[str] = []
    worker_security = certificate.security(base_names=site.files == "transfer")
    maker: Any = SLURMCluster if site.scheduler == "slurm" else HTCondorCluster
    with dask.config.set(SETTINGS):
        try:
            cluster = maker(
                **cluster_options(site, folder, run),
                security=certificate.security(),
                job_cls=_job_class(site, worker_security, errors),
            )
        except (OSError, RuntimeError, ValueError) as err:
            msg = f"no scheduler can be started here ({err}); look at 'dask' in the site file"
            raise ClusterError(msg) from err
    try:
        with cluster, Client(cluster, set_as_default=False) as client:
            # with scale() nobody would replace workers that reached their lifetime
            cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="2s")
            logs = site.log_folder or folder / "logs"
            pool = Pool(cluster, site, jobs, run, errors, logs)
            pool.start()
            try:
                yield client, pool.watch
            finally:
                pool.stop()
    finally:
        certificate.remove()
        (folder / _POOL).unlink(missing_ok=True)


def _remove_leftovers(site: Site, folder: Path) -> None:
    """Remove the jobs of a run in this folder whose client was killed: nobody else would."""
    try:
        old = json.loads((folder / _POOL).read_text("utf-8"))
    except (OSError, ValueError):
        return
    if old.get("host") != socket.gethostname() or old.get("scheduler") != site.scheduler:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(old["pid"]), 0)
        msg = f"process {old['pid']} still runs with workers of {folder}; wait for it or stop it (if it is another program by now, delete {folder / _POOL})"
        raise ClusterError(msg)
    command = (
        ["scancel", f"--name={old['run']}"]
        if site.scheduler == "slurm"
        else ["condor_rm", "-constraint", f'CreRun == "{old["run"]}"']
    )
    with contextlib.suppress(QueueError):  # nothing left of it
        call(command, site.queue.timeout_s)
