#!/usr/bin/env bash
# Trains a config on this machine, evaluates it and draws its maps. Any key can be set behind.
#
#   launch/local.sh configs/fashion_mnist.py runs/fashion_mnist [--config.seed=1 …]
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -lt 2 ]; then
  sed -n 's/^# \{0,1\}//p' "$0" | sed 1d
  exit 2
fi
config=$1 workdir=$2
shift 2

python=.venv/bin/python
[ -x "$python" ] || python=python3

# A preempted run (143) is continued by the same command; so is this script.
"$python" -m lficam_jax.main --config "$config" --workdir "$workdir" "$@"
"$python" -m lficam_jax.main --config "$config" --workdir "$workdir" --mode evaluate "$@"
"$python" -m lficam_jax.main --config "$config" --workdir "$workdir" --mode explain "$@"
