#!/usr/bin/env bash
# rootfs.sh PYTHON: make the root file system of the batch tests and print its folder. Run as root.
# It is Debian trixie with HTCondor and Slurm, and a virtual environment with what this project needs at run
# time. It is cached, and made again when this script, constraints.txt or the dependencies change.
set -euo pipefail
PYTHON=$1  # any python from 3.11 on, to read pyproject.toml
PROJECT=$(cd "$(dirname "$0")/../.." && pwd)
CACHE=${CRE_BATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dampe-cre}
PACKAGES="minicondor slurmctld slurmd slurm-client munge python3-venv iproute2 procps ca-certificates"

say() { echo "test-condor: $*" >&2; }

requirements=$("$PYTHON" - "$PROJECT/pyproject.toml" <<'END'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
pytest = [one for one in extras["dev"] if one.startswith("pytest>")]
print("\n".join(sorted(project["dependencies"] + extras["batch"] + pytest)))
END
)
key=$({ cat "$0" "$PROJECT/constraints.txt"; echo "$requirements"; } | sha256sum | cut -c1-16)
root=$CACHE/batch-$key
mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9  # of two runs at the same time, one makes it and the other finds it
if [ -e "$root/made" ]; then
    touch "$root"  # in use
    echo "$root"
    exit
fi

log=$CACHE/batch-$key.log
: >"$log"
step() {  # what a step prints is of interest only when it fails
    if ! "$@" >>"$log" 2>&1 9>&-; then
        tail -20 "$log" >&2
        say "this failed: $*"
        say "all that it printed is in $log"
        exit 1
    fi
}

if ! command -v debootstrap >/dev/null; then
    say "debootstrap is missing: installing it with apt-get"
    step apt-get update
    step apt-get install --yes --no-install-recommends debootstrap
fi
# The mirror that the machine's apt is set to.
mirror=${CRE_BATCH_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)}
if [ -z "$mirror" ]; then
    say "apt has no source of packages; name a Debian mirror in CRE_BATCH_MIRROR"
    exit 1
fi
find "$CACHE" -maxdepth 1 -name 'batch-*' -mtime +30 -exec rm -rf {} +  # of older dependencies
say "making $root (a few minutes, once)"
new=$root.new
rm -rf "$new"
trap 'rm -rf "$new"' EXIT
step debootstrap --variant=minbase trixie "$new" "$mirror"
printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"  # installing a daemon does not start it
chmod +x "$new/usr/sbin/policy-rc.d"
echo force-unsafe-io >"$new/etc/dpkg/dpkg.cfg.d/unsafe-io"
cp "$PROJECT/constraints.txt" "$new/opt/"
echo "$requirements" >"$new/opt/requirements.txt"
chroot "$new" useradd --create-home --shell /bin/bash analyst
# The machine's own certificates and pip settings, for the time of the installation only.
export new PACKAGES DEBIAN_FRONTEND=noninteractive
step unshare -m --propagation private bash -euo pipefail -c '
    mount -t proc proc "$new/proc"
    mount --bind /dev "$new/dev"
    chroot "$new" apt-get update
    chroot "$new" apt-get install --yes --no-install-recommends $PACKAGES
    chroot "$new" apt-get clean
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
        if [ -e "$file" ]; then
            touch "$new$file"
            mount --bind "$file" "$new$file"
        fi
    done
    chroot "$new" python3 -m venv /opt/cre
    chroot "$new" /opt/cre/bin/pip install --no-cache-dir -c /opt/constraints.txt -r /opt/requirements.txt'
touch "$new/made"
mv "$new" "$root"
trap - EXIT
echo "$root"
