#!/usr/bin/env bash
# This program on the peer's task, with the peer's recipe: one language model from WikiText-2, then five seeds of fine-tuning and classifying TREC-6,
# and the classifier from scratch. Prints one JSON line for each stage.
# usage: tools/peer/ours.sh DATA_DIR OUT_DIR   (the binary: cargo build --release)
set -euo pipefail
data=$1 out=$2
ulmfit=${ULMFIT:-target/release/ulmfit}
mkdir -p "$out"
common=(--recipe fastai2 --tokenizer whitespace --batch-size 64 --schedule one-cycle --weight-decay 0.01 --quiet --json --overwrite)
sizes=(--emb-size 100 --hidden-size 300 --layers 2 --vocab-size 10000)
classifier=(--bptt 72 --epochs 1,1,1,17 --lr 1e-2 --drop-mult 0.5 --valid-fraction 0)
train=$data/trec/train_5500.label test=$data/trec/TREC_10.label
last() { tail -n 1; }

"$ulmfit" pretrain "${common[@]}" "${sizes[@]}" --min-freq 3 --bptt 70 --epochs 1 --lr 5e-3 --drop-mult 0.2 --seed 0 \
  --corpus "$data/wikitext-2/wiki.train.tokens.zst" --valid "$data/wikitext-2/wiki.valid.tokens.zst" --out "$out/pretrain" | last
for seed in 0 1 2 3 4; do
  "$ulmfit" finetune-lm "${common[@]}" --model "$out/pretrain" --text "$train" --min-freq 2 --bptt 70 --epochs 1,8 --lr 4e-3 --drop-mult 0.5 \
    --unfreezing gradual --discriminative 3.1622776601683795 --valid-fraction 0.1 --seed $seed --out "$out/lm-$seed" | last
  "$ulmfit" train-classifier "${common[@]}" "${classifier[@]}" --model "$out/lm-$seed" --train "$train" --test "$test" \
    --unfreezing gradual --discriminative 2.6 --seed $seed --out "$out/classifier-$seed" | last
done
for seed in 0 1; do
  "$ulmfit" train-classifier "${common[@]}" "${classifier[@]}" "${sizes[@]}" --model none --min-freq 2 --train "$train" --test "$test" \
    --unfreezing full --discriminative off --seed $seed --out "$out/scratch-$seed" | last
done
