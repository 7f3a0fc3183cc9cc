#!/usr/bin/env bash
# This program on the peer's task, with the peer's recipe (trec.toml): one language model from
# WikiText-2, then five seeds of fine-tuning and classifying TREC-6, and the classifier from
# scratch. Prints one JSON line for each stage. A finished stage is not run again.
# usage: tools/peer/ours.sh DATA_DIR OUT_DIR   (the binary: cargo build --release)
set -euo pipefail
data=$1 out=$2
ulmfit=${ULMFIT:-target/release/ulmfit}
recipe=$(dirname "$0")/trec.toml
mkdir -p "$out"
train=$data/trec/train_5500.label test=$data/trec/TREC_10.label
stage() { printf '%s ' "$1"; shift; "$ulmfit" "$@" --config "$recipe" --quiet --json --resume | tail -n 1; }

stage pretraining: pretrain --seed 0 --corpus "$data/wikitext-2/wiki.train.tokens.zst" --valid "$data/wikitext-2/wiki.valid.tokens.zst" --out "$out/pretrain"
for seed in 0 1 2 3 4; do
  stage "fine-tuning, seed $seed:" finetune-lm --seed $seed --model "$out/pretrain" --text "$train" --out "$out/lm-$seed"
  stage "classifier, seed $seed:" train-classifier --seed $seed --model "$out/lm-$seed" --train "$train" --test "$test" --out "$out/classifier-$seed"
done
for seed in 0 1 2; do
  stage "from scratch, seed $seed:" train-classifier --seed $seed --model none --unfreezing full --discriminative off \
    --train "$train" --test "$test" --out "$out/scratch-$seed"
done
