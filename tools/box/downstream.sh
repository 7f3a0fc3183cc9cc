#!/usr/bin/env bash
# What a pretrained model is worth on three tasks, by validation error: test sets are not read.
# TREC-6 with 1,090 questions held out, SST-2 with its development set, AG News with 500 labels and
# 6,117 documents held out. Prints one JSON line for each task and seed.
# usage: tools/box/downstream.sh DATA MODEL OUT [SEED..]   (the binary: $ULMFIT or
#                                                          target/release/ulmfit)
set -euo pipefail
data=$1 model=$2 out=$3
shift 3
[ $# -gt 0 ] || set -- 0 1 2
ulmfit=${ULMFIT:-target/release/ulmfit}
common=(--recipe fastai2 --schedule one-cycle --bptt 70 --weight-decay 0.01 --min-freq 1 --quiet --json --resume)
[ -z "${THREADS:-}" ] || common+=(--threads "$THREADS")
[ -z "${PRECISION:-}" ] || common+=(--precision "$PRECISION")
mkdir -p "$out"

# task NAME EPOCHS_OF_THE_LANGUAGE_MODEL DATA_FLAGS..
task() {
  local name=$1 epochs=$2
  shift 2
  local text=()
  [ "$name" != ag ] || text=(--format csv-no-header)
  "$ulmfit" finetune-lm "${common[@]}" --model "$model" --text "$1" "${text[@]}" --batch-size 32 --epochs "$epochs" \
    --unfreezing full --lr 8e-3 --drop-mult 0.5 --seed 0 --out "$out/$name/lm" >/dev/null
  shift
  for seed in "${seeds[@]}"; do
    printf '%s seed %s: ' "$name" "$seed"
    "$ulmfit" train-classifier "${common[@]}" --model "$out/$name/lm" "$@" --batch-size 32 --unfreezing full --discriminative 2 \
      --lr 1e-2 --drop-mult 0.5 --seed "$seed" --out "$out/$name/classifier-$seed" |
      tail -n 1 | python3 -c 'import json, sys; r = json.load(sys.stdin); print(json.dumps({k: r[k] for k in ("valid_error", "valid_loss", "train_loss", "seconds")}))'
  done
}
seeds=("$@")
trec=$data/trec/train_5500.label
task trec 6 "$trec" --train "$trec" --valid-fraction 0.2 --epochs 8
sst=$data/sst/stsa.binary.train
task sst2 4 "$sst" --train "$sst" --valid "$data/sst/stsa.binary.dev" --epochs 5
ag=$data/ag_news/train_subset_textonly.csv.zst
task ag 3 "$ag" --train "$ag" --format csv-no-header --labels 500 --valid-fraction 0.2 --epochs 12
