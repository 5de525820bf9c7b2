"""Groups of files, texts that are submitted, and jobs of Slurm and hep_sub through stand-ins."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from condor.records import cut
from processors.manifest import FileEntry

Cre = Callable[..., tuple[int, str, str]]


def entry(path: str, entries: int) -> FileEntry:
    return FileEntry.model_construct(path=path, entries=entries, uuid=path)


def paths(groups: list[tuple[FileEntry, ...]]) -> list[list[str]]:
    return [[f.path for f in group] for group in groups]


def test_groups_are_whole_files_in_order() -> None:
    files = [
        entry(f"/d/{name}", n) for name, n in zip("abcdef", [10, 20, 5, 40, 0, 25], strict=True)
    ]
    assert paths(cut(files, events=30)) == [["/d/a", "/d/b"], ["/d/c"], ["/d/d"], ["/d/e", "/d/f"]]
    assert paths(cut(files, shards=2)) == [["/d/a", "/d/b", "/d/c"], ["/d/d", "/d/e", "/d/f"]]
    assert paths(cut(files, shards=1)) == [[f.path for f in files]]
    assert paths(cut(files, shards=100)) == [[f.path] for f in files]
    for n in range(1, 9):
        groups = cut(files, shards=n)
        assert 1 <= len(groups) <= n
        assert [p for group in paths(groups) for p in group] == [f.path for f in files]
        assert all(groups)


def test_no_two_files_of_a_job_have_one_name() -> None:
    files = [entry(p, 10) for p in ("/1/a", "/1/b", "/2/a", "/2/c", "root://x/a", "root://y/a")]
    assert paths(cut(files, shards=1, unique_names=True)) == [
        ["/1/a", "/1/b"],
        ["/2/a", "/2/c", "root://x/a", "root://y/a"],
    ]


def scripts(project: Path, cre: Cre, **changes: Any) -> str:
    site = yaml.safe_load((project / "site.yaml").read_text()) | changes
    (project / "site.yaml").write_text(yaml.safe_dump(site))
    code, out, err = cre(
        *("condor", "script", project / "card.yaml", "--site", project / "site.yaml"),
        *("--shards", 2, "-o", project / "batch"),
    )
    assert code == 0, err
    return out


def test_submit_description_of_htcondor(project: Path, cre: Cre) -> None:
    (project / "env.tar.gz").touch()
    out = scripts(
        project,
        cre,
        environment="env.tar.gz",
        container_image="docker://python:3.11",
        accounting_group="group_dampe",
        directives={"+JobFlavour": '"longlunch"'},
        prologue=["source /cvmfs/setup.sh"],
    )
    text = out[out.index("executable = ") : out.index("# ---- a Dask worker")]
    folder = project / "batch"
    for line in (
        f"executable = {folder}/wrapper.sh",
        f"arguments = \"$(cre_shard) '{sys.executable}'\"",
        "should_transfer_files = YES",
        "transfer_output_files = $(cre_shard).part",
        "request_cpus = 1",
        "request_memory = 2000",
        "request_disk = 1024000",
        "container_image = docker://python:3.11",
        "accounting_group = group_dampe",
        '+JobFlavour = "longlunch"',
        "queue cre_shard, cre_number, cre_inputs from (",
    ):
        assert line in text.splitlines(), line
    inputs = [line for line in text.splitlines() if line.startswith("transfer_input_files")]
    assert inputs[0].split(" = ")[1].split(", ") == [
        f"{folder}/submission.json",
        f"{folder}/setup.sh",
        f"{project}/env.tar.gz",
        "$(cre_inputs)",
    ]
    ntuples = [f"{project}/DmlNtup_synthetic_data_{n}.root" for n in (1, 2)]
    rows = text[text.index("from (\n") + 7 : text.index("\n)\n")].splitlines()
    assert rows[0] == f"00000 0 {folder}/shards/00000.json, {ntuples[0]}, {ntuples[1]}"
    assert len(rows) == 2
    assert rows[1].startswith("00001 1 ")
    setup = out[: out.index("# ----", 10)]
    assert setup.index("set +u\nsource /cvmfs/setup.sh\n") < setup.index("-m tarfile -e env.tar.gz")
    worker = out[out.index("# ---- a Dask worker") :]
    for line in ("RequestMemory = 2000", "RequestDisk = 1024000", '+JobFlavour = "longlunch"'):
        assert line in worker.splitlines()
    assert "set -e; . ./setup.sh;" in worker
    assert f"{folder}/dask/cre-run.key" in worker  # travels with the job ...
    assert "--tls-key cre-run.key" in worker  # ... and is named as it lies there


def test_a_shared_file_system_transfers_no_ntuple(project: Path, cre: Cre) -> None:
    out = scripts(project, cre, files="shared")
    [inputs] = [
        s for s in out.splitlines() if s.startswith("transfer_input_files")
    ]  # of the shards
    assert ".root" not in inputs + out[out.index("from (") : out.index("\n)\n")]
    assert f". {project}/batch/dask/setup.sh;" in out


def test_paths_that_a_list_of_files_cannot_hold(project: Path, cre: Cre) -> None:
    (project / "a,b").touch()
    site = yaml.safe_load((project / "site.yaml").read_text())
    (project / "site.yaml").write_text(yaml.safe_dump(site | {"transfer_input_files": ["a,b"]}))
    code, _, err = cre(
        *("condor", "submit", project / "card.yaml", "--site", project / "site.yaml"),
        *("-o", project / "batch", "--dry-run"),
    )
    assert code == 1
    assert "HTCondor cannot transfer a file with a comma or a quote in its path" in err


def batch_of(
    project: Path, cre: Cre, tools: dict[str, str], monkeypatch: Any, **changes: Any
) -> str:
    site = yaml.safe_load((project / "site.yaml").read_text())
    site = {k: v for k, v in site.items() if k != "dask"} | {"files": "shared"} | changes
    (project / "site.yaml").write_text(yaml.safe_dump(site))
    folder = project / "bin2"
    folder.mkdir()
    for name, script in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    code, out, err = cre(
        *("condor", "submit", project / "card.yaml", "--site", project / "site.yaml"),
        *("-o", project / "batch", "--shards", 3),
    )
    assert code == 0, err
    return out


def test_slurm_arrays(project: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arrays for three shards; one job is run by hand as Slurm would."""
    number = f"n=$(cat {project}/n 2>/dev/null || echo 40); n=$((n+1)); echo $n > {project}/n"
    tools = {
        "sbatch": f'{number}; cp "$1" {project}/script-$n; echo "Submitted batch job $n"',
        "squeue": "echo '41_1|PENDING|2025-01-01T00:00:00|N/A|JobHeldUser'",
        "sacct": "echo '42_1|OUT_OF_MEMORY'",
        "scancel": f'echo "$@" > {project}/cancelled',
    }
    out = batch_of(
        *(project, cre, tools, monkeypatch),
        scheduler="slurm",
        array_limit=2,
        directives={"partition": "cpu"},
    )
    assert "(jobs 41, 42)" in out
    script = (project / "script-41").read_text()
    for line in (
        "#SBATCH --array=1-2",
        "#SBATCH --mem=2000M",
        "#SBATCH --time=60:00",
        "#SBATCH --partition=cpu",
        f"#SBATCH --job-name={json.loads((project / 'batch/submission.json').read_text())['id']}",
    ):
        assert line in script.splitlines()
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", str(project / "script-41")],
        env={"SLURM_ARRAY_TASK_ID": "2", "PATH": "/usr/bin:/bin", "TMPDIR": str(project)},
        check=False,
    )
    assert done.returncode == 0
    assert not list(project.glob("cre-shard-*"))  # no scratch is left behind
    code, out, _ = cre("status", project / "batch", "--json")
    assert code == 2
    shards = json.loads(out)["shards"]
    assert [s["state"] for s in shards] == ["held", "done", "lost"]
    assert "scontrol release" in shards[0]["text"]
    assert shards[2]["text"].startswith("OUT_OF_MEMORY; it left the queue without a part")
    code, out, err = cre("resubmit", project / "batch", "--memory-mb", 3000)
    assert code == 0, err
    assert "2 of 3 shards: 0 (held), 2 (lost)" in out
    assert (project / "cancelled").read_text() == "41_1\n"
    assert "#SBATCH --mem=3000M" in (project / "script-43").read_text()


def test_hep_sub(project: Path, cre: Cre, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {
        "hep_sub": f'for a in "$@"; do printf "%s\\n" "$a"; done > {project}/call; '
        'echo "3 job(s) submitted to cluster 99."'
    }
    out = batch_of(
        *(project, cre, tools, monkeypatch),
        scheduler="hep_sub",
        accounting_group="dampe",
        directives={"-wt": "mid"},
    )
    assert "(jobs 99)" in out
    call = (project / "call").read_text().splitlines()
    assert call[:6] == ["-mem", "2000", "-n", "3", "-argu", "%{ProcId}"]
    assert call[call.index("-g") + 1] == "dampe"
    assert call[call.index("-wt") + 1] == "mid"
    script = Path(call[-1])
    assert script.stat().st_mode & 0o100
    assert script.with_suffix(".list").read_text().split() == ["00000", "00001", "00002"]
    code, out, _ = cre("status", project / "batch")
    assert code == 2
    assert "hep_q -u" in out
    code, _, err = cre("resubmit", project / "batch")
    assert code == 1
    assert "--lost submits every shard without a part" in err
    assert "3 of 3 shards: 0 (unknown)" in cre("resubmit", project / "batch", "--lost")[1]
