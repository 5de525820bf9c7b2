#!/bin/sh
# Runs one shard on a worker that needs no more than /bin/sh and python3.
#
#   wrapper.sh NUMBER PYTHON           all files lie in the current folder, the part is left there
#   wrapper.sh NUMBER PYTHON FOLDER    files come from FOLDER, the part goes to FOLDER/parts
set -eu
number=$1
python=$2
home=${3:-}
here=$PWD
if [ -n "$home" ]; then
  here=$(mktemp -d "${TMPDIR:-/tmp}/cre-shard-XXXXXX")
  trap 'rm -rf "$here"' EXIT
  cp "$home/submission.json" "$home/setup.sh" "$home/shards/$number.json" "$here"
  if [ -d "$home/luggage" ]; then cp -R "$home/luggage/." "$here"; fi
  cd "$here"
fi
CRE_SCRATCH=$here
export CRE_SCRATCH

# 'set -e' is off inside a condition, so the exit code is caught this way
set +e
(
  set -e
  . ./setup.sh
  $python -m cre.main shard "$number.json" -o "$number.part"
)
code=$?
set -e

# a batch system that waits for the part would hold the job for its absence and hide what happened
if [ ! -f "$number.part" ]; then
  echo "the shard failed with exit code $code" >"$number.part"
fi
if [ -n "$home" ]; then
  cp "$number.part" "$home/parts/.$number.$$.part"
  mv "$home/parts/.$number.$$.part" "$home/parts/$number.part"
fi
exit "$code"
