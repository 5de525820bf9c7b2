"""The shell part of a job: what happens on a worker before Python starts."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path

from condor.site import Site
from processors.daskrun import SETTINGS

__all__ = ["SETUP", "WRAPPER", "setup_script", "wrapper_text"]

SETUP = "setup.sh"
WRAPPER = "wrapper.sh"

_HEAD = """\
# What a job does before Python starts; sourced, with /bin/sh. Made from the site file {name!r}.
set -e
# one thread per job; memory goes back to the system until the first chunk says otherwise (processors/memory.py), and
# comes from one heap also for the thread in which Dask runs a chunk
export MALLOC_TRIM_THRESHOLD_=65536 MALLOC_ARENA_MAX=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export {dask}
# batch systems may set neither
export PATH="${{PATH:-/usr/local/bin:/usr/bin:/bin}}"
CRE_SCRATCH="${{CRE_SCRATCH:-${{_CONDOR_SCRATCH_DIR:-}}}}"
if [ -z "$CRE_SCRATCH" ]; then
  CRE_SCRATCH=$(mktemp -d "${{TMPDIR:-/tmp}}/cre-XXXXXX")
  trap 'rm -rf "$CRE_SCRATCH"' EXIT
fi
export CRE_SCRATCH HOME="${{HOME:-$CRE_SCRATCH}}" MPLCONFIGDIR="$CRE_SCRATCH" PYTHONNOUSERSITE=1
"""
_UNPACK = """\
# {what}
{python} -m {module} -e {file} "$CRE_SCRATCH/{folder}"
export PYTHONPATH="$CRE_SCRATCH/{folder}${{PYTHONPATH:+:$PYTHONPATH}}"
"""
_VERSION = """\
wanted=$(cat "$CRE_SCRATCH/environment/python-version")
found=$({python} -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$wanted" != "$found" ]; then
  echo "the environment is made for python $wanted, the worker has $found: set 'python' or 'container_image'" >&2
  exit 1
fi
"""


def setup_script(site: Site) -> str:
    """The lines that a job sources first.

    Args:
        site: The site; with ``files: transfer``, packed files lie in the job's folder.

    Returns:
        The script.
    """
    dask = " ".join(
        f"DASK_{key.upper().replace('.', '__').replace('-', '_')}={value}"
        for key, value in SETTINGS.items()
    )
    text = _HEAD.format(name=site.name, dask=dask)
    if site.prologue:
        # scripts of sites often use variables that are not set
        text += "set +u\n" + "\n".join(site.prologue) + "\n"
    if site.environment is not None:
        text += _UNPACK.format(
            what="the packages",
            python=site.python,
            module="tarfile",
            folder="environment",
            file=_name(site, site.environment),
        ) + _VERSION.format(python=site.python)
    if site.wheel is not None:
        text += _UNPACK.format(
            what="this program",
            python=site.python,
            module="zipfile",
            folder="project",
            file=_name(site, site.wheel),
        )
    return text


def _name(site: Site, path: Path) -> str:
    return shlex.quote(path.name if site.files == "transfer" else str(path))


def wrapper_text() -> str:
    """The script that runs a shard, :file:`condor/wrapper.sh`."""
    return (resources.files("condor") / WRAPPER).read_text("utf-8")
