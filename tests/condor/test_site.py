"""Site files: what no batch system refuses is refused here."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from condor.site import SiteError, read_site, shipped_sites

GOOD = {
    "name": "here",
    "scheduler": "htcondor",
    "memory_mb": 2000,
    "walltime_s": 3600,
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


def test_shipped_sites() -> None:
    assert shipped_sites() == ["cern", "cnaf", "generic", "ihep", "slurm"]
    schedulers = {name: read_site(name).scheduler for name in shipped_sites()}
    assert schedulers == {
        "cern": "htcondor",
        "cnaf": "htcondor",
        "generic": "htcondor",
        "ihep": "hep_sub",
        "slurm": "slurm",
    }
    cern = read_site("cern")
    assert cern.directives["MY.JobFlavour"] == '"longlunch"'
    assert cern.dask.worker_ports == "10000:10100"
    assert cern.worker_mb == 1600


def test_paths_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path / "grid"))
    path = write(
        tmp_path,
        environment="env.tar.gz",
        x509_proxy="$WHERE/proxy",
        transfer_input_files=["a.txt", "osdf:///b.txt"],
    )
    site = read_site(path)
    assert site.environment == tmp_path / "env.tar.gz"
    assert site.x509_proxy == tmp_path / "grid/proxy"
    assert site.transfer_input_files == (str(tmp_path / "a.txt"), "osdf:///b.txt")
    with pytest.raises(SiteError) as caught:
        site.check_files()
    text = str(caught.value)
    assert f"environment: {tmp_path / 'env.tar.gz'} does not exist" in text
    assert f"x509_proxy: {tmp_path / 'grid/proxy'} does not exist" in text
    assert f"transfer_input_files: {tmp_path / 'a.txt'} does not exist" in text
    assert "osdf" not in text
    (tmp_path / "grid").mkdir()
    for name in ("env.tar.gz", "a.txt", "grid/proxy"):
        (tmp_path / name).touch()
    site.check_files()
    (tmp_path / "grid/a.txt").touch()
    with pytest.raises(SiteError, match=r"two files are called 'a\.txt'"):
        read_site(write(tmp_path, transfer_input_files=["a.txt", "grid/a.txt"])).check_files()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"memroy_mb": 1}, "memroy_mb: no such key"),
        ({"memory_mb": "lots"}, "memory_mb: Input should be a valid integer"),
        ({"memory_mb": 1000}, "leaves 500 MiB; a worker needs 600"),
        ({"walltime_s": 5}, "walltime_s: "),
        ({"scheduler": "pbs"}, "scheduler: "),
        ({"scheduler": "slurm", "files": "transfer"}, "files: transfer needs HTCondor"),
        ({"scheduler": "slurm", "container_image": "x.sif"}, "container_image needs HTCondor"),
        ({"directives": {"request_memroy": 1}}, "did you mean 'request_memory'"),
        ({"directives": {"request_gpus": "two"}}, "must be a number, not 'two'"),
        ({"directives": {"request_memory": 4000}}, "set 'memory_mb'"),
        ({"directives": {"RequestMemory": 4000}}, "set 'memory_mb'"),
        ({"directives": {"Executable": "/bin/ls"}}, "is written by the program"),
        ({"directives": {"+JobFlavour": "longlunch"}}, "a word must be quoted"),
        ({"directives": {"a": "b\nqueue 1000"}}, "has a line break"),
        ({"prologue": ["a\nb"]}, "several lines"),
        ({"python": "py'thon"}, "python: "),
        ({"dask": {"interface": "ib0", "host": "x"}}, "not both"),
        ({"dask": {"worker_ports": "all"}}, "worker_ports"),
        ({"scheduler": "slurm", "directives": {"mem": "1G"}}, "set 'memory_mb'"),
        ({"scheduler": "hep_sub", "directives": {"-mem": 1}}, "set 'memory_mb'"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SiteError) as caught:
        read_site(write(tmp_path, **change))
    assert complaint in str(caught.value)
    assert "site.yaml" in str(caught.value)


def test_what_is_let_through(tmp_path: Path) -> None:
    directives = {
        "+JobFlavour": '"longlunch"',
        "MY.WantGPU": True,
        "+MaxRuntime": 3600,
        "+Rank": "(Mips)",
        "request_gpus": 1,
        "requirements": '(OpSysAndVer == "AlmaLinux9")',
    }
    assert read_site(write(tmp_path, directives=directives)).directives == directives


def test_files_that_are_no_site_file(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"site file 'nowhere' cannot be read .*: cern, cnaf"):
        read_site("nowhere")
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(SiteError, match="is no table"):
        read_site(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(SiteError, match="is no YAML"):
        read_site(tmp_path / "a.yaml")
