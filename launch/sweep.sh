#!/usr/bin/env bash
# Trains one config with several seeds and overrides: DIR/VARIANT/seedN for each combination.
#
#   launch/sweep.sh [OPTIONS] --config FILE --dir DIR [-- FLAGS for every run …]
#
#   --seeds 0,1,2              default: 0
#   --variant 'NAME FLAG …'    once per variant; the words behind NAME are its flags. Default: one
#                              variant `base` without flags
#   --jobs N                   runs at once on this machine (default 1)
#   --dry-run                  print the commands of the runs that are not finished
#
# For example, three seeds of two learning rates, two runs at a time:
#   launch/sweep.sh --config configs/cifar10.py --dir runs/lr --seeds 0,1,2 --jobs 2 \
#     --variant 'low --config.optim.lr=0.05' --variant 'high --config.optim.lr=0.2'
#
# Finished runs are skipped and stopped ones continued, so the same command resumes a sweep. A run
# that fails does not stop the others; its log is DIR/VARIANT/seedN/log.txt. Ends with 0 if all runs
# are finished, 1 if some failed, 143 or 130 after a signal.
set -euo pipefail
# shellcheck source=launch/lib.sh
. "$(dirname "$0")/lib.sh"

config='' dir='' seeds=0 jobs=1 dry_run=0 variants=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --dry-run) dry_run=1 && shift && continue ;;
    --) shift && break ;;
    --config | --dir | --seeds | --variant | --jobs) [ $# -gt 1 ] || die "$1 needs a value" ;;
    *) die "unknown option $1; flags for every run go behind --" ;;
  esac
  case $1 in
    --config) config=$2 ;;
    --dir) dir=$2 ;;
    --seeds) seeds=$2 ;;
    --variant) variants+=("$2") ;;
    --jobs) jobs=$2 ;;
  esac
  shift 2
done
if [ -z "$config" ] || [ -z "$dir" ]; then die "--config FILE and --dir DIR are needed; see --help"; fi
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs $jobs is not a number of runs"
[[ $seeds =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--seeds $seeds is not a list of numbers like 0,1,2"
[ ${#variants[@]} -gt 0 ] || variants=(base)

stopped=0 failed=0
declare -A names=() # process -> its run
stop() { # the children save and end
  stopped=$1
  [ ${#names[@]} -eq 0 ] || kill -s TERM "${!names[@]}" 2> /dev/null || true
}
trap 'stop 143' TERM
trap 'stop 130' INT

reap() { # waits until one run ends
  local ended='' code=0
  wait -n -p ended && code=0 || code=$?
  [ -n "${ended:-}" ] || return 0 # a signal, not an end
  if [ "$code" != 0 ]; then
    failed=$((failed + 1))
    echo "${names[$ended]}: ended with code $code; see its log.txt" >&2
  else
    echo "${names[$ended]}: finished"
  fi
  unset "names[$ended]"
}

for variant in "${variants[@]}"; do
  read -ra words <<< "$variant"
  [[ ${words[0]:-} =~ ^[A-Za-z0-9][A-Za-z0-9._=-]*$ ]] || die "--variant '$variant' begins with no NAME"
  for seed in ${seeds//,/ }; do
    workdir=$dir/${words[0]}/seed$seed
    if [ -f "$workdir/results/train.json" ]; then
      echo "$workdir: already finished"
      continue
    fi
    command=("$(python_here)" -m lficam_jax.main --config "$config" --workdir "$workdir"
      --config.seed="$seed" "${words[@]:1}" "$@")
    if [ "$dry_run" = 1 ]; then
      run "${command[@]}"
      continue
    fi
    while [ "$stopped" = 0 ] && [ ${#names[@]} -ge "$jobs" ]; do reap; done
    [ "$stopped" = 0 ] || break 2
    mkdir -p "$workdir"
    echo "$workdir: started"
    "${command[@]}" >> "$workdir/log.txt" 2>&1 &
    names[$!]=$workdir
  done
done
while [ ${#names[@]} -gt 0 ]; do reap; done
[ "$stopped" = 0 ] || exit "$stopped"
[ "$failed" = 0 ] || { echo "$failed runs failed; the same command tries them again" >&2 && exit 1; }
