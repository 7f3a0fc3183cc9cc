"""fastai's tokenizer on the same documents as ours.

tokenize_fastai.py prepare SOURCE N F.jsonl      the first N documents (0: all) of a labelled CSV without a header, or of a folder in a tar
                                          (ARCHIVE::FOLDER), either also as .zst, as one {"text": …} a line
tokenize_fastai.py time F.jsonl WORKERS OUT      tokenizes as fastai's `tokenize_df` does and writes one JSON array of tokens a line; prints
                                          documents, tokens, wall seconds and CPU seconds (user + system, all processes)
tokenize_fastai.py compare A B                   how many lines of two outputs are alike

Loading fastai, reading and writing are not timed; making the worker processes is, because every call does it.
"""
import csv, io, json, resource, subprocess, sys, tarfile, time


def opened(path):
    if not path.endswith(".zst"):
        return open(path, "rb")
    return subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE).stdout


def documents(source):
    archive, _, folder = source.partition("::")
    if folder:
        with tarfile.open(fileobj=opened(archive), mode="r|") as tar:
            for member in tar:
                if member.isfile() and member.name.startswith(folder + "/"):
                    yield tar.extractfile(member).read().decode("utf-8")
    else:
        for row in csv.reader(io.TextIOWrapper(opened(archive), "utf-8", newline="")):
            yield " ".join(row[1:])


def prepare(source, n, out):
    with open(out, "w", encoding="utf-8") as f:
        for i, text in enumerate(documents(source)):
            if 0 < n <= i:
                break
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def cpu():
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, who))


def timed(path, workers, out):
    from fastai.text.core import WordTokenizer, defaults, parallel_tokenize
    texts = [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    begin, before = time.perf_counter(), cpu()
    pairs = parallel_tokenize(texts, tok=WordTokenizer(), rules=defaults.text_proc_rules, n_workers=workers)
    tokens = [t for _, t in sorted(pairs, key=lambda pair: pair[0])]
    seconds, used = time.perf_counter() - begin, cpu() - before
    with open(out, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(list(t), ensure_ascii=False) + "\n" for t in tokens)
    print(len(texts), sum(map(len, tokens)), round(seconds, 3), round(used, 3))


def compare(a, b):
    pairs = list(zip(open(a, encoding="utf-8"), open(b, encoding="utf-8"), strict=True))
    alike = sum(json.loads(x) == json.loads(y) for x, y in pairs)
    print(f"{alike} of {len(pairs)} documents have the same tokens")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", source, n, out]:
            prepare(source, int(n), out)
        case ["time", path, workers, out]:
            timed(path, int(workers), out)
        case ["compare", a, b]:
            compare(a, b)
        case _:
            sys.exit(__doc__)
