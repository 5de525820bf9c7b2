#!/usr/bin/env bash
# run.sh PYTHON [options of pytest]: test batch submission on a real HTCondor and a real Slurm.
# PYTHON is that of the project's virtual environment (it makes the wheel and, where this machine does not
# permit the rest, reports the tests as skipped). All daemons and jobs live in namespaces of their own, with
# nothing but the loopback interface, on top of a cached root file system that they cannot change.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
LIMIT_S=${CRE_BATCH_LIMIT_S:-1500}

outside() {
    local python=$1 why="" root
    shift
    if [ "$(id -u)" != 0 ]; then
        why="only root may make the root file system and mount it"
    elif ! command -v apt-get >/dev/null; then
        why="the root file system is made with Debian's tools, which are missing here"
    elif ! unshare -m -n -u -p -f --propagation private true 2>/dev/null; then
        why="this machine does not permit namespaces (unshare -m -n -u -p)"
    elif ! unshare -m --propagation private sh -ec 'mount -t tmpfs tmpfs /mnt; cd /mnt; mkdir a b c d
            mount -t overlay -o lowerdir=a,upperdir=b,workdir=c overlay d' 2>/dev/null; then
        why="this machine does not permit overlay mounts"
    fi
    if [ -n "$why" ]; then
        echo "test-condor: $why; the tests are SKIPPED" >&2
        CRE_BATCH_SKIP=$why exec "$python" -m pytest -p no:cacheprovider "$HERE" "$@"
    fi
    root=$("$HERE/rootfs.sh" "$python")
    # not local: the trap needs it after this function
    tmp=$(mktemp -d)
    trap 'rm -rf "$tmp"' EXIT
    mkdir "$tmp/source" "$tmp/wheel" "$tmp/run"
    # built from a copy: pip would leave its work in the source tree
    git -C "$HERE/../.." ls-files -z --cached --others --exclude-standard |
        (cd "$HERE/../.." && tar -c --null --ignore-failed-read --files-from=- 2>/dev/null) | tar -x -C "$tmp/source"
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$tmp/wheel" "$tmp/source" &
    wheel=$!
    # here, where the compiled simulation may be there already; it is not what is tested
    simulate=("$python" -m cre.main simulate --triggered-only -o "$tmp/ntuples")
    "${simulate[@]}" --kind data --livetime-s 12000 --files 3 --seed 1 \
        --e-min-gev 95 --e-max-gev 10000 --min-deposit-gev 95
    "${simulate[@]}" --kind electron --events 150000 --outside-share 0.1 --seed 2 \
        --e-min-gev 85 --e-max-gev 20000 --min-deposit-gev 70
    "${simulate[@]}" --kind proton --events 400000 --outside-share 0.1 --tail-sampling --seed 3 \
        --e-min-gev 95 --e-max-gev 30000 --min-deposit-gev 80
    wait "$wheel"
    timeout --foreground -k 10 "$LIMIT_S" \
        unshare -m -n -u -p -f --kill-child --propagation private "$0" --inside "$root" "$tmp" "$@"
}

# The rest runs as process 1 of the namespaces: when it ends, everything in them is killed.
inside() {
    local root=$1 tmp=$2 top=$2/run/root
    shift 2
    hostname rig
    ip link set lo up
    ip address add 192.0.2.1/32 dev lo  # Slurm does not resolve names where only 127.0.0.1 is there
    mount -t tmpfs -o mode=755 tmpfs "$tmp/run"
    mkdir "$tmp"/run/{root,changes,work}
    mount -t overlay -o "lowerdir=$root,upperdir=$tmp/run/changes,workdir=$tmp/run/work" overlay "$top"
    mount -t proc proc "$top/proc"
    mount --bind /dev "$top/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$top/dev/shm"
    mkdir -p "$top/rig/batch"
    cp "$HERE"/*.py "$top/rig/batch"
    cp "$tmp"/wheel/*.whl "$top/opt"
    cp -R "$tmp/ntuples" "$top/home/analyst"
    printf '127.0.0.1 localhost\n192.0.2.1 rig\n' >"$top/etc/hosts"
    : >"$top/etc/resolv.conf"
    cp "$HERE/condor.conf" "$top/etc/condor/config.d/99-rig"
    cp "$HERE"/{slurm,cgroup}.conf "$top/etc/slurm"
    chroot "$top" /bin/sh -euc '
        /opt/cre/bin/pip install --quiet --no-index --no-deps /opt/*.whl
        install -d -o analyst /store
        chown -R analyst /home/analyst
        install -d -o munge /run/munge
        su munge -s /bin/sh -c /usr/sbin/munged
        install -d /var/spool/slurmctld /var/spool/slurmd
        slurmctld
        slurmd
        install -d -o condor /run/condor /var/lock/condor
        condor_master'
    local code=0
    chroot "$top" su - analyst -c 'PATH=/opt/cre/bin:/usr/sbin:$PATH OMP_NUM_THREADS=1 CRE_BATCH_INSIDE=1 \
        exec python -m pytest -c /dev/null --rootdir=/rig --import-mode=importlib -o pythonpath=/rig \
        -p no:cacheprovider -ra -W error --durations=0 --durations-min=1 "$@" /rig' -- pytest "$@" || code=$?
    if [ -n "${CRE_BATCH_LOGS:-}" ]; then
        mkdir -p "$CRE_BATCH_LOGS"
        cp -R "$top"/var/log/{condor,slurm*} "$top/home/analyst" "$CRE_BATCH_LOGS"
    fi
    return "$code"
}

if [ "$1" = --inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
