"""Dask workers that fail in every way: what is lost is named, the rest is kept, nothing hangs."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dask
import faults
import numpy as np
import pytest
from distributed import Client, LocalCluster
from faults import Fault

from processors import daskrun
from processors import run as r
from processors.chain import make_cut
from processors.daskrun import SETTINGS, DaskOptions, local_client
from processors.exceptions import ClusterError, CodeMismatchError
from processors.manifest import FileEntry, build
from processors.processor import RunConfig
from processors.spectrum import ELECTRON_2017, PROTON_2026

MakeNtuple = Callable[..., Path]
PATIENT = DaskOptions(retries=1, poll_s=0.2)


@pytest.fixture
def files(make_ntuple: MakeNtuple) -> list[FileEntry]:
    return build([str(make_ntuple("data", n=60, seed=s, run=s)) for s in range(1, 7)]).files


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        cuts=(make_cut("saa"), make_cut("trigger"), make_cut("region")),
        regions=("fiducial",),
        score="zeta",
        target={"electron": ELECTRON_2017.to_dict(), "proton": PROTON_2026.to_dict()},
    )


def strikes(tmp_path: Path) -> Path:
    folder = tmp_path / "strikes"
    folder.mkdir()
    return folder


def run(
    client: Client, files: list[FileEntry], config: RunConfig, options: DaskOptions = PATIENT
) -> r.RunResult:
    return r.execute(r.plan(files, 10**6), config, client=client, options=options)


def kept(result: r.RunResult, files: list[FileEntry], config: RunConfig, lost: int) -> None:
    """The histograms are those of all files but one, which is named."""
    assert list(result.missing) == [f"{files[lost].path} [0:60]"]
    assert result.incomplete_files == (files[lost].path,)
    others = [f for i, f in enumerate(files) if i != lost]
    alone = r.execute(r.plan(others, 10**6), config).output
    assert result.output["chunks"] == alone["chunks"]
    for name, h in alone["hists"].items():
        np.testing.assert_array_equal(result.output["hists"][name].values(), h.values())


def test_a_chunk_that_always_raises_is_named(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    folder = strikes(tmp_path)
    with local_client(2) as client:
        client.register_plugin(Fault(files[2].path, "raise", folder))
        result = run(client, files, config)
    kept(result, files, config, 2)
    assert list(result.missing.values()) == ["OSError: struck"]
    assert len(list(folder.iterdir())) == 4  # two passes, each with one more try


def test_a_chunk_that_raises_now_and_then_is_healed(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    with local_client(2) as client:
        client.register_plugin(Fault(files[2].path, "raise", strikes(tmp_path), times=3))
        result = run(client, files, config)
    assert not result.missing
    assert result.output["events"] == {"data": 360}


def test_a_chunk_that_kills_every_worker_is_named_and_alone_in_that(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    with local_client(2) as client:
        client.register_plugin(Fault(files[2].path, "kill", strikes(tmp_path)))
        result = run(client, files, config)
    kept(result, files, config, 2)
    assert "KilledWorker" in next(iter(result.missing.values()))


def test_a_worker_that_is_killed_once_costs_nothing(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    with local_client(2) as client:
        client.register_plugin(Fault(files[2].path, "kill", strikes(tmp_path), times=1))
        result = run(client, files, config)
    assert not result.missing
    assert result.output["events"] == {"data": 360}


def test_a_chunk_that_hangs_is_given_up_and_its_worker_restarted(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    options = dataclasses.replace(PATIENT, stall_s=6.0)
    with local_client(2) as client:
        client.register_plugin(Fault(files[2].path, "hang", strikes(tmp_path)))
        result = run(client, files, config, options)
    kept(result, files, config, 2)
    assert "no chunk finished for 6 s although there are workers" in next(
        iter(result.missing.values())
    )


def test_a_hung_worker_without_a_nanny_is_ended(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    options = dataclasses.replace(PATIENT, stall_s=6.0)
    paths = [str(Path(faults.__file__).parent), str(Path(daskrun.__file__).parents[1])]
    with (
        LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        command += ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
        workers = [
            subprocess.Popen(  # noqa: S603
                command,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        try:
            client.wait_for_workers(2, timeout=120)
            client.register_plugin(Fault(files[2].path, "hang", strikes(tmp_path), times=1))
            result = run(client, files, config, options)
            assert not result.missing
            assert sorted(w.poll() is None for w in workers) == [False, True]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def test_without_any_worker_left_the_run_ends_with_what_it_has(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    options = DaskOptions(no_worker_s=2.0, poll_s=0.2, watch=lambda: ["job 7 is held: no disk"])
    told: list[int] = []
    with local_client(1) as client:
        client.register_plugin(Fault(files[5].path, "hang", strikes(tmp_path)))

        def lose(done: int) -> None:
            told.append(done)
            if len(told) == 3:
                client.cluster.sync(client.cluster.workers[0].close)

        items = r.plan(files, 10**6)
        result = r.execute(items, config, client=client, options=options, progress=lose)
    assert 3 <= len(result.processed) <= 5
    assert len(result.processed) + len(result.missing) == 6
    assert "no worker for 2 s: job 7 is held: no disk" in next(iter(result.missing.values()))
    assert result.output["events"] == {"data": 60 * len(result.processed)}


def test_no_worker_at_all_is_an_error_with_what_the_batch_system_says(
    files: list[FileEntry], config: RunConfig
) -> None:
    told: list[str] = []
    options = DaskOptions(
        no_worker_s=1.0, poll_s=0.2, watch=lambda: ["2 jobs are idle"], tell=told.append
    )
    with local_client(1) as client:
        client.retire_workers(close_workers=True)
        with pytest.raises(ClusterError, match="no worker for 1 s: 2 jobs are idle"):
            run(client, files, config, options)
    assert told == ["2 jobs are idle"]


def test_workers_with_other_code_are_refused_before_the_first_chunk(
    files: list[FileEntry], config: RunConfig, tmp_path: Path
) -> None:
    folder = strikes(tmp_path)
    with local_client(1) as client:
        client.register_plugin(Fault(files[0].path, "raise", folder))
        client.run(_other_numpy)
        with pytest.raises(CodeMismatchError, match=r"numpy 1\.0 there, .* here; install the same"):
            run(client, files, config)
    assert not list(folder.iterdir())


def test_a_worker_with_other_code_that_joins_late_is_refused_too(
    files: list[FileEntry], config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daskrun, "_check_code", lambda _client: None)
    with local_client(1) as client:
        client.run(_other_numpy)
        with pytest.raises(CodeMismatchError, match=r"a worker has other code .* 1\.0 here"):
            run(client, files, config)


def _other_numpy() -> None:
    from processors import identity  # noqa: PLC0415 - in the process of the worker

    identity.PACKAGES = ()  # type: ignore[assignment]
    identity.code_identity.cache_clear()
    known = identity.code_identity()
    known["numpy"] = "1.0"


def test_models_and_alias_files_travel_with_the_run(
    config: RunConfig, make_ntuple: MakeNtuple, tmp_path: Path
) -> None:
    shipped = Path(daskrun.__file__).parent / "aliases" / "dmlntup.yaml"
    aliases = tmp_path / "mine.yaml"
    aliases.write_text(shipped.read_text("utf-8"), "utf-8")
    files = build([str(make_ntuple("data", n=60, seed=1))], aliases=str(aliases)).files
    items = r.plan(files, 10**6)
    with local_client(1) as client:
        hidden = dict.fromkeys([str(aliases)], aliases.read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(daskrun.luggage, "collect", lambda *_: hidden)
            aliases.unlink()
            result = r.execute(items, config, client=client, options=PATIENT)
    assert result.output["events"] == {"data": 60}


def test_workers_are_set_up_for_chunks() -> None:
    """At Dask's defaults an idle worker uses 4 % of a core, and one above 80 % of its memory waits for ever."""
    with local_client(1) as client:
        (found,) = client.run(lambda: {k: dask.config.get(k) for k in SETTINGS}).values()
        (arenas,) = client.run(lambda: os.environ["MALLOC_ARENA_MAX"]).values()
    assert found == SETTINGS
    assert found["distributed.worker.profile.enabled"] is False
    assert found["distributed.worker.memory.pause"] is False
    assert arenas == "1"
