// What the product that computes rows of logits tells about each of them, a tile of columns at a
// time: nobody has to read the logits for it, and where only the loss is wanted they are not even
// stored.
#pragma once

// Of some columns of a row: the largest logit, Σ e^(logit - max), the first column that has the
// largest, and the target's logit, 0 if it is in none of them.
struct RowPart {
  float max, sum;
  u32 best;
  float of_target;
};
#define NO_COLUMN 0xFFFFFFFFu

// Flags of the product, beside those of any: whether rows have targets, and whether the logits are
// stored.
#define TARGETS 8
#define KEEP 16

INLINE void store_part(uint4 *to, const RowPart &p) { *to = {to_bits(p.max), to_bits(p.sum), p.best, to_bits(p.of_target)}; }
INLINE RowPart load_part(const uint4 *from) {
  uint4 words = load_words(from);
  return {from_bits(words.x), from_bits(words.y), words.z, from_bits(words.w)};
}

// One in shared memory, at a multiple of 16.
INLINE RowPart load_shared_part(u32 at) {
  float4 words = load_shared<0>(at);
  return {words.x, words.y, to_bits(words.z), words.w};
}

// Of the values of LANES neighbouring lanes, which all get it: COUNT a lane, the j-th one value(j)
// in column(j). Columns from n on do not count. The target may be NO_COLUMN. Without branches: all
// lanes of a warp take part in the exchange.
template <int LANES, int COUNT, typename Value, typename Column>
INLINE RowPart part_of_lanes(const Value &value, const Column &column, u32 n, u32 target) {
  RowPart p = {NEGATIVE_INFINITY, 0.0f, NO_COLUMN, 0.0f};
#pragma unroll
  for (int j = 0; j < COUNT; ++j) p.max = larger(p.max, column(j) < n ? value(j) : NEGATIVE_INFINITY);
#pragma unroll
  for (int d = LANES / 2; d > 0; d /= 2) p.max = larger(p.max, other_lane(p.max, d));
#pragma unroll
  for (int j = 0; j < COUNT; ++j) {
    float x = value(j), e = exponential(x - p.max);
    u32 c = column(j);
    bool inside = c < n;
    p.sum += inside ? e : 0.0f;
    p.best = smaller(p.best, (inside & (x == p.max)) ? c : NO_COLUMN);
    p.of_target = c == target ? x : p.of_target;
  }
#pragma unroll
  for (int d = LANES / 2; d > 0; d /= 2) {
    p.sum += other_lane(p.sum, d);
    p.best = smaller(p.best, other_lane(p.best, d));
    p.of_target += other_lane(p.of_target, d);
  }
  return p;
}

// Both together.
INLINE RowPart join(const RowPart &a, const RowPart &b) {
  float max = larger(a.max, b.max);
  return {max, a.sum * exponential(a.max - max) + b.sum * exponential(b.max - max),
          smaller(a.max == max ? a.best : NO_COLUMN, b.max == max ? b.best : NO_COLUMN), a.of_target + b.of_target};
}

// A row's, from its parts, for every thread of the block. (That of the target is one part's:
// `tile_columns` tells which.)
INLINE RowPart row_of_parts(const uint4 *parts, u32 count) {
  RowPart p = {NEGATIVE_INFINITY, 0.0f, NO_COLUMN, 0.0f};
  if (thread() < count) p = load_part(parts + thread());
  for (u32 i = thread() + BLOCK; i < count; i += BLOCK) p = join(p, load_part(parts + i));
  float max = block_max(p.max);
  return {max, block_sum(p.sum * exponential(p.max - max)), block_min(p.max == max ? p.best : NO_COLUMN), 0.0f};
}
