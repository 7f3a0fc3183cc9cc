#!/usr/bin/env bash
# A language model trained 300 steps on WikiText-2, with the operands of its products in f32 and in
# bf16: both perplexities, and their ratio. Fails where bf16 ends more than 1 % away.
# usage: tools/precision.sh DATA OUT [SEED..]   (seed 42)
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
data=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- 42
cargo build --release --locked --quiet
ulmfit=target/release/ulmfit
perplexity() { # perplexity SEED PRECISION
  $ulmfit pretrain --corpus "$data/wikitext-2/wiki.train.tokens.zst" --valid "$data/wikitext-2/wiki.valid.tokens.zst" --out "$out/$2-$1" --overwrite \
    --recipe paper --vocab-size 10000 --emb-size 100 --hidden-size 300 --layers 2 --batch-size 32 --max-steps 300 --set pretrain.drop_mult=0.3 \
    --device cpu --seed "$1" --precision "$2" --quiet --json | tail -n 1 | sed 's/.*"perplexity":\([0-9.]*\).*/\1/'
}
status=0
for seed in "$@"; do
  full=$(perplexity "$seed" f32) half=$(perplexity "$seed" bf16)
  awk -v seed="$seed" -v full="$full" -v half="$half" 'BEGIN {
    ratio = half / full
    printf "seed %s: perplexity %.2f in f32, %.2f in bf16, ratio %.4f\n", seed, full, half, ratio
    exit ratio > 1.01 || ratio < 0.99
  }' || status=1
done
exit $status
