#!/usr/bin/env bash
# A training run on Cloud TPU VMs, from nothing to deleted: the machine is asked for as a queued
# resource, and made again when it is preempted.
#
#   NAME=lficam ZONE=us-west4-a launch/tpu_vm.sh [--dry-run] COMMAND [FLAGS …]
#
#   create     ask for the machine and wait until it is there
#   setup      copy the committed files to all its workers, install python and the packages
#   run FLAGS  start training in the background on all workers; FLAGS are those of lficam_jax.main
#   logs       follow worker 0's log
#   status     the machine's state, and how the run on each worker stands
#   babysit FLAGS   all of it: create, setup, run; after a preemption or a crash again with the same
#              FLAGS; at the end prints the log and deletes the machine
#   delete     delete the machine and its request
#
# Environment:
#   NAME       of the machine and of its request
#   ZONE       where TYPE is offered
#   TYPE       accelerator type (v5litepod-8)
#   RUNTIME    software version of the machine; by default the one that goes with TYPE
#   PROJECT    gcloud's default
#   SPOT=1     cheaper and preemptible; 0: on demand
#   BUCKET     a storage bucket that setup mounts at /mnt/bucket on every worker
#   RETRIES=20 restarts of babysit, after preemptions and crashes together
#   POLL=60    seconds between two looks
#   KEEP=0     1: babysit leaves the machine running at the end
#   DATA_DIR   TFDS_DATA_DIR on the workers (/mnt/bucket/tensorflow_datasets)
#
# The disk of a preempted machine is gone: babysit wants --workdir=gs://… (surer) or /mnt/bucket/….
set -euo pipefail
# shellcheck source=launch/lib.sh
. "$(dirname "$0")/lib.sh"
arguments 1 "$@"
set -- "${words[@]}"
action=$1
shift

[ -n "${NAME:-}" ] || die "set NAME, what the machine shall be called"
[ -n "${ZONE:-}" ] || die "set ZONE; see: gcloud compute tpus locations list"
TYPE=${TYPE:-v5litepod-8} POLL=${POLL:-60}
[[ $POLL =~ ^[0-9]+$ ]] || die "POLL=$POLL is not a number of seconds"
DATA_DIR=${DATA_DIR:-/mnt/bucket/tensorflow_datasets}
case $TYPE in
  v6e-*) default=v2-alpha-tpuv6e ;;
  v5litepod-*) default=v2-alpha-tpuv5-lite ;;
  v5p-*) default=v2-alpha-tpuv5 ;;
  v2-* | v3-* | v4-*) default=tpu-ubuntu2204-base ;;
  *) default='' ;;
esac
RUNTIME=${RUNTIME:-$default}
[ -n "$RUNTIME" ] || die "TYPE=$TYPE is unknown here; set RUNTIME, its software version"
where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})
queue=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)
on_all=("${vm[@]}" ssh "$NAME" "${where[@]}" --worker=all --quiet)

# Tries a command a few times: a machine that has just come up refuses the first connections.
patiently() {
  local try code=0
  for try in 1 2 3 4 5; do
    code=0
    run "$@" || code=$?
    [ "$code" != 0 ] || return 0
    [ "$try" = 5 ] || sleep "$((POLL < 20 ? POLL : 20))"
  done
  return "$code"
}

# ACTIVE, WAITING_FOR_RESOURCES, PROVISIONING, SUSPENDED, FAILED …; NONE if there is no request;
# UNKNOWN if nobody answers, which says nothing of the machine.
state() {
  local answer
  if answer=$("${queue[@]}" describe "$NAME" "${where[@]}" --format='value(state.state)' 2>&1); then
    tail -n 1 <<< "$answer"
  elif grep -q NOT_FOUND <<< "$answer"; then
    echo NONE
  else
    echo UNKNOWN
  fi
}

create() {
  local spot=() now=NONE
  [ "${SPOT:-1}" = 0 ] || spot=(--spot)
  [ "$dry_run" = 1 ] || now=$(state)
  if [ "$now" = NONE ]; then
    run "${queue[@]}" create "$NAME" --node-id="$NAME" "${where[@]}" --accelerator-type="$TYPE" \
      --runtime-version="$RUNTIME" "${spot[@]}" --quiet || return 1
  fi
  while [ "$dry_run" = 0 ]; do
    now=$(state)
    case $now in
      ACTIVE) return 0 ;;
      SUSPEND* | FAILED | DELETING | NONE)
        echo "error: the request $NAME is $now; delete it and create it again" >&2
        return 1
        ;;
    esac
    echo "$NAME: $now"
    sleep "$POLL"
  done
}

remote_setup() {
  cat << 'REMOTE'
set -eu
mkdir -p ~/lficam
tar xzf ~/lficam.tgz -C ~/lficam
cd ~/lficam
# its lock on apt would make the installation below wait or fail
sudo systemctl stop unattended-upgrades 2> /dev/null || true
python3 -m pip install --quiet --user uv
[ -x .venv/bin/python ] || ~/.local/bin/uv venv --quiet --python 3.12 .venv
~/.local/bin/uv pip install --quiet --python .venv --editable '.[tpu,gcs]'
REMOTE
  [ -n "${BUCKET:-}" ] || return 0
  echo "bucket=$(quoted "$BUCKET")"
  cat << 'REMOTE'
if ! command -v gcsfuse > /dev/null; then
  echo "deb https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg |
    sudo tee /etc/apt/trusted.gpg.d/gcsfuse.asc > /dev/null
  sudo apt-get update -qq && sudo apt-get install -qq -y gcsfuse
fi
sudo mkdir -p /mnt/bucket && sudo chown "$USER" /mnt/bucket
# a checkpoint is finished by renaming folders, which gcsfuse else refuses
mountpoint -q /mnt/bucket ||
  gcsfuse --implicit-dirs --rename-dir-limit=200000 "$bucket" /mnt/bucket
REMOTE
}

setup() {
  local archive=${TMPDIR:-/tmp}/lficam-$NAME.tgz
  [ -z "$(git status --porcelain --untracked-files=no)" ] ||
    echo "warning: changes that are not committed are not copied" >&2
  run git archive --format=tar.gz -o "$archive" HEAD || return 1
  patiently "${vm[@]}" scp "$archive" "$NAME:lficam.tgz" "${where[@]}" --worker=all --quiet &&
    patiently "${on_all[@]}" --command="$(remote_setup)"
}

remote_run() {
  local main=(.venv/bin/python -m lficam_jax.main "$@" --distributed=auto
    --config.parallel.platform=tpu)
  echo "cd ~/lficam"
  # What a run before left behind, stuck or not, holds the chips.
  echo "if [ -f run.pid ]; then kill -KILL -- \"-\$(cat run.pid)\" 2> /dev/null || true; fi"
  echo "rm -f run.exit"
  echo "export TFDS_DATA_DIR=$(quoted "$DATA_DIR") JAX_COMPILATION_CACHE_DIR=\$HOME/jax_cache"
  echo "ulimit -n 100000 || true"
  # setsid: a process group of its own, which lives on when this connection ends
  echo "setsid nohup bash -c $(quoted "$(quoted "${main[@]}") >> run.log 2>&1; echo \$? > run.exit") \\"
  echo "  > /dev/null 2>&1 < /dev/null & echo \$! > run.pid"
}

start() {
  [ $# -gt 0 ] || die "run needs the flags of lficam_jax.main, --config and --workdir at least"
  patiently "${on_all[@]}" --command="$(remote_run "$@")"
}

# shellcheck disable=SC2016 # for the workers' shell
remote_exit='cd ~/lficam 2> /dev/null; echo "exit: $(cat run.exit 2> /dev/null ||
  { kill -0 "$(cat run.pid)" 2> /dev/null && echo running; } || echo none)"'

# One line per worker: its exit code, `running`, or `none` if it was never started or died with the
# machine. Fails if the workers do not answer.
exits() { "${on_all[@]}" --command="$remote_exit" 2> /dev/null | sed -n 's/^.*exit: //p' | grep .; }

logs() {
  run "${vm[@]}" ssh "$NAME" "${where[@]}" --worker=0 --quiet \
    --command="tail -n 100 $1 ~/lficam/run.log"
}

delete() { run "${queue[@]}" delete "$NAME" "${where[@]}" --force --quiet; }

# Waits for the workers and leaves what they say in `answer`; fails if the machine is gone. A network
# that is down says nothing of the machine, so it is waited for however long it takes.
ask() {
  local silent=0
  until answer=$(exits); do
    silent=$((silent + 1))
    case $(state) in
      SUSPEND* | FAILED | DELETING | NONE) return 1 ;;
      ACTIVE) [ "$silent" -lt 10 ] || return 1 ;; # it does not answer any more
    esac
    sleep "$POLL"
  done
}

# Watches until every worker has ended, or one failed. Sets `outcome`: an exit code, or `lost`.
watch() {
  local answer code
  while :; do
    sleep "$POLL"
    outcome=lost
    ask || return 0
    outcome=0
    for code in $answer; do
      case $code in
        0) ;;
        running) [ "$outcome" != 0 ] || outcome=running ;;
        2 | 3) outcome=$code && return 0 ;; # however the others ended because of it
        *) outcome=$code ;;
      esac
    done
    [ "$outcome" = running ] || return 0
  done
}

# Leaves how an attempt ended in `outcome`; `fresh` says whether the machine is still to be set up.
attempt() {
  local answer
  outcome=lost
  create || return 0
  if [ "$fresh" = 1 ]; then
    ask || return 0
    if [ "$(sort -u <<< "$answer")" = running ]; then
      fresh=0 # started by an earlier babysit, or by hand
      watch
      return
    fi
    setup || return 0
  fi
  fresh=0
  if start "$@"; then watch; fi
}

babysit() {
  local tries=0 fresh=1 outcome
  case $(workdir_of "$@") in
    gs://* | /mnt/*) ;;
    *) die "--workdir must outlive the machine: gs://…, or /mnt/bucket/… with BUCKET set" ;;
  esac
  if [ "$dry_run" = 1 ]; then
    create && setup && start "$@" && logs '' && delete
    return
  fi
  trap 'echo "stopped watching; $NAME still runs and costs: babysit again, or delete" >&2; exit 130' INT
  while :; do
    attempt "$@"
    echo "$NAME: attempt $((tries + 1)) ended: $outcome"
    [ "$outcome" = lost ] || [ "$(verdict "$outcome")" = restart ] || break
    tries=$((tries + 1))
    if [ "$tries" -gt "${RETRIES:-20}" ]; then
      echo "error: given up after $((tries - 1)) restarts" >&2
      break
    fi
    if [ "$outcome" = lost ]; then
      fresh=1
      delete || true
      sleep "$POLL"
    fi
  done
  [ "$outcome" = lost ] || logs '' || true
  [ "${KEEP:-0}" = 1 ] || delete || echo "warning: $NAME is not deleted and may cost" >&2
  case $outcome in lost | none) outcome=1 ;; esac
  return "$outcome"
}

case $action in
  create | setup | delete) "$action" ;;
  run) start "$@" ;;
  logs) logs -F ;;
  status)
    run "${queue[@]}" describe "$NAME" "${where[@]}" --format='value(state.state)'
    run "${on_all[@]}" --command="$remote_exit"
    ;;
  babysit) babysit "$@" ;;
  *) die "unknown command $action; see --help" ;;
esac
