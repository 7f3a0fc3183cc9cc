#!/usr/bin/env bash
# How well `run` classifies from a model, on documents held out of the training files: what a new
# model or a new setting is judged by. Test sets are not read. Each line: the task, then the errors
# in percent of the linear model, the network, and both together.
# usage: tools/box/develop.sh DATA MODEL OUT [TASK..]
# TASK: trec-500 trec-all sst2-500 sst2-all mr-500 ag_news-500 (all of them, unless some are named)
# Environment: ULMFIT (target/release/ulmfit), SEEDS (1), FLAGS (more flags of `ulmfit compare`).
set -euo pipefail
[ $# -ge 3 ] || { sed -n '/^# usage:/,/^# TASK/s/^# //p' "$0" >&2; exit 2; }
data=$1 model=$2 out=$3
shift 3
[ $# -gt 0 ] || set -- trec-500 trec-all sst2-500 sst2-all mr-500 ag_news-500
ulmfit=${ULMFIT:-target/release/ulmfit}
mkdir -p "$out/data"

# Every training file as two tables, one to learn from and one to measure with. SST-2 is measured
# with its development set. Of the others every sixth document is held out; of MR only documents
# that are not test documents of docs/results.md (every tenth) are read.
python3 - "$data" "$out/data" <<'PYTHON'
import csv, io, pathlib, subprocess, sys

data, out = map(pathlib.Path, sys.argv[1:])


def save(name, rows):
    with open(out / name, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["label", "text"])
        table.writerows(rows)


def cut(name, rows):
    save(f"{name}.train.csv", [row for i, row in enumerate(rows) if i % 6 != 5])
    save(f"{name}.measure.csv", [row for i, row in enumerate(rows) if i % 6 == 5])


trec = (data / "trec/train_5500.label").read_text("latin-1").splitlines()
cut("trec", [(line.split(":")[0], line.split(" ", 1)[1]) for line in trec])
for part, name in (("train", "train"), ("dev", "measure")):
    lines = (data / f"sst/stsa.binary.{part}").read_text().splitlines()
    save(f"sst2.{name}.csv", [line.split(" ", 1) for line in lines])
mr = []
for sign in ("pos", "neg"):
    lines = (data / f"mr/rt-polarity.{sign}").read_bytes().decode("latin-1").split("\n")
    mr += [(sign, line.strip()) for i, line in enumerate(lines, 1) if line and i % 10 != 0]
cut("mr", mr)
text = subprocess.run(["zstd", "-dcq", data / "ag_news/train_subset_textonly.csv.zst"], check=True, capture_output=True)
cut("ag_news", list(csv.reader(io.StringIO(text.stdout.decode()))))
PYTHON

for task in "$@"; do
  name=${task%-*} labels=${task##*-} few=()
  [ "$labels" = all ] || few=(--labels "$labels")
  # shellcheck disable=SC2086 # FLAGS is several words
  "$ulmfit" compare --train "$out/data/$name.train.csv" --test "$out/data/$name.measure.csv" --base "$model" \
    --seeds "${SEEDS:-1}" --seed 0 --skip scratch --skip backward "${few[@]}" ${FLAGS:-} --quiet --json \
    --out "$out/$task" | tail -n 1 >"$out/$task.json"
  python3 - "$task" "$out/$task.json" <<'PYTHON'
import json, sys

result = json.load(open(sys.argv[2]))
errors = {row["method"]: " ".join(f"{error:.1f}" for error in row["errors"]) for row in result["rows"]}
print(sys.argv[1], *(f"{method}: {errors[method]};" for method in errors), f"{result['seconds']:.0f} s")
PYTHON
done
