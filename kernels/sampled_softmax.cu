// The target of every row against negatives that all rows share.
#include "common.cuh"
#include "bf16.cuh"
#include "row_parts.cuh"

// How often a negative counts: `NEGATIVE_WEIGHT` of src/ops/sampled_softmax/cpu.rs
#define NEGATIVE_WEIGHT 2.0f

// A block a row; scores[row, k] are those of the negatives, `parts` what their product has told
// about them. losses[row] = log(e^s_y + Σ 2·e^s_k) - s_y with s_y = hidden[row]·weight[target] +
// bias. With `gradient` the scores become their gradients times `scale`, also in a rounded copy,
// and d_target[row] that of s_y; without it they are not read.
__global__ void __launch_bounds__(BLOCK)
    sampled_rows(float *scores, const uint4 *parts, u32 tiles, const float *hidden, const float *weight, const float *bias, const u32 *targets,
                 float *losses, float *d_target, u32 k, u32 e, float scale, u32 with_bias, u32 gradient, RoundedCopy copy) {
  u32 target = targets[block_x()];
  const float *h = hidden + (u64)block_x() * e, *w = weight + (u64)target * e;
  float of_target = 0.0f;
  for (u32 i = thread(); i < e; i += BLOCK) of_target += h[i] * w[i];
  of_target = block_sum(of_target);
  if (with_bias) of_target += bias[target];
  RowPart negatives = row_of_parts(parts + (u64)block_x() * tiles, tiles);
  // the sum is relative to the largest negative; bring it and the target to the common maximum
  float top = larger(negatives.max, of_target), shift = NEGATIVE_WEIGHT * exponential(negatives.max - top);
  float total = shift * negatives.sum + exponential(of_target - top);
  if (thread() == 0) {
    losses[block_x()] = logarithm(total) + top - of_target;
    // 1 - p of the target, without cancellation where p is close to 1
    if (gradient) d_target[block_x()] = -(shift * negatives.sum / total) * scale;
  }
  if (!gradient) return;
  float *row = scores + (u64)block_x() * k, factor = shift / total * scale;
  // a copy has zeros beyond the row
  u32 end = copy.ld != 0 ? copy.ld : k;
  for (u32 i = thread(); i < end; i += BLOCK) {
    float d = 0.0f;
    if (i < k) row[i] = d = exponential(row[i] - negatives.max) * factor;
    if (copy.ld != 0) copy.put(block_x(), i, d);
  }
}

// dh[row] += d_target[row]·weight[targets[row]] over n rows of e; a thread for four columns
__global__ void __launch_bounds__(BLOCK)
    add_targets(const float *weight, const u32 *targets, const float *d_target, float *dh, u32 n, u32 e) {
  u32 quads = (e + 3) / 4, i = global_thread(), r = i / quads, quad = i % quads;
  if (r >= n) return;
  float *row = dh + (u64)r * e;
  store_columns(row, quad, e, load_columns(row, quad, e) + d_target[r] * load_columns(weight + (u64)targets[r] * e, quad, e));
}

// out[word] += factor[0]·Σ over the places where a word stands, in their order: place p < k is
// negative p, with d[p]; the others are rows, with d_target[p - k]·hidden[p - k], or d_target alone
// for a bias (no `hidden`). A warp has one of the n sorted places and WARP_COLUMNS; that of a
// word's first place adds up all of them.
__global__ void __launch_bounds__(BLOCK)
    scatter_words(const u64 *places, const float *d, const float *d_target, const float *hidden, const float *factor, float *out, u32 n, u32 k,
                  u32 e, u32 with_hidden) {
  u32 chunks = (e + WARP_COLUMNS - 1) / WARP_COLUMNS, warp = global_thread() / 32, first = warp / chunks;
  if (first >= n || !begins_word(places, first)) return;
  float by = factor[0];
  add_places(
      places, n, first, out + (u64)word_at(places[first]) * e, e, warp % chunks,
      [&](u32 p, u32 quad) -> float4 {
        if (p < k) return load_columns(d + (u64)p * e, quad, e);
        if (with_hidden) return load_columns(hidden + (u64)(p - k) * e, quad, e);
        return {1.0f, 1.0f, 1.0f, 1.0f};
      },
      [&](float4 sum, u32 p, u32, float4 x) { return sum + (p < k ? by : by * d_target[p - k]) * x; });
}
