#!/usr/bin/env bash
# Trains a config on this machine, evaluates it and draws its maps. Any key can be set behind.
#
#   launch/local.sh [--dry-run] configs/fashion_mnist.py runs/fashion_mnist [--config.seed=1 …]
#
# A run that was stopped is continued by the same command.
set -euo pipefail
# shellcheck source=launch/lib.sh
. "$(dirname "$0")/lib.sh"
arguments 2 "$@"
set -- "${words[@]}"
config=$1 workdir=$2
shift 2

command=("$(python_here)" -m lficam_jax.main --config "$config" --workdir "$workdir")
run "${command[@]}" "$@"
run "${command[@]}" --mode evaluate "$@"
run "${command[@]}" --mode explain "$@"
