// Rows of logits over a vocabulary, after the product has told about their parts
// (kernels/row_parts.cuh): a block a row.
#include "common.cuh"
#include "bf16.cuh"
#include "row_parts.cuh"

// losses[row] = logΣ exp - logit of the target; correct[row]: whether the target is the first of
// the most probable. With `gradient` the row becomes (softmax - onehot)·scale: in place (1), in the
// rounded copy alone (2), or in both (3); without it the logits are not read.
__global__ void __launch_bounds__(BLOCK)
    softmax_rows(float *logits, const uint4 *parts, u32 tiles, u32 tile_columns, const u32 *targets, float *losses, u32 *correct, u32 v,
                 float scale, u32 gradient, RoundedCopy copy) {
  parts += (u64)block_x() * tiles;
  u32 target = targets[block_x()];
  RowPart all = row_of_parts(parts, tiles);
  if (thread() == 0) {
    losses[block_x()] = logarithm(all.sum) + all.max - load_part(parts + target / tile_columns).of_target;
    correct[block_x()] = all.best == target;
  }
  if (!gradient) return;
  float *row = logits + (u64)block_x() * v, factor = scale / all.sum;
  // a copy has zeros beyond the row
  u32 end = gradient & 2 ? copy.ld : v;
  for (u32 i = thread(); i < end; i += BLOCK) {
    float d = 0.0f;
    if (i < v) {
      d = exponential(row[i] - all.max) * factor;
      if (i == target) d -= scale;
      if (gradient & 1) row[i] = d;
    }
    if (gradient & 2) copy.put(block_x(), i, d);
  }
}

// row -= logΣ exp(row)
__global__ void __launch_bounds__(BLOCK) log_softmax_rows(float *logits, const uint4 *parts, u32 tiles, u32 v) {
  float *row = logits + (u64)block_x() * v;
  RowPart all = row_of_parts(parts + (u64)block_x() * tiles, tiles);
  float shift = all.max + logarithm(all.sum);
  for (u32 i = thread(); i < v; i += BLOCK) row[i] -= shift;
}
