"""From a word or an address to Dask workers, and what the batch system says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from distributed import Client

from condor.site import Site, SiteError
from processors.daskrun import local_client
from processors.exceptions import ClusterError

__all__ = ["BATCH", "KINDS", "Watch", "open_cluster"]

#: Words for where workers run; anything else is the address of a running scheduler.
BATCH = ("htcondor", "slurm")
KINDS = ("local", *BATCH)
#: Time that a running scheduler has to answer, s.
CONNECT_S = 20.0
#: Gives sentences on jobs that do not run; raises ClusterError when no worker can come any more.
Watch = Callable[[], list[str]]


@contextlib.contextmanager
def open_cluster(
    kind: str, site: Site | None, jobs: int, folder: Path
) -> Iterator[tuple[Client, Watch]]:
    """Start workers, or connect to them.

    Args:
        kind: One of :data:`KINDS`, or an address, ``tcp://…`` or ``tls://…``.
        site: For batch systems.
        jobs: Workers; each is one process, on a batch system one job.
        folder: Of the run; keys, scripts and logs of the jobs lie in ``folder/dask``.

    Yields:
        The client, and a function to call while waiting: it gives sentences on jobs that are held, wait or
        vanished, and raises :class:`ClusterError` when there is no worker and none can come.

    Raises:
        SiteError: If the site file does not fit.
        ClusterError: If the batch system or the scheduler cannot be reached.
    """
    if kind == "local":
        with local_client(jobs) as client:
            yield client, list
    elif kind.startswith(("tcp://", "tls://")):
        with _connected(kind) as client:
            yield client, list
    elif kind in KINDS:
        if site is None:
            msg = f"workers on {kind} need a site file: --site FILE (shipped: 'cre condor sites')"
            raise SiteError(msg)
        if site.scheduler != kind:
            msg = f"site {site.name!r} is for {site.scheduler}, not for {kind}"
            if site.scheduler == "hep_sub":
                msg += "; workers are not possible there, plain shards are: 'cre condor submit'"
            raise SiteError(msg)
        try:
            from condor import pool  # noqa: PLC0415 - needs the extra 'batch'
        except ImportError as err:
            msg = f"workers as batch jobs need the extra 'batch' of this program ({err.name} is missing)"
            raise ClusterError(msg) from err
        with pool.open_pool(site, jobs, folder / "dask") as (client, watch):
            yield client, watch
    else:
        msg = f"{kind!r} is no cluster; take one of {', '.join(KINDS)}, or an address tcp://… or tls://…"
        raise ClusterError(msg)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as err:
        msg = f"no scheduler answers at {address} ({err})"
        if address.startswith("tls://"):
            msg += "; the certificates are those of Dask's configuration, 'distributed.comm.tls'"
        raise ClusterError(msg) from err
    with client:
        yield client
