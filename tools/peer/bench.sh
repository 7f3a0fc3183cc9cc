#!/usr/bin/env bash
# This program and PyTorch (fastai) in turn, pair by pair, on the same steps: the machine's speed drifts over minutes, and a pair shares it.
# Prints both times of every pair and their ratio, then the median ratio with its spread. Above 1: this program is faster.
# usage: tools/peer/bench.sh PYTHON [PAIRS] [ROW..]   PYTHON: of the environment that setup.sh makes; ROW: lm_step lm_evaluation classifier_step
# The binary: $ULMFIT, else target/release/ulmfit (cargo build --release).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }
python=$1 pairs=${2:-5}
shift $(($# < 2 ? $# : 2))
ulmfit=${ULMFIT:-$here/../../target/release/ulmfit}
[ -x "$ulmfit" ] || { echo "no binary at $ulmfit: cargo build --release, or set ULMFIT"; exit 1; }
"$python" -c 'import torch, fastai' 2>/dev/null || { echo "$python has no PyTorch with fastai: tools/peer/setup.sh makes an environment"; exit 1; }

ours() { # ours ROW: milliseconds
  "$ulmfit" bench --suite step --only "$1" --device cpu --json --quiet | "$python" -c '
import json, sys
rows = json.loads(sys.stdin.read().splitlines()[-1])["rows"]
[row] = [row for row in rows if row["name"] == sys.argv[1] and row["precision"] == "f32"]
print(row["ms"])' "$1"
}

peer() { # peer CASE: milliseconds; the settings of env.sh are for it alone
  (. "$here/env.sh" && cd "$here" && "$python" bench_fastai.py "$1" --iters 3) |
    awk -v name="$1" '$1 == name && $2 == "total" { for (i = 3; i < NF; i++) if ($i == "median") print $(i + 1) }'
}

for row in "${@:-lm_step lm_evaluation classifier_step}"; do
  for name in $row; do
    case $name in
      lm_step) case=train ;;
      lm_evaluation) case=infer ;;
      classifier_step) case=clas ;;
      *) echo "no such row: $name"; exit 2 ;;
    esac
    for ((pair = 1; pair <= pairs; pair++)); do
      # the one that comes first changes from pair to pair
      if ((pair % 2)); then a=$(ours "$name") b=$(peer "$case"); else b=$(peer "$case") a=$(ours "$name"); fi
      echo "$name $pair $a $b"
    done | "$python" -c '
import statistics, sys
ratios = []
for line in sys.stdin:
    name, pair, ours, peer = line.split()
    ratios.append(float(peer) / float(ours))
    print(f"{name:16} pair {pair}: ours {float(ours):9.1f} ms, PyTorch {float(peer):9.1f} ms, ratio {ratios[-1]:.3f}", flush=True)
print(f"{name:16} ratio: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs")'
  done
done
