// Rows of logits over a vocabulary: a block a row.
#include "common.cuh"
#include "bf16.cuh"

// losses[row] = logΣ exp - logit of the target; correct[row]: whether the target is the first of the most probable. With `gradient` the row
// becomes (softmax - onehot)·scale: in place (1), in the rounded copy alone (2), or in both (3).
__global__ void __launch_bounds__(BLOCK)
    softmax_rows(float *logits, const u32 *targets, float *losses, u32 *correct, u32 v, float scale, u32 gradient, RoundedCopy copy) {
  float *row = logits + (u64)block_x() * v;
  u32 target = targets[block_x()];
  float of_target = row[target], max = NEGATIVE_INFINITY, sum = 0.0f;
  u32 better = 0;
  for (u32 i = thread(); i < v; i += BLOCK) {
    float x = row[i];
    softmax_add(x, max, sum);
    // without a branch: lanes that part here would read the next values at different times
    better |= (u32)(x > of_target) | ((u32)(x == of_target) & (u32)(i < target));
  }
  softmax_total(max, sum);
  better = block_or(better);
  if (thread() == 0) {
    losses[block_x()] = logarithm(sum) + max - of_target;
    correct[block_x()] = better == 0;
  }
  if (!gradient) return;
  float factor = scale / sum;
  // a copy has zeros beyond the row
  u32 end = gradient & 2 ? copy.ld : v;
  for (u32 i = thread(); i < end; i += BLOCK) {
    float d = 0.0f;
    if (i < v) {
      d = exponential(row[i] - max) * factor;
      if (i == target) d -= scale;
      if (gradient & 1) row[i] = d;
    }
    if (gradient & 2) copy.put(block_x(), i, d);
  }
}

// row -= logΣ exp(row)
__global__ void __launch_bounds__(BLOCK) log_softmax_rows(float *logits, u32 v) {
  float *row = logits + (u64)block_x() * v;
  float max = NEGATIVE_INFINITY, sum = 0.0f;
  for (u32 i = thread(); i < v; i += BLOCK) softmax_add(row[i], max, sum);
  softmax_total(max, sum);
  float shift = max + logarithm(sum);
  for (u32 i = thread(); i < v; i += BLOCK) row[i] -= shift;
}
