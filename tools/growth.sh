#!/usr/bin/env bash
# How a training step of the paper's model grows: with the length of the window, with the batch,
# with the vocabulary, and with threads. For every batch size the fixed cost of a step is the one
# that fits its lengths best (least squares); shown is what is left, for a token, over that of the
# shortest window. Of vocabularies: the deviation from a straight line through the outer two. Of
# threads: the step's ratio over the peak's.
# usage: tools/growth.sh DATA [lengths|vocabulary|threads ..]
#   PRECISION=f32|bf16 (f32)   LENGTHS="35 70 140 280"   BATCHES="32 64"
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,8s/^# //p' "$0"; exit 2; }
data=$1
shift
[ $# -gt 0 ] || set -- lengths vocabulary threads
cargo build --release --locked --quiet
number() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
step() { # step V B T: milliseconds of a step, at its best (the median is another program's as well)
  target/release/ulmfit profile pretrain --recipe paper --vocab-size "$1" --batch-size "$2" --bptt "$3" --set pretrain.windows=fixed --min-freq 1 \
    --corpus "$data/wikitext-2/wiki.train.tokens.zst" --valid "$data/wikitext-2/wiki.valid.tokens.zst" \
    --device cpu --precision "${PRECISION:-f32}" --quiet --json | tail -n 1 | sed 's/.*"plain_ms":\[\([^]]*\)\].*/\1/' | tr , '\n' | sort -g | head -n 1
}
for part in "$@"; do
  case $part in
    lengths) for b in ${BATCHES:-32 64}; do
      for t in ${LENGTHS:-35 70 140 280}; do echo "$t $b $(step 30000 "$b" "$t")"; done | awk '
        { t[NR] = $1; b = $2; ms[NR] = $3; x = $1 * $2; sx += x; sy += $3; sxx += x * x; sxy += x * $3 }
        END {
          slope = (NR * sxy - sx * sy) / (NR * sxx - sx * sx); fixed = (sy - slope * sx) / NR
          printf "batch %d: fixed cost %.0f ms\n", b, fixed
          for (i = 1; i <= NR; i++) { left = (ms[i] - fixed) / t[i] / b; if (i == 1) first = left
            printf "  T %3d: %8.0f ms, %.4f ms a token, %.3f of the first\n", t[i], ms[i], left, left / first }
        }'
    done ;;
    vocabulary)
      for v in 10000 20000 30000; do echo "$v $(step $v 64 70)"; done | awk '
        { v[NR] = $1; ms[NR] = $2 }
        END { line = (ms[1] + ms[3]) / 2
          printf "vocabulary %d %d %d: %.0f %.0f %.0f ms; the middle one is %.3f of the line\n", v[1], v[2], v[3], ms[1], ms[2], ms[3], ms[2] / line }' ;;
    threads)
      for n in 1 2; do
        json=$(target/release/ulmfit bench --suite step --only lm_step --precision "${PRECISION:-f32}" --threads $n --device cpu --quiet --json | tail -n 1)
        echo "$(number best_ms <<< "$json") $(sed "s/.*\"${PRECISION:-f32}\":{\"one_thread\":[0-9.]*,\"all_threads\":\([0-9.]*\).*/\1/" <<< "$json")"
      done | awk '{ ms[NR] = $1; peak[NR] = $2 }
        END { s = ms[1] / ms[2]; p = peak[2] / peak[1]
          printf "two threads over one: the step %.3f (%.0f and %.0f ms), the peak %.3f (%.1f and %.1f GFLOP/s), ratio %.3f\n", s, ms[1], ms[2], p, peak[1], peak[2], s / p }' ;;
    *) echo "unknown part '$part'" >&2; exit 2 ;;
  esac
done
