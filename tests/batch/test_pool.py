"""The pool itself: what the other tests rely on."""

import json
from pathlib import Path

from batch.pools import HOME, call, ok, wait_for


def test_nothing_but_loopback() -> None:
    links = json.loads(ok(call("ip", "-json", "link")).out)
    assert [link["ifname"] for link in links] == ["lo"]


def test_a_job_sees_neither_home_nor_tmp(here: Path) -> None:
    """The proof that there is no shared file system: the job's /home and /tmp are empty."""
    (here / "job.sub").write_text(
        f"executable = /bin/ls\narguments = -A /home /tmp\ntransfer_executable = False\ninitialdir = {here}\n"
        "output = out\nerror = err\nlog = log\nshould_transfer_files = YES\nwhen_to_transfer_output = ON_EXIT\n"
        "request_memory = 100\nrequest_disk = 1000\nqueue\n"
    )
    assert HOME in here.parents
    ok(call("condor_submit", here / "job.sub"))
    ok(call("condor_wait", "-wait", "60", here / "log"))
    seen = wait_for("output", (here / "out").read_text).split()
    assert seen == ["/home:", "/tmp:"]
