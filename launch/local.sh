#!/usr/bin/env bash
# Trains a config on this machine, evaluates it and draws its maps. Any key can be set behind.
#
#   launch/local.sh [--dry-run] configs/fashion_mnist.py runs/fashion_mnist [--config.seed=1 …]
#
# A run that was stopped is continued by the same command.
set -euo pipefail
program=$(realpath "$0")
cd "$(dirname "$0")/.."
# shellcheck source=launch/lib.sh
. launch/lib.sh

dry_run=0
case ${1:-} in
  --dry-run) dry_run=1 && shift ;;
  --help | -h) usage && exit 0 ;;
esac
[ $# -ge 2 ] || { usage >&2 && exit 2; }
config=$1 workdir=$2
shift 2

command=("$(python_here)" -m lficam_jax.main --config "$config" --workdir "$workdir")
run "${command[@]}" "$@"
run "${command[@]}" --mode evaluate "$@"
run "${command[@]}" --mode explain "$@"
