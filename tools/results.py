#!/usr/bin/env python3
"""The table of tools/results.sh: docs/results.md from the results in a folder.

The peers' columns come from tools/peer/baselines.csv. The other text of the page stands in
tools/results.head.md and tools/results.tail.md.

usage: tools/results.py OUT > docs/results.md
"""
import csv
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
METHODS = ["linear model", "from scratch", "base", "base, both directions", "network and linear model"]
SETS = ["trec", "sst2", "sst5", "mr", "ag_news", "dbpedia", "yelp", "20newsgroups", "imdb"]
LABELS = ["all", "500", "100"]
HEADER = ["set", "labels", "seeds", "scikit-learn linear", "fastText", "fastai", *METHODS, "p", "seconds", "MiB"]


def shown(row):
    if row is None:
        return ""
    sd = row["error_sd"]
    return f"{row['error']:.1f}" + (f" ± {sd:.1f}" if sd is not None else "")


def line(name, labels, result, peers):
    rows = {row["method"]: row for row in result["rows"]}
    seeds = max(len(row["errors"]) for row in rows.values())
    pair = next((pair for pair in result["paired"] if pair["against"] == "linear model"), None)
    peer = peers.get((name, labels), {})
    cells = [name, labels, str(seeds), *(peer.get(key, "") for key in ("linear", "fasttext", "fastai"))]
    cells += [shown(rows.get(method)) for method in METHODS]
    cells += [f"{pair['p']:.3f}" if pair else "", f"{result['seconds'] / seeds:.0f}", f"{result['peak_rss_mb']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main():
    out = pathlib.Path(sys.argv[1])
    with open(HERE / "peer/baselines.csv", newline="") as file:
        peers = {(row["set"], row["labels"]): row for row in csv.DictReader(file)}
    print((HERE / "results.head.md").read_text())
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for name in SETS:
        for labels in LABELS:
            place = out / f"{name}-{labels}/done.json"
            if place.is_file():
                print(line(name, labels, json.loads(place.read_text()), peers))
    tail = HERE / "results.tail.md"
    if tail.is_file():
        print("\n" + tail.read_text().rstrip())


if __name__ == "__main__":
    main()
