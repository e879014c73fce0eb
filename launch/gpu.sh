#!/usr/bin/env bash
# Trains on this machine, with all its GPUs in one process, and starts again after a crash.
#
#   launch/gpu.sh [--dry-run] --config configs/imagenet.py --workdir runs/imagenet [FLAGS …]
#
# FLAGS are those of lficam_jax.main. Environment:
#   RETRIES=5    crashes in a row without a new checkpoint before it gives up
#   WAIT=10      seconds between a crash and the next try
#   CUDA_VISIBLE_DEVICES=0,1   only these GPUs
#   PLATFORM=gpu   tpu: the same for the chips of a TPU machine
# On SIGTERM and SIGINT the run saves, and this script ends with its code, 143 or 130. The same command
# continues.
set -euo pipefail
# shellcheck source=launch/lib.sh
. "$(dirname "$0")/lib.sh"
arguments 1 "$@"
set -- "${words[@]}"

workdir=$(workdir_of "$@")
kept() { { find "$workdir/checkpoints" -mindepth 1 -maxdepth 1 2> /dev/null || true; } | sort; }

# behind --config, which flags of the form --config.KEY must follow
command=("$(python_here)" -m lficam_jax.main "$@" --config.parallel.platform="${PLATFORM:-gpu}")
if [ "$dry_run" = 1 ]; then
  run "${command[@]}"
  exit 0
fi

failures=0
while :; do
  before=$(kept)
  # TERM for both: a second INT, which Ctrl-C may have given already, would stop it without saving.
  # shellcheck disable=SC2016
  guarded 'kill -s TERM "$child" 2> /dev/null || true' "${command[@]}"
  if [ "$signalled" != 0 ] || [ "$(verdict "$code")" != restart ]; then exit "$code"; fi
  [ "$(kept)" = "$before" ] || failures=0
  failures=$((failures + 1))
  if [ "$failures" -gt "${RETRIES:-5}" ]; then
    echo "error: ended with code $code, $failures times without a new checkpoint" >&2
    exit "$code"
  fi
  echo "ended with code $code; starting again ($failures of ${RETRIES:-5})" >&2
  sleep "${WAIT:-10}"
done
