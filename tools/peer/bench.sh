#!/usr/bin/env bash
# This program and PyTorch (fastai) in turn, pair by pair, on the same work: the machine's speed
# drifts over minutes, and a pair shares it. Prints both times of every pair and their ratio, then
# the median ratio with its spread. Above 1: this program is faster.
# usage: tools/peer/bench.sh PYTHON [PAIRS] [ROW..]   PYTHON: of the environment that setup.sh makes
#   ROW: NAME, NAME:bf16 or NAME:bf16:default (default: the peer in f32 as it is installed, without
#   env.sh); the NAMEs are lm_step lm_step_small lm_evaluation classifier_step predict_short
#   predict_reviews
# The binary: $ULMFIT, else target/release/ulmfit (cargo build --release).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,8s/^# //p' "$0"; exit 2; }
python=$1 pairs=${2:-5}
shift $(($# < 2 ? $# : 2))
ulmfit=${ULMFIT:-$here/../../target/release/ulmfit}
[ -x "$ulmfit" ] || { echo "no binary at $ulmfit: cargo build --release, or set ULMFIT"; exit 1; }
"$python" -c 'import torch, fastai' 2>/dev/null || { echo "$python has no PyTorch with fastai: tools/peer/setup.sh makes an environment"; exit 1; }

ours() { # ours NAME FORMAT: milliseconds
  local suite=step
  case $1 in predict_*) suite=predict ;; esac
  "$ulmfit" bench --suite $suite --only "$1" --precision "$2" --device cpu --json --quiet | "$python" -c '
import json, sys
[row] = json.loads(sys.stdin.read().splitlines()[-1])["rows"]
print(row["ms"])'
}

peer() { # peer FORMAT SETTINGS CASE [ARGUMENT..]: milliseconds
  local format=$1 settings=$2 name=$3
  shift 2
  [ "$format" = f32 ] || set -- "$@" --bf16
  (if [ "$settings" = tuned ]; then . "$here/env.sh"; fi && cd "$here" && "$python" bench_fastai.py "$@" --iters 3) |
    awk -v name="$name" '$1 == name && $2 == "total" { for (i = 3; i < NF; i++) if ($i == "median") print $(i + 1) }'
}

[ $# -gt 0 ] || set -- lm_step lm_step:bf16 lm_step_small lm_evaluation lm_evaluation:bf16 classifier_step classifier_step:bf16 predict_short \
  predict_reviews predict_reviews:bf16 predict_reviews:bf16:default
for row in "$@"; do
  IFS=: read -r name format settings <<< "$row:"
  settings=${settings%:} format=${format:-f32}
  case $name in
    lm_step) case=(train) ;;
    lm_step_small) case=(train --vocab 10000 --emb 100 --hid 300 --layers 2) ;;
    lm_evaluation) case=(infer) ;;
    classifier_step) case=(clas) ;;
    predict_short) case=(short) ;;
    predict_reviews) case=(reviews) ;;
    *) echo "no such row: $name"; exit 2 ;;
  esac
  case $format:$settings in
    f32: | bf16:) theirs=("$format" tuned) ;;
    bf16:default | f32:default) theirs=(f32 default) ;;
    *) echo "no such row: $row"; exit 2 ;;
  esac
  for ((pair = 1; pair <= pairs; pair++)); do
    # the one that comes first changes from pair to pair
    if ((pair % 2)); then
      a=$(ours "$name" "$format") b=$(peer "${theirs[@]}" "${case[@]}")
    else
      b=$(peer "${theirs[@]}" "${case[@]}") a=$(ours "$name" "$format")
    fi
    echo "$row $pair $a $b"
  done | "$python" -c '
import statistics, sys
ratios = []
for line in sys.stdin:
    name, pair, ours, peer = line.split()
    ratios.append(float(peer) / float(ours))
    print(f"{name:28} pair {pair}: ours {float(ours):9.1f} ms, PyTorch {float(peer):9.1f} ms, ratio {ratios[-1]:.3f}", flush=True)
print(f"{name:28} ratio: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs")'
done
