// Log-probabilities over a vocabulary in parts: see src/ops/adaptive_softmax.
#include "common.cuh"

#define NO_TOMBSTONE 0xFFFFFFFFu

// out[row, first + c] = part[row, c] + head[row, tombstone], for `count` columns c of a part of
// `width`; without a tombstone, of the head itself, nothing is added. `out` has v columns, `head`
// head_width.
__global__ void __launch_bounds__(BLOCK)
    place_part(const float *part, u32 width, const float *head, u32 head_width, u32 tombstone, float *out, u32 v, u32 first, u32 count,
               u32 rows) {
  u32 i = global_thread();
  if (i >= rows * count) return;
  u32 row = i / count, column = i % count;
  float above = tombstone == NO_TOMBSTONE ? 0.0f : head[(u64)row * head_width + tombstone];
  out[(u64)row * v + first + column] = part[(u64)row * width + column] + above;
}

// A block a row of log-probabilities over v words. losses[row] = -log p(target); correct[row]:
// whether the target is the first of the likeliest.
__global__ void __launch_bounds__(BLOCK)
    row_results(const float *log_probabilities, const u32 *targets, float *losses, u32 *correct, u32 v) {
  const float *row = log_probabilities + (u64)block_x() * v;
  u32 target = targets[block_x()], better = 0;
  float of_target = row[target];
  for (u32 i = thread(); i < v; i += BLOCK) {
    float x = row[i];
    better |= (u32)(x > of_target) | ((u32)(x == of_target) & (u32)(i < target));
  }
  better = block_or(better);
  if (thread() != 0) return;
  losses[block_x()] = -of_target;
  correct[block_x()] = better == 0;
}
