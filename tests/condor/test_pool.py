"""Dask workers as jobs of a real HTCondorCluster over the stand-in for HTCondor (not HTCondor)."""

import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from cryptography import x509
from dask.config import collect_env
from distributed import Client

from condor import clusters, tls
from condor import pool as workers
from condor.clusters import open_cluster
from condor.jobscript import setup_script
from condor.site import Site, SiteError, read_site
from processors.daskrun import SETTINGS
from processors.exceptions import ClusterError


def site_of(project: Path, **changes: Any) -> Site:
    return read_site(project / "site.yaml", **changes)


def wait_for(seconds: float, condition: Any) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_workers_come_over_tls_and_are_replaced(project: Path, pool: Any) -> None:
    def where() -> dict[str, Any]:
        """What a worker sees."""
        return {
            "pid": os.getpid(),
            "folder": str(Path.cwd()),
            "files": sorted(p.name for p in Path.cwd().iterdir()),
            "trim": os.environ.get("MALLOC_TRIM_THRESHOLD_"),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }

    site = site_of(project)
    with open_cluster("htcondor", site, 1, project / "run") as (client, watch):
        key = project / "run/dask/cre-run.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        client.wait_for_workers(1, timeout=120)
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        [(address, info)] = client.scheduler_info(n_workers=-1)["workers"].items()
        assert address.startswith("tls://")
        assert info["nthreads"] == 1
        # of 2000 MiB asked for, 500 are headroom; Dask rounds to hundredths of a GiB
        assert 0.99 < info["memory_limit"] / (1500 * 2**20) <= 1
        [seen] = client.run(where).values()
        assert (seen["trim"], seen["threads"]) == ("65536", "1")
        # what was transferred, and nothing of the project's folder
        assert {"cre-run.crt", "cre-run.key", "setup.sh"} <= set(seen["files"])
        assert "card.yaml" not in seen["files"]
        # no client without the certificate
        with pytest.raises((OSError, TypeError)):
            Client(client.scheduler.address, timeout="3s")
        assert watch() == []
        [job] = pool.jobs()
        assert job["description"]["requestmemory"] == "2000"
        assert "--lifetime 3060s --lifetime-stagger 180s" in job["text"]

        # removed by somebody, in the middle: another one comes
        name = f"{job['ClusterId']}.{job['ProcId']}"
        subprocess.run([pool.folder / "condor_rm", name], check=True)  # noqa: S603
        wait_for(60, lambda: any(j["ClusterId"] != job["ClusterId"] for j in pool.jobs()))
        wait_for(60, lambda: client.scheduler_info(n_workers=-1)["workers"])
        assert client.submit(lambda x: x + 1, 41).result(timeout=60) == 42
    assert pool.jobs() == []
    assert not key.exists()


def test_a_run_on_workers_gives_the_histograms_of_one_process(
    project: Path,
    pool: Any,
    cre: Callable[..., tuple[int, str, str]],
    same: Callable[[Path, Path], None],
) -> None:
    assert cre("run", project / "card.yaml")[0] == 0
    arguments = ("--cluster", "htcondor", "--site", project / "site.yaml", "--jobs", 2)
    code, out, err = cre("run", project / "card.yaml", *arguments, "-o", project / "dask")
    assert code == 0, err
    assert "livetime 2000.0 s" in out
    assert pool.jobs() == []
    same(project / "run/histograms.json.gz", project / "dask/histograms.json.gz")


def test_held_workers_stop_the_run_with_the_reason(project: Path, pool: Any) -> None:
    pool.fault(hold=[13, 2, "reading from file /x: No such file or directory"])
    with open_cluster("htcondor", site_of(project), 2, project / "run") as (_, watch):
        with pytest.raises(ClusterError, match="every job is held: 2 jobs are held") as caught:
            wait_for(60, lambda: watch() is None)
        assert "code 13: reading from file /x" in str(caught.value)
        assert "a file of the job is missing or unreadable" in str(caught.value)


@pytest.mark.usefixtures("pool")
def test_workers_that_end_at_once_are_told_with_their_last_words(project: Path) -> None:
    site = site_of(project, prologue=["echo this host has no python >&2", "exit 3"])
    with open_cluster("htcondor", site, 1, project / "run") as (_, watch):
        with pytest.raises(ClusterError, match="ended without reaching the scheduler") as caught:
            wait_for(90, lambda: watch() is None)
        assert "its last words: this host has no python" in str(caught.value)
        assert "cre condor submit" in str(caught.value)


def test_waiting_workers_are_told(project: Path, pool: Any) -> None:
    pool.fault(idle=True)
    site = site_of(project, queue={"poll_s": 0.3, "idle_limit_s": 1.0})
    with open_cluster("htcondor", site, 2, project / "run") as (_, watch):
        wait_for(60, watch)
        [sentence] = watch()
    assert sentence.startswith("2 jobs wait for more than 1 s, for example ")
    assert "'condor_q -better-analyze " in sentence


def test_a_submit_command_that_fails(project: Path, pool: Any) -> None:
    pool.fault(refuse="no schedd")
    with (
        open_cluster("htcondor", site_of(project), 1, project / "run") as (_, watch),
        pytest.raises(ClusterError, match=r"no worker can be submitted: .*no schedd"),
    ):
        wait_for(90, lambda: watch() is None)


def test_a_killed_client_leaves_no_jobs(project: Path, pool: Any) -> None:
    """Its jobs are removed by the next run in the same folder."""
    pool.fault(idle=True)
    code = (
        "import os, time\nfrom pathlib import Path\n"
        "from condor.clusters import open_cluster\nfrom condor.site import read_site\n"
        f"with open_cluster('htcondor', read_site({str(project / 'site.yaml')!r}), 1, "
        f"Path({str(project / 'run')!r})):\n    time.sleep(600)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", code])  # noqa: S603
    try:
        wait_for(60, pool.jobs)
        with (
            pytest.raises(ClusterError, match=f"process {client.pid} still runs"),
            open_cluster("htcondor", site_of(project), 1, project / "run"),
        ):
            pass
    finally:
        client.kill()
        client.wait()
    [old] = pool.jobs()
    with open_cluster("htcondor", site_of(project), 1, project / "run"):
        assert old["ClusterId"] not in {j["ClusterId"] for j in pool.jobs()}


def test_wrong_calls(project: Path, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 1.0)

    def opened(kind: str, site: Site | None) -> None:
        with open_cluster(kind, site, 1, project / "run"):
            pass

    with pytest.raises(ClusterError, match="'htcodnor' is no cluster"):
        opened("htcodnor", None)
    with pytest.raises(SiteError, match="need a site file"):
        opened("htcondor", None)
    with pytest.raises(SiteError, match="is for hep_sub, not for htcondor; workers are not"):
        opened("htcondor", read_site("ihep"))
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        opened("tcp://127.0.0.1:1", None)
    (pool.folder / "condor_rm").unlink()
    with pytest.raises(ClusterError, match="no command 'condor_rm'"):
        opened("htcondor", site_of(project))
    with pytest.raises(SiteError, match=r"x509_proxy: /no/proxy does not exist"):
        opened("htcondor", site_of(project, x509_proxy="/no/proxy"))


def test_the_certificate(tmp_path: Path) -> None:
    made = tls.make(tmp_path / "keys")
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(made.cert.read_bytes())
    assert 89 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 91
    names = made.security(base_names=True).get_tls_config_for_role("worker")
    assert names == {
        "ca_file": "cre-run.crt",
        "cert": "cre-run.crt",
        "key": "cre-run.key",
        "ciphers": None,
    }
    context = ssl.create_default_context(cafile=str(made.cert))
    context.load_cert_chain(made.cert, made.key)
    made.remove()
    assert not list((tmp_path / "keys").iterdir())


def test_slurm_script_of_a_worker(tmp_path: Path) -> None:
    content = yaml.safe_load(Path("condor/sites/slurm.yaml").read_text())
    content |= {"directives": {"partition": "shared-cpu"}, "walltime_s": 7230, "python": "/opt/py"}
    text = workers.worker_description(Site.model_validate(content), tmp_path)
    for line in (
        "#SBATCH --mem=2500M",
        "#SBATCH -t 120:30",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --partition=shared-cpu",
        f"#SBATCH -e {tmp_path}/logs/cre-RUN-%J.err",
    ):
        assert line in text.splitlines()
    assert f"set -e\n. {tmp_path}/setup.sh\n/opt/py -m distributed.cli.dask_worker tls://" in text
    assert "--memory-limit 1.95GiB" in text  # 2500 - 500 MiB
    assert f"--tls-key {tmp_path}/cre-run.key" in text
    assert "--dashboard-address 127.0.0.1:0" in text
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("walltime", [60, 600, 7200, 10**6])
def test_workers_stop_before_the_site_ends_them(walltime: float) -> None:
    lifetime, stagger = workers.lifetime_s(walltime)
    assert 0.8 * walltime <= lifetime - stagger < lifetime + stagger <= 0.9 * walltime
    assert json.dumps(stagger)


def test_the_script_of_a_job_hands_on_the_settings_of_dask() -> None:
    """A worker of a batch system does not get the client's configuration."""
    text = setup_script(read_site("generic"))
    script = text + "\nexec env"
    lines = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    there = collect_env(dict(line.partition("=")[::2] for line in lines))
    for key, value in SETTINGS.items():
        assert dask.config.get(key, config=there) == value
