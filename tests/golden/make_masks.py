"""Known dropout masks, by an implementation of its own (numpy) of DESIGN.md, "Randomness":
Philox4x32-10 (Salmon et al. 2011), the key of
a training, the sites and the rule of the masks. `tests/library/masks.rs` compares them with
`ulmfit::random`.
usage: python make_masks.py masks.json

masks.json: `philox` counter, key, output; `keys` (seed, stage, direction) -> key; `masks` the key
they were drawn with, `site` by name and index,
`word` = site and chunk, `step`, `p`, `threshold` (lanes below it are kept), `rows` as strings, 1 =
kept. Numbers are decimal."""
import json, math, sys
import numpy as np

STAGES = {'Pretrain': 1, 'FinetuneLm': 2, 'Classifier': 3, 'Other': 4}
DIRECTIONS = {'Forward': 0, 'Backward': 1}
# first number of each site, how many have one of their own below 256, and the first number of the
# others
SITES = {'EmbeddingRow': (1, 1, 0), 'Input': (2, 1, 0), 'Output': (3, 1, 0), 'Head': (16, 16, 0x100), 'Hidden': (32, 32, 0x1000),
         'Weight': (64, 32, 0x2000), 'Custom': (192, 64, 0)}
LOW = np.uint64(0xFFFFFFFF)

def philox(counter, key):
    """counter [..., 4], key [2] -> [..., 4]; four words of 32 bits kept in uint64."""
    x0, x1, x2, x3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        a, b = x0*np.uint64(0xD2511F53), x2*np.uint64(0xCD9E8D57)
        x0, x1, x2, x3 = (b >> np.uint64(32)) ^ x1 ^ np.uint64(k0), b & LOW, (a >> np.uint64(32)) ^ x3 ^ np.uint64(k1), a & LOW
        k0, k1 = (k0+0x9E3779B9) % 2**32, (k1+0xBB67AE85) % 2**32   # Weyl sequence: golden ratio and sqrt(3)-1
    return np.stack([x0, x1, x2, x3], -1)

def training_key(seed, stage, direction):
    text = int.from_bytes(b'ulmf', 'big'), int.from_bytes(b'it\0\1', 'big')
    return [int(x) for x in philox([STAGES[stage], DIRECTIONS[direction], *text], [seed % 2**32, seed >> 32])[:2]]

def mask(key, step, word, p, rows, columns):
    threshold = math.floor((1-p)*2**32)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing='ij')
    counter = np.stack([column//4, row, np.full_like(row, step), np.full_like(row, word)], -1)
    lane = np.take_along_axis(philox(counter, key), (column % 4)[..., None], -1)[..., 0]
    return threshold, lane < np.uint64(threshold)

# what the Random123 distribution publishes (kat_vectors, philox 4x32 10)
KNOWN = [([0]*4, [0]*2, '6627e8d5 e169c58d bc57ac4c 9b00dbd8'), ([2**32-1]*4, [2**32-1]*2, '408f276d 41c83b0e a20bc7c6 6d5451fd'),
         ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], 'd16cfe09 94fdcceb 5001e420 24126ea1')]
for counter, key, answer in KNOWN:
    assert [int(x) for x in philox(counter, key)] == [int(w, 16) for w in answer.split()]

KEYS = [(0, 'Pretrain', 'Forward'), (42, 'Pretrain', 'Forward'), (42, 'Pretrain', 'Backward'), (42, 'FinetuneLm', 'Forward'),
        (42, 'Classifier', 'Forward'), (43, 'Classifier', 'Backward'), (7 << 32 | 42, 'Other', 'Forward'), (2**64-1, 'Other', 'Backward')]
# (index into KEYS, site, index of the site, step, chunk, p, rows, columns)
MASKS = [(1, 'EmbeddingRow', None, 0, 0, .4, 5, 1), (1, 'Input', None, 0, 0, .4, 5, 37), (1, 'Hidden', 0, 1, 0, .4, 3, 10), (1, 'Hidden', 1, 1, 0, .4, 3, 10),
         (2, 'Hidden', 1, 1, 0, .4, 3, 10), (3, 'Weight', 0, 1000, 0, .5, 5, 13), (4, 'Weight', 2, 17, 3, .5, 5, 13), (3, 'Output', None, 1, 0, .4, 4, 36),
         (4, 'Head', 0, 123456, 0, .4, 5, 37), (5, 'Head', 1, 2**32-1, 0, .05, 5, 37), (0, 'Input', None, 2, 0, 0., 2, 5), (0, 'Input', None, 2, 0, 1., 2, 5),
         (6, 'Weight', 3, 9, 2**16-1, .5, 4, 35), (2, 'Hidden', 40, 2, 5, .4, 3, 10),
         (2, 'Weight', 32, 2, 5, .5, 3, 10), (4, 'Head', 17, 3, 0, .2, 3, 10), (7, 'Custom', 63, 0, 1, .4, 5, 3)]

def compact(name, rows): return f' "{name}": [\n' + ',\n'.join('  '+json.dumps(r) for r in rows) + '\n ]'

keys = [dict(seed=s, stage=t, direction=d, key=training_key(s, t, d)) for s, t, d in KEYS]
assert len({tuple(k['key']) for k in keys}) == len(keys)
masks = []
for k, site, index, step, chunk, p, rows, columns in MASKS:
    low, count, high = SITES[site]
    number = low+(index or 0) if (index or 0) < count else high+index-count
    word = (number & 255) << 24 | (number >> 8) << 16 | chunk
    threshold, kept = mask(keys[k]['key'], step, word, p, rows, columns)
    masks.append(dict(**keys[k], site=site, index=index, chunk=chunk, word=word, step=step, p=p, threshold=threshold, rows=[''.join('01'[int(x)] for x in r) for r in kept]))
known = [dict(counter=c, key=k, output=[int(w, 16) for w in a.split()]) for c, k, a in KNOWN]
with open(sys.argv[1], 'w') as f: f.write('{\n' + ',\n'.join([compact('philox', known), compact('keys', keys), compact('masks', masks)]) + '\n}\n')
