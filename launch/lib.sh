# What the launch scripts share. Sourced, it goes to the repository's folder.
# shellcheck shell=bash disable=SC2034,SC2154
program=$(realpath "$0")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The comment at the head of a script is its help.
usage() { awk 'NR == 1 { next } !/^#/ { exit } !/^#SBATCH/ { sub(/^# ?/, ""); print }' "$program"; }

die() {
  echo "error: $*" >&2
  exit 2
}

# Reads what a script's words may begin with, --help or --dry-run, and leaves the others in `words`;
# fewer than `$1` of them get the help and exit code 2.
arguments() {
  local least=$1
  shift
  dry_run=0
  case ${1:-} in
    --dry-run) dry_run=1 && shift ;;
    --help | -h) usage && exit 0 ;;
  esac
  [ $# -ge "$least" ] || { usage >&2 && exit 2; }
  words=("$@")
}

# What --workdir says among the flags of lficam_jax.main, where the last one counts.
workdir_of() {
  local previous='' word workdir=''
  for word in "$@"; do
    [ "$previous" != --workdir ] || workdir=$word
    case $word in --workdir=*) workdir=${word#*=} ;; esac
    previous=$word
  done
  echo "$workdir"
}

# Runs a command; with dry_run=1 only prints it, as it would have to be typed.
run() {
  if [ "${dry_run:-0}" = 1 ]; then
    quoted "$@"
    echo
  else
    "$@"
  fi
}

# Joins words so that a shell, here or behind ssh, reads the very same words again.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}

# What to do after training ended with a code: done | stop | restart (docs/operations.md).
verdict() {
  case $1 in
    0) echo "done" ;;
    2 | 3) echo stop ;; # bad input or diverged: the same again would end the same
    *) echo restart ;;  # a signal, a lost process, a crash: the run continues where it was saved
  esac
}

# Runs a command; a signal to this shell runs `$1`, which tells it. Leaves its exit code in
# `code` and the number of signals in `signalled`. (`wait` returns early for a signal; the command is
# then still saving, so it is waited for again.)
guarded() {
  local pass_on=$1 seen
  shift
  code=0 signalled=0 child=''
  # shellcheck disable=SC2064
  trap "signalled=\$((signalled + 1)); $pass_on" TERM INT # before the command: a signal may be quick
  "$@" &
  child=$!
  [ "$signalled" = 0 ] || eval "$pass_on"
  while :; do
    seen=$signalled code=0
    wait "$child" || code=$?
    [ "$signalled" != "$seen" ] || break
  done
  trap - TERM INT
}

python_here() { if [ -x .venv/bin/python ]; then echo .venv/bin/python; else echo python3; fi; }
