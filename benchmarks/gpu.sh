#!/usr/bin/env bash
# Everything that this project must show on one GPU, in at most nine minutes.
#
#   benchmarks/gpu.sh [--out DIR] [--wheels DIR] [--data DIR] [--parts a,c] [--tiny]
#   benchmarks/gpu.sh --fetch DIR     downloads the wheels that such a machine usually lacks
#
# Parts, each with its own time limit; one that fails or is stopped leaves the others their turn:
#   a  compare   forward pass and step beside torch, eager and compiled, bfloat16
#   b  parity    the numbers of torch with the same weights; bfloat16 beside float32
#   c  mappings  pmap beside shard_map
#   d  pipeline  the step with its data beside the step alone; the map beside the logits
#   e  maps      Score-CAM and Grad-CAM beside torchcam's and pytorch-grad-cam's
#   f  train     Fashion-MNIST, ResNet-20 with the LFI head, as many epochs as 100 seconds give
# It prints as it goes. --out (default: gpu_results) gets a log and JSON of each part, and gpu.json,
# which says what each part came to. The exit code is the number of parts that failed.
#
# Needed there: an NVIDIA driver, python 3.11 to 3.13 with jax[cuda13], flax, optax, orbax-checkpoint,
# jaxtyping, opencv, matplotlib, scipy, scikit-learn, rich, fsspec, pillow, and torch for a, b and e.
# A machine without a network gets the rest as wheels: run --fetch DIR where there is one, with
# PYTHON_VERSION=3.12 or whatever python the machine has, copy DIR along and give --wheels DIR.
# --data is where `python -m lficam_jax.prepare fashion_mnist` wrote, or where the four archives lie
# that it downloads; without it, d and f take the embedded digits.
#
# --tiny runs all parts with the smallest sizes on the CPU, to see that nothing is missing.
# Environment: PYTHON=python3   LIMIT=540 (seconds for all parts together)
# shellcheck disable=SC2329 # the parts are called by their letters
set -uo pipefail
program=$(realpath "$0")
cd "$(dirname "$program")/.." || exit 2
# shellcheck source=launch/lib.sh
. launch/lib.sh

MISSING=(ml_collections tensorflow-datasets array_record grain simplejpeg tensorboardX
  importlib_resources dm-tree immutabledict simple-parsing docstring-parser
  tensorflow-metadata toml termcolor googleapis-common-protos portpicker)
BESIDE=(torchcam==0.5.0 ttach==0.0.3)
SOURCES=(promise grad-cam==1.5.7) # published without a wheel; pure python
declare -A NAMES=([a]=compare [b]=parity [c]=mappings [d]=pipeline [e]=maps [f]=train)
# On a fresh H100 compiling is most of it: a minute for ResNet-50, as long again for torch.compile.
declare -A LIMITS=([a]=300 [b]=80 [c]=50 [d]=90 [e]=45 [f]=100)

fetch() { # fetch DIR: wheels for x86-64 Linux, without what they need in turn
  local platforms=() version
  for version in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done
  "$python" -m pip download --no-deps --only-binary=:all: --implementation cp \
    --python-version "${PYTHON_VERSION:-3.12}" "${platforms[@]}" --platform manylinux2014_x86_64 \
    --dest "$1" "${MISSING[@]}" "${BESIDE[@]}" &&
    "$python" -m pip wheel --no-deps --wheel-dir "$1" "${SOURCES[@]}"
}

part_a() {
  local compare=("$python" benchmarks/compare_torch.py --device "$device")
  if [ "$tiny" = 1 ]; then
    "${compare[@]}" --json "$out/compare.json" --dtype bfloat16 --cases resnet8:16:8 --seconds 1 \
      --eager_only
  else # 128 of ResNet-50: both frameworks must fit into one card's memory. ResNet-110 compiles longest.
    "${compare[@]}" --json "$out/compare.json" --seconds 2 \
      --cases resnet20:32:128 resnet18:224:256 resnet50:224:128 &&
      "${compare[@]}" --json "$out/compare_110.json" --seconds 2 \
        --cases resnet110:32:128 resnet110:32:1024
  fi
}

part_b() {
  local options=(--device "$device" --json "$out/parity.json")
  [ "$tiny" = 1 ] && options+=(--tiny)
  "$python" benchmarks/gpu_checks.py parity "${options[@]}"
}

part_c() {
  local options=(--device "$device" --json "$out/mappings.json")
  [ "$tiny" = 1 ] && options+=(--tiny --seconds 1)
  "$python" benchmarks/gpu_checks.py mappings "${options[@]}"
}

part_d() { # resident on the device, then decoded from files by threads
  local bench=("$python" -m lficam_jax.main --mode benchmark)
  local small=(--config.model.dtype=bfloat16 --config.train.batch_size=512)
  local large=(--config.model.dtype=bfloat16 --config.train.batch_size=256)
  local files=(--pictures 64 --copies 40) failed=0
  if [ "$tiny" = 1 ]; then
    small+=(--config.train.batch_size=16 --config.model.depth=8 --config.data.image_size=16)
    large=("${small[@]}" --config.model.backbone=cifar_resnet)
    files=(--pictures 4 --copies 8)
  fi
  "${bench[@]}" --config "$config" "${small[@]}" --workdir "$scratch/resident" \
    --sections forward,pipeline &&
    cp "$scratch/resident/results/benchmark.json" "$out/pipeline_resident.json" || failed=1
  "$python" benchmarks/decode.py --write "$scratch/pictures" "${files[@]}" &&
    "${bench[@]}" --config configs/folder.py "${large[@]}" --workdir "$scratch/streaming" \
      --config.data.folder="$scratch/pictures" --sections forward,pipeline &&
    cp "$scratch/streaming/results/benchmark.json" "$out/pipeline_streaming.json" || failed=1
  return "$failed"
}

part_e() {
  local options=(--device "$device" --json "$out/maps.json")
  if [ "$tiny" = 1 ]; then
    options+=(--images 2 --depth 8 --pixels 16 --chunks 16 --seconds 1)
  else
    options+=(--images 16 --chunks 64 --seconds 4)
  fi
  "$python" benchmarks/score_cam.py "${options[@]}"
}

part_f() { # the recipe's schedule over as many epochs as fit; a short run tells how fast it is
  local train=("$python" -m lficam_jax.main --config "$config" --config.train.tensorboard=False)
  local steps=300 seconds=$(($1 - 60)) examples=55000 epochs
  if [ "$tiny" = 1 ]; then
    train+=(--config.model.depth=8 --config.data.train_examples=256)
    steps=4 seconds=1 examples=256
  fi
  "${train[@]}" --config.train.total_epochs=0 --config.train.total_steps="$steps" \
    --config.train.log_every_steps=$((steps / 4)) --config.eval.every_epochs=0 \
    --config.eval.every_steps="$steps" --workdir "$scratch/probe" || return
  # Three quarters, for evaluating and saving after each epoch take their time as well.
  epochs=$("$python" -c "import json, sys
rate = json.load(open('$scratch/probe/results/train.json'))['images_per_second'] or 1
print(max(1, int(0.75 * rate * $seconds / $examples)))") || return
  echo "the full recipe over $epochs epochs"
  "${train[@]}" --config.train.total_epochs="$epochs" --workdir "$scratch/train" &&
    cp "$scratch/train/results/train.json" "$out/train.json"
}

find_data() { # sets config and TFDS_DATA_DIR
  export TFDS_DATA_DIR=$data config=configs/fashion_mnist.py
  local prepare=("$python" -m lficam_jax.prepare) code=0
  if [ -z "$data" ]; then
    config=configs/cluttered_digits.py TFDS_DATA_DIR=$scratch/data
    "${prepare[@]}" cluttered_digits --data_dir "$TFDS_DATA_DIR" || code=1
  elif [ ! -d "$data/fashion_mnist" ]; then
    TFDS_DATA_DIR=$scratch/data
    "${prepare[@]}" fashion_mnist --from "$data" --data_dir "$TFDS_DATA_DIR" || code=1
  fi
  [ "$code" = 0 ] || echo "d and f will find no data"
}

summary() { # after each part, so that it is there whatever ends the script
  local part lines=''
  for part in "${!codes[@]}"; do
    lines+="\"${NAMES[$part]}\": {\"exit_code\": ${codes[$part]}, \"seconds\": ${took[$part]}},"
  done
  printf '{"device": "%s", "seconds": %s, "parts": {%s}}\n' "$card" "$SECONDS" "${lines%,}" \
    > "$out/gpu.json"
}

python=${PYTHON:-python3} limit=${LIMIT:-540}
out=gpu_results wheels='' data='' parts=a,b,c,d,e,f tiny=0
if [ "${1:-}" = --part ]; then # this script calls itself, so that `timeout` can end a part whole
  # shellcheck disable=SC2154
  out=$GPU_OUT scratch=$GPU_SCRATCH device=$GPU_DEVICE tiny=$GPU_TINY
  "part_$2" "$3"
  exit
fi
while [ $# -gt 0 ]; do
  case $1 in
    --out | --wheels | --data | --parts | --fetch) [ $# -gt 1 ] || die "$1 needs a value" ;;
  esac
  case $1 in
    --out) out=$2 && shift 2 ;;
    --wheels) wheels=$2 && shift 2 ;;
    --data) data=$2 && shift 2 ;;
    --parts) parts=$2 && shift 2 ;;
    --fetch) fetch "$2"; exit ;;
    --tiny) tiny=1 && shift ;;
    --help | -h) usage && exit 0 ;;
    *) die "unknown option $1; see --help" ;;
  esac
done
[[ $parts =~ ^[a-f](,[a-f])*$ ]] || die "--parts $parts: give letters from a to f, such as a,c"
mkdir -p "$out" || die "cannot write to $out"
out=$(realpath "$out")
[ -z "$data" ] || data=$(realpath "$data") || die "there is no $data"

scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
if [ -n "$wheels" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" \
    "$wheels"/*.whl || die "the wheels of $wheels cannot be installed"
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi
device=cuda
if [ "$tiny" = 1 ]; then # on a CPU, which may be busy
  device=cpu limit=${LIMIT:-1800}
  for part in "${!LIMITS[@]}"; do LIMITS[$part]=300; done
  export JAX_PLATFORMS=cpu
fi
export PYTHONUNBUFFERED=1 JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$scratch/cache}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # torch shares the GPU
export GPU_OUT=$out GPU_SCRATCH=$scratch GPU_DEVICE=$device GPU_TINY=$tiny
card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2> /dev/null | head -1)
card=${card:-CPU} && echo "$card"
find_data

declare -A codes took
failed=0
for part in b c a d e f; do # the short ones first
  [[ ,$parts, == *,$part,* ]] || continue
  name=${NAMES[$part]} left=$((limit - SECONDS)) started=$SECONDS
  allowed=$((LIMITS[$part] < left ? LIMITS[$part] : left))
  if [ "$allowed" -lt 15 ]; then
    echo "== $part $name: left out, the time is up"
    codes[$part]=124
  else
    echo "== $part $name, at most $allowed seconds"
    timeout --kill-after=5 "$allowed" bash "$program" --part "$part" "$allowed" 2>&1 |
      tee "$out/$name.log"
    codes[$part]=${PIPESTATUS[0]}
  fi
  took[$part]=$((SECONDS - started))
  [ "${codes[$part]}" = 0 ] || failed=$((failed + 1))
  echo "== $part $name: exit code ${codes[$part]} after ${took[$part]} seconds"
  summary
done
echo "$failed parts failed; $SECONDS seconds; $out"
exit "$failed"
