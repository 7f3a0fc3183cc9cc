#!/usr/bin/env python3
"""How far the words of a language model lie from each other, by their frequency.

usage: tools/box/rows.py MODEL/model.safetensors

Words are in the order of their frequency. For each range of them: the mean length of their rows in
the embedding, and the length of the mean of the rows. Where the two are alike, the words share one
vector and differ little.
"""
import array
import json
import math
import struct
import sys

RANGES = [(10, 1_000), (1_000, 5_000), (5_000, 15_000), (15_000, 30_000), (30_000, 60_000)]


def embedding(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))["encoder.weight"]
        if entry["dtype"] != "F32":
            sys.exit(f"{path}: encoder.weight is {entry['dtype']}, not F32")
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        values = array.array("f", file.read(end - start))
    return values, *entry["shape"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split("\n\n")[1])
    values, words, size = embedding(sys.argv[1])
    for first, last in RANGES:
        last = min(last, words)
        if first >= last:
            continue
        rows = [values[i * size : (i + 1) * size] for i in range(first, last)]
        length = sum(math.sqrt(sum(v * v for v in row)) for row in rows) / len(rows)
        mean = [sum(column) / len(rows) for column in zip(*rows)]
        shared = math.sqrt(sum(v * v for v in mean))
        print(f"words {first} to {last}: length {length:.2f}, of the mean {shared:.2f}")


if __name__ == "__main__":
    main()
