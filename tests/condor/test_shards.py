"""Plain shards through the stand-in for HTCondor (not HTCondor): equal results, and nothing lost in silence."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnxmodels import linear

from analysis.histfile import load
from condor.pack import make_wheel
from processors import partfile
from processors.exceptions import CodeMismatchError, CreError
from processors.identity import code_identity

ROOT = Path(__file__).parents[2]
Cre = Callable[..., tuple[int, str, str]]


def submit(cre: Cre, project: Path, *more: object, shards: int = 3) -> tuple[int, str, str]:
    return cre(
        *("condor", "submit", project / "card.yaml", "--site", project / "site.yaml"),
        *("-o", project / "batch", "--shards", shards, *more),
    )


def status(cre: Cre, project: Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = cre("status", project / "batch", "--json")
    return code, json.loads(out)


def states(cre: Cre, project: Path) -> list[str]:
    return [s["state"] for s in status(cre, project)[1]["shards"]]


def test_shards_give_the_histograms_of_one_process(
    project: Path, pool: Any, cre: Cre, same: Callable[[Path, Path], None]
) -> None:
    assert cre("run", project / "card.yaml")[0] == 0
    code, out, err = submit(cre, project)
    assert code == 0, err
    assert "submitted 3 shards, 1410 events" in out
    pool.wait()
    code, content = status(cre, project)
    assert code == 0, content
    assert content["counts"] == {"done": 3}
    code, out, err = cre("merge", project / "batch")
    assert code == 0, err
    assert "livetime 2000.0 s" in out
    same(project / "run/histograms.json.gz", project / "batch/histograms.json.gz")
    header, _ = partfile.read(project / "batch/parts/00000.part")
    assert header["shard"] == 0
    assert header["seconds"] > 0
    assert header["max_rss_mb"] > 50
    assert cre("merge", project / "batch")[0] == 1  # products are not overwritten
    assert cre("merge", project / "batch", "--overwrite")[0] == 0
    assert cre("resubmit", project / "batch")[1].strip().endswith("nothing to submit")
    code, _, err = submit(cre, project)
    assert code == 1
    assert "holds a submission" in err


def test_a_bare_worker_and_a_file_that_changed(
    project: Path, pool: Any, cre: Cre, make_ntuple: Callable[..., Path]
) -> None:
    """The program comes as a wheel; one shard reads a changed file, which is lost as a whole."""
    assert cre("run", project / "card.yaml")[0] == 0
    wheel = make_wheel(project / "packed")
    site = yaml.safe_load((project / "site.yaml").read_text())
    site |= {"wheel": str(wheel), "prologue": ['export PROLOGUE="it ran"', 'echo "$PROLOGUE" >&2']}
    (project / "site.yaml").write_text(yaml.safe_dump(site))
    pool.fault(idle=True)
    assert submit(cre, project, shards=2)[0] == 0
    make_ntuple("data", n=400, seed=1, change=lambda b: b["tt_F3"].__imul__(1.001))
    pool.fault()
    for job in pool.jobs():
        pool.forget(job)
    code, out, err = cre("resubmit", project / "batch")
    assert code == 0, err
    assert "2 of 2 shards: 0 (lost), 1 (lost)" in out
    pool.wait()
    assert sorted(p.read_text() for p in pool.folder.glob("exit-*")) == ["0", "2"]
    assert "it ran" in (project / "batch/logs/00001.err").read_text()

    code, content = status(cre, project)
    assert code == 2
    assert [s["state"] for s in content["shards"]] == ["incomplete", "done"]
    changed = str(project / "DmlNtup_synthetic_data_1.root")
    text = content["shards"][0]["text"]
    assert text.startswith("2 of 4 chunks are missing, for example [0:200]: NtupleError: ")
    assert f"{changed}: not the file that the manifest describes" in text
    code, _, err = cre("merge", project / "batch")
    assert code == 2
    assert "1 of 2 shards are not complete" in err
    assert changed in err
    assert not (project / "batch/histograms.json.gz").exists()

    code, _, err = cre("merge", project / "batch", "--allow-missing")
    assert code == 2
    assert re.search(r"2 of \d+ chunks are missing", err)
    merged, whole = (load(project / f"{f}/histograms.json.gz") for f in ("batch", "run"))
    assert merged.meta["livetime_s"] == 1000.0
    assert whole.meta["livetime_s"] == 2000.0
    assert merged.meta["events"] == {"data": 300, "electron": 250, "proton": 460}
    assert not merged.meta["complete"]
    code, _, err = cre("flux", project / "batch/histograms.json.gz", "-o", project / "flux")
    assert code == 2
    # what is there is what one process gives for those files
    electrons = [h.hists["score"]["electron", ...].values(flow=True) for h in (merged, whole)]
    np.testing.assert_array_equal(*electrons)


def test_a_job_that_cannot_start_python_says_so(project: Path, pool: Any, cre: Cre) -> None:
    site = yaml.safe_load((project / "site.yaml").read_text())
    (project / "site.yaml").write_text(yaml.safe_dump(site | {"python": "/no/such/python"}))
    assert submit(cre, project, shards=1)[0] == 0
    pool.wait()
    code, content = status(cre, project)
    assert code == 2
    [shard] = content["shards"]
    assert shard["state"] == "failed"
    assert "/no/such/python: not found" in shard["text"]
    code, _, err = cre("merge", project / "batch")
    assert code == 2
    assert "shard 0: failed: " in err


HOLDS = [
    (13, 2, "reading from file /x/a.root", "a file of the job is missing"),
    (34, 102, "Job has gone over cgroup memory limit of 2000 megabytes", "--memory-mb"),
    (21, 102, "memory usage exceeded request_memory", "--memory-mb"),
    (26, 0, "The system macro SYSTEM_PERIODIC_HOLD: disk usage above 20 GB", "disk_mb"),
    (34, 104, "Job has gone over disk", "disk_mb"),
    (6, 2, "Failed to execute '/bin/sh'", "container_image"),
    (4, 0, "Proxy expired", "make a new one"),
    (12, 28, "Transfer output files failure: No space left on device", "is the folder full"),
    (14, 22, "Cannot access initial working directory /x", "files: transfer"),
    (1, 0, "via condor_hold (by user me)", "condor_release"),
    (46, 0, "The job exceeded allowed job duration of 1:00:00", "fewer events per shard"),
]


def test_a_held_shard_is_told_with_the_remedy(batch: Path, pool: Any, cre: Cre) -> None:
    for code, subcode, reason, cure in HOLDS:
        pool.change(
            1, JobStatus=5, HoldReason=reason, HoldReasonCode=code, HoldReasonSubCode=subcode
        )
        exit_code, out, err = cre("status", batch)
        assert exit_code == 2
        assert "3 of 3 shards are not done; 'cre resubmit'" in err
        [line] = [text for text in out.splitlines() if text.startswith("shard 1 ")]
        assert f"held: 1 job is held, for example {held_job(pool)}" in line
        assert f"(code {code}: {reason})" in line
        assert cure in line.split(" -> ")[1], (code, line)
    assert "1 held, 2 idle" in out


def held_job(pool: Any) -> str:
    [job] = [j for j in pool.jobs() if j["CreShard"] == 1]
    return f"{job['ClusterId']}.{job['ProcId']}"


def test_resubmit_takes_what_is_not_done(
    batch: Path, project: Path, pool: Any, cre: Cre, finish: Callable[..., None]
) -> None:
    """Shard 0 is done, shard 1 held, shard 2 waits: only shard 1 is submitted, with more memory."""
    finish(batch, 0)
    pool.change(1, JobStatus=5, HoldReason="memory", HoldReasonCode=34, HoldReasonSubCode=102)
    old = held_job(pool)
    assert states(cre, project) == ["done", "held", "idle"]
    code, out, _ = cre("resubmit", batch, "--dry-run")
    assert (code, out) == (0, "1 of 3 shards: 1 (held)\n")
    code, out, err = cre("resubmit", batch, "--memory-mb", "4000")
    assert code == 0, err
    new = held_job(pool)
    assert old != new
    assert {j["CreShard"]: j["description"]["request_memory"] for j in pool.jobs()} == {
        1: "4000",
        2: "2000",
    }
    assert states(cre, project) == ["done", "idle", "idle"]
    code, _, err = cre("status", batch)
    assert code == 2
    assert "wait for them" in err

    [job] = [j for j in pool.jobs() if j["CreShard"] == 2]
    pool.forget(job)  # removed by condor_rm: no part, no job
    (batch / "logs/00002.err").write_text("first\nlast words\n")
    assert states(cre, project) == ["done", "idle", "lost"]
    assert "left the queue without a part: first | last words" in cre("status", batch)[1]
    finish(batch, 1, 2)
    assert status(cre, project)[0] == 0
    assert cre("merge", batch)[0] == 0


def test_parts_that_must_not_be_merged(
    batch: Path, project: Path, cre: Cre, finish: Callable[..., None]
) -> None:
    finish(batch, 0, 1, 2)
    assert status(cre, project)[0] == 0
    path = batch / "parts/00001.part"
    good = path.read_bytes()

    path.write_bytes(good[:-20])
    assert states(cre, project) == ["done", "damaged", "done"]
    code, _, err = cre("merge", batch)
    assert code == 2
    assert "shard 1: part " in err
    assert "is damaged" in err

    path.unlink()
    assert states(cre, project) == ["done", "lost", "done"]
    assert "shard 1: no part came back" in cre("merge", batch)[2]

    # the part of another shard under this name
    path.write_bytes((batch / "parts/00000.part").read_bytes())
    assert states(cre, project) == ["done", "foreign", "done"]
    assert "belongs to another run: its shard differ" in cre("merge", batch)[2]

    path.write_bytes(good)
    header, content = partfile.read(path)
    for key, value in [
        ("code", header["code"] | {"processors": "0" * 64}),
        ("keys", header["keys"] | {"data": "0" * 64}),
        ("submission", "cre-other"),
    ]:
        partfile.write(path, header | {key: value}, content)
        assert states(cre, project) == ["done", "foreign", "done"]
        assert f"its {key} differ" in cre("merge", batch)[2]

    # a chunk twice: the content of shard 0 under the header of shard 1
    partfile.write(path, header, partfile.read(batch / "parts/00000.part")[1])
    code, _, err = cre("merge", batch)
    assert code == 2
    assert "is in the sum already" in err
    code, out, _ = cre("resubmit", batch, "--dry-run")
    assert (code, out.strip()) == (0, f"{batch}: nothing to submit")


def test_a_changed_card_or_program_is_not_merged(
    batch: Path, cre: Cre, finish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(batch, 0, 1, 2)
    card = yaml.safe_load((batch / "card.yaml").read_text())
    (batch / "card.yaml").write_text(yaml.safe_dump(card | {"max_nonfinite_fraction": 0.5}))
    code, _, err = cre("merge", batch)
    assert code == 1
    assert "is not the card that was submitted: max_nonfinite_fraction differ" in err
    (batch / "card.yaml").write_text(yaml.safe_dump(card))

    here = code_identity()
    other = here | {"numpy": "1.0"}
    monkeypatch.setattr("condor.merging.code_identity", lambda: other)
    monkeypatch.setattr("condor.merging.differences", lambda _theirs: ["numpy 2 there, 1.0 here"])
    code, _, err = cre("merge", batch)
    assert code == 1
    assert "ran with another program: numpy 2 there, 1.0 here" in err


def test_a_worker_with_other_code_refuses(batch: Path, finish: Callable[..., None]) -> None:
    path = batch / "submission.json"
    content = json.loads(path.read_text())
    content["code"]["uproot"] = "0.1"
    path.write_text(json.dumps(content))
    with pytest.raises(
        CodeMismatchError, match=r"another program than the submit host: uproot 0\.1"
    ):
        finish(batch, 0)
    content["code"] = code_identity()
    content["card"]["cuts"] = content["card"]["cuts"][:-1]
    path.write_text(json.dumps(content))
    with pytest.raises(CreError, match="not those that were submitted"):
        finish(batch, 0)


def test_a_queue_that_does_not_answer(
    batch: Path, project: Path, pool: Any, cre: Cre, finish: Callable[..., None]
) -> None:
    finish(batch, 0)
    content = json.loads((batch / "submission.json").read_text())
    content["site"]["queue"]["timeout_s"] = 0.5
    (batch / "submission.json").write_text(json.dumps(content))
    pool.fault(hang=30)
    code, found = status(cre, project)
    assert code == 2
    assert [s["state"] for s in found["shards"]] == ["done", "unknown", "unknown"]
    assert "did not answer within 0.5 s" in found["queue"]
    code, _, err = cre("resubmit", batch)
    assert code == 1
    assert "--lost" in err
    (pool.folder / "condor_q").unlink()
    assert "there is no command 'condor_q'" in status(cre, project)[1]["queue"]


def test_a_submit_command_that_fails(project: Path, pool: Any, cre: Cre) -> None:
    pool.fault(refuse="Can't find address of schedd")
    code, _, err = submit(cre, project)
    assert code == 1
    assert "Can't find address of schedd" in err
    assert states(cre, project) == ["waiting"] * 3
    pool.fault(idle=True)
    assert cre("resubmit", project / "batch")[0] == 0
    assert states(cre, project) == ["idle"] * 3
    pool.fault(lose=True)
    for job in pool.jobs():
        pool.forget(job)
    assert cre("resubmit", project / "batch")[0] == 0
    assert states(cre, project) == ["lost"] * 3


def test_dry_run_and_script_submit_nothing(project: Path, pool: Any, cre: Cre) -> None:
    code, out, err = submit(cre, project, "--dry-run")
    assert code == 0, err
    assert len(out[out.index("from (\n") + 7 : out.index("\n)\n")].splitlines()) == 3
    assert not (project / "batch").exists()
    assert pool.jobs() == []
    arguments = ("condor", "script", project / "card.yaml", "--site", project / "site.yaml")
    code, out, err = cre(*arguments, "--shard-events", 700, "-o", project / "batch")
    assert code == 0, err
    assert (
        len(out[out.index("from (\n") + 7 : out.index("\n)\n")].splitlines()) == 3
    )  # 400 + 300, 250 + 200, 260 events: whole files
    assert "distributed.cli.dask_worker tls://SCHEDULER:PORT" in out
    assert "--memory-limit 1.46GiB" in out
    assert not (project / "batch").exists()
    code, _, err = cre(*arguments, "--shards", 2, "--shard-events", 3)
    assert code == 1
    assert "not both" in err


def test_files_of_ones_own_travel(
    project: Path,
    pool: Any,
    cre: Cre,
    finish: Callable[..., None],
    same: Callable[[Path, Path], None],
) -> None:
    """Network, aliases and calibration are the user's own files, and a period leaves out one data file."""
    aliases = project / "mine.yaml"
    aliases.write_text((ROOT / "processors/aliases/dmlntup.yaml").read_text())
    calibration = project / "calibration.yaml"
    calibration.write_text((ROOT / "processors/calibrations/synthetic.yaml").read_text())
    linear(project / "net.onnx", {"rms_4": -0.3, "log_e_corr": 2.0}, 1.0, content={"name": "mine"})
    files = sorted(project.glob("*.root"))
    manifest = ("manifest", *files, "--aliases", aliases, "-o", project / "manifest.json")
    assert cre(*manifest, "--overwrite")[0] == 0
    card = yaml.safe_load((project / "card.yaml").read_text())
    card |= {
        "regions": ["fiducial"],
        "models": {"fiducial": {"dnn": "net.onnx"}},
        "also": ["dnn"],
        "calibration": "calibration.yaml",
        "period": {"first_run": 2, "last_run": 9},
    }
    (project / "card.yaml").write_text(yaml.safe_dump(card))
    code, _, err = cre("run", project / "card.yaml")
    assert code == 0, err
    pool.fault(idle=True)
    code, _, err = submit(cre, project, shards=2)
    assert code == 0, err
    batch = project / "batch"
    submission = json.loads((batch / "submission.json").read_text())
    assert sorted(Path(p).name for p in submission["luggage"]) == [
        "calibration.yaml",
        "mine.yaml",
        "net.onnx",
    ]
    inputs = next(j["description"]["transfer_input_files"] for j in pool.jobs())
    assert all(f"{batch}/luggage/{p['file']}" in inputs for p in submission["luggage"].values())
    network = (project / "net.onnx").read_bytes()
    for name in ("net.onnx", "mine.yaml", "calibration.yaml"):
        (project / name).rename(project / f"{name}.away")  # a worker sees none of them
    finish(batch, 0, 1)
    for name in ("net.onnx", "mine.yaml", "calibration.yaml"):
        (project / f"{name}.away").rename(project / name)
    code, out, err = cre("merge", batch)
    assert code == 0, err
    assert "livetime 1000.0 s" in out
    same(project / "run/histograms.json.gz", batch / "histograms.json.gz")

    # another network under the old name is not the one that the shards had
    linear(project / "net.onnx", {"rms_4": -0.4}, 1.0, content={"name": "mine"})
    code, _, err = cre("merge", batch, "--overwrite")
    assert code == 1
    assert "card, models or calibration changed since the shards were submitted" in err
    (project / "net.onnx").write_bytes(network)
    # and one that is broken on its way is refused by the worker
    file = next(p["file"] for n, p in submission["luggage"].items() if n.endswith("net.onnx"))
    (batch / "luggage" / file).write_bytes(network[:-1])
    with pytest.raises(CreError, match=r"changed on its way; it is .*net\.onnx"):
        finish(batch, 0)
