#!/usr/bin/env python3
"""The table of tools/results.sh: docs/results.md from the results in a folder.

usage: tools/results.py OUT > docs/results.md
"""
import json
import pathlib
import sys

METHODS = ["linear model", "from scratch", "base", "base, both directions", "network and linear model"]
SETS = ["trec", "sst2", "sst5", "mr", "ag_news", "dbpedia", "yelp", "20newsgroups", "imdb"]
LABELS = ["all", "500", "100"]


def shown(row):
    if row is None:
        return ""
    sd = row["error_sd"]
    return f"{row['error']:.2f}" + (f" ({sd:.2f})" if sd is not None else "")


def main():
    out = pathlib.Path(sys.argv[1])
    print("# Results\n\nMade by `tools/results.sh`. Test error in percent, mean over the seeds, their standard")
    print("deviation in brackets. p: McNemar's exact test of the last column against the linear model, on")
    print("the test documents of the first seed. Settings come from the recipe; no test label chose any.\n")
    print("| set | labels | " + " | ".join(METHODS) + " | p | seconds | peak MiB |")
    print("|---|---|" + "---|" * (len(METHODS) + 3))
    for name in SETS:
        for labels in LABELS:
            place = out / f"{name}-{labels}"
            if not (place / "done.json").is_file():
                continue
            result = json.loads((place / "done.json").read_text())
            rows = {row["method"]: row for row in result["rows"]}
            pairs = [pair for pair in result["paired"] if pair["against"] == "linear model"]
            p = f"{pairs[0]['p']:.3f}" if pairs else ""
            memory = result["peak_rss_mb"]
            cells = [shown(rows.get(method)) for method in METHODS]
            print(f"| {name} | {labels} | " + " | ".join(cells) + f" | {p} | {result['seconds']:.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
