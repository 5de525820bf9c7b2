"""A stand-in for HTCondor's condor_submit, condor_q and condor_rm. It is not HTCondor, and no test with it is
one on HTCondor: it runs each job at once, in an empty folder that holds only what the description transfers, with
an empty environment, and can be told to hold, keep waiting or lose jobs.

Called under the name of a tool; its state lies in the folder in which the tool lies:
jobs/*.json, scratch/*, and fault.json: {"hold": [code, subcode, reason]}, {"idle": true}, {"lose": true},
{"refuse": "message"} or {"hang": seconds}.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TOOL = Path(sys.argv[0]).absolute()
ROOT = Path(sys.argv[1]) if TOOL.name == "standin.py" else TOOL.parent
JOBS = ROOT / "jobs"


def fault():
    path = ROOT / "fault.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(job):
    JOBS.mkdir(exist_ok=True)
    path = JOBS / f"{job['ClusterId']}.{job['ProcId']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(job))
    part.replace(path)


def load(name):
    return json.loads((JOBS / f"{name}.json").read_text())


def set_state(job, status, **more):
    job.update(more, JobStatus=status, EnteredCurrentStatus=int(time.time()))
    save(job)


def expand(text, macros):
    for _ in range(5):
        text = re.sub(
            r"\$F?\(([\w.]+)\)",
            lambda m: (
                macros.get(m[1].lower(), "").strip('"')
                if m[0][1] == "F"
                else macros.get(m[1].lower(), "")
            ),
            text,
        )
    return text


def arguments(text):
    """The new syntax: double quotes around all, single quotes around what holds blanks, both doubled inside."""
    assert text[0] == text[-1] == '"', text
    text = text[1:-1].replace('""', '"')
    found, now, quoted, started, i = [], "", False, False, 0
    while i < len(text):
        c = text[i]
        if c == "'":
            if quoted and text[i + 1 : i + 2] == "'":
                now, i = now + "'", i + 1
            else:
                quoted, started = not quoted, True
        elif c == " " and not quoted:
            if started or now:
                found.append(now)
            now, started = "", False
        else:
            now += c
        i += 1
    return found + ([now] if started or now else [])


def submit(path):
    keys, jobs, names = {}, [], []
    text = Path(path).read_text()
    cluster = str(int(time.time() * 1e6) % 10**9)
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.lower() == "queue":
            macros = {**keys, "clusterid": cluster, "procid": str(len(jobs))}
            jobs.append({k: expand(v, macros) for k, v in keys.items()})
            continue
        if line.lower().startswith("queue ") and line.endswith(" from ("):
            names = [n.strip() for n in line[len("queue ") : -len(" from (")].split(",")]
            continue
        if names:
            if line == ")":
                names = []
                continue
            # the last variable takes the rest of its line
            row = dict(zip(names, line.split(maxsplit=len(names) - 1), strict=True))
            macros = {**keys, **row, "clusterid": cluster, "procid": str(len(jobs))}
            jobs.append({k: expand(v, macros) for k, v in keys.items()})
            continue
        key, _, value = line.partition("=")
        keys[key.strip().lower()] = value.strip()
    if not Path(jobs[0]["executable"]).exists():
        sys.exit(f"ERROR: Executable file {jobs[0]['executable']} does not exist")
    for number, ad in enumerate(jobs):
        job = {"ClusterId": int(cluster), "ProcId": number, "description": ad, "text": text}
        for key, value in ad.items():
            if key.startswith("my."):
                names = {
                    "crerun": "CreRun",
                    "creshard": "CreShard",
                    "cresubmission": "CreSubmission",
                }
                name = names.get(key[3:])
                if name:
                    job[name] = int(value) if value.isdigit() else value.strip('"')
        set_state(job, 1)
        name = f"{cluster}.{number}"
        if fault().get("lose"):
            (JOBS / f"{name}.json").unlink()
        elif not fault().get("idle"):
            subprocess.Popen(  # noqa: S603
                [sys.executable, __file__, str(ROOT), name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(ROOT / "standin.err").open("a"),
                start_new_session=True,
            )
    print(f"Submitting job(s).\n{len(jobs)} job(s) submitted to cluster {cluster}.")  # noqa: T201


def run(name):
    job = load(name)
    ad = job["description"]
    if hold := fault().get("hold"):
        set_state(job, 5, HoldReasonCode=hold[0], HoldReasonSubCode=hold[1], HoldReason=hold[2])
        return
    home = Path(ad["initialdir"])
    scratch = ROOT / "scratch" / name
    scratch.mkdir(parents=True)
    travels = ad.get("should_transfer_files") == "YES"
    for item in filter(None, (p.strip() for p in ad.get("transfer_input_files", "").split(","))):
        source = home / item
        if not source.exists():
            reason = (
                f"Transfer input files failure: reading from file {source}: (errno 2) No such file"
            )
            set_state(job, 5, HoldReasonCode=13, HoldReasonSubCode=2, HoldReason=reason)
            return
        shutil.copy(source, scratch / source.name)
    command = ad["executable"]
    if ad.get("transfer_executable", "True") != "False":
        command = str(shutil.copy(command, scratch / "condor_exec.exe"))
    set_state(job, 2, pid=os.getpid())
    with (home / ad["output"]).open("wb") as out, (home / ad["error"]).open("wb") as err:
        done = subprocess.run(  # noqa: S603
            [command, *arguments(ad["arguments"])],
            cwd=scratch if travels else home,
            env={"_CONDOR_SCRATCH_DIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
        )
    if not (JOBS / f"{name}.json").exists():
        return
    wanted = ad.get("transfer_output_files", '""').strip('"')
    remaps = dict(
        pair.split(" = ")
        for pair in ad.get("transfer_output_remaps", "").strip('"').split(";")
        if pair
    )
    for item in filter(None, (p.strip() for p in wanted.split(","))):
        if not (scratch / item).exists():
            reason = (
                f"Transfer output files failure: reading from file {item}: (errno 2) No such file"
            )
            set_state(job, 5, HoldReasonCode=12, HoldReasonSubCode=2, HoldReason=reason)
            return
        shutil.copy(scratch / item, home / remaps.get(item, item))
    (ROOT / f"exit-{name}").write_text(str(done.returncode))
    (JOBS / f"{name}.json").unlink()
    shutil.rmtree(scratch)


def chosen(arguments_):
    if "-constraint" in arguments_:
        text = arguments_[arguments_.index("-constraint") + 1]
        match = re.fullmatch(r'(\w+) == "([^"]*)"', text)
        assert match, text
        test = lambda job: job.get(match[1]) == match[2]
    else:
        test = lambda job: f"{job['ClusterId']}.{job['ProcId']}" in arguments_
    found = []
    for path in sorted(JOBS.glob("*.json")):
        try:
            job = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        if test(job):
            found.append(job)
    return found


def main():
    tool = TOOL.name
    if tool == "standin.py":
        run(sys.argv[2])
        return
    time.sleep(fault().get("hang", 0))
    if tool == "condor_submit":
        if message := fault().get("refuse"):
            sys.exit(f"ERROR: {message}")
        submit(sys.argv[-1])
    elif tool == "condor_q":
        names = sys.argv[sys.argv.index("-attributes") + 1].split(",")
        ads = [{k: job[k] for k in names if k in job} for job in chosen(sys.argv[1:])]
        print(json.dumps(ads) if ads else "")  # noqa: T201
    elif tool == "condor_rm":
        for job in chosen(sys.argv[1:]):
            (JOBS / f"{job['ClusterId']}.{job['ProcId']}.json").unlink(missing_ok=True)
            if "pid" in job:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGTERM)


main()
