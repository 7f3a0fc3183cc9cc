// Rows of logits over a vocabulary: a block a row.
#include "common.cuh"

// losses[row] = logΣ exp - logit of the target; correct[row]: whether the target is the first of the most probable. With `gradient` the row
// becomes (softmax - onehot)·scale.
__global__ void __launch_bounds__(BLOCK)
    softmax_rows(float *logits, const u32 *targets, float *losses, u32 *correct, u32 v, float scale, u32 gradient) {
  float *row = logits + (u64)block_x() * v;
  u32 target = targets[block_x()];
  float of_target = row[target], max = NEGATIVE_INFINITY;
  u32 better = 0;
  for (u32 i = thread(); i < v; i += BLOCK) {
    float x = row[i];
    max = larger(max, x);
    better |= x > of_target || (x == of_target && i < target);
  }
  max = block_max(max);
  better = block_or(better);
  float sum = 0.0f;
  for (u32 i = thread(); i < v; i += BLOCK) sum += exponential(row[i] - max);
  sum = block_sum(sum);
  if (thread() == 0) {
    losses[block_x()] = logarithm(sum) + max - of_target;
    correct[block_x()] = better == 0;
  }
  if (!gradient) return;
  float factor = scale / sum;
  for (u32 i = thread(); i < v; i += BLOCK) {
    float d = exponential(row[i] - max) * factor;
    row[i] = i == target ? d - scale : d;
  }
}

// row -= logΣ exp(row)
__global__ void __launch_bounds__(BLOCK) log_softmax_rows(float *logits, u32 v) {
  float *row = logits + (u64)block_x() * v;
  float max = NEGATIVE_INFINITY;
  for (u32 i = thread(); i < v; i += BLOCK) max = larger(max, row[i]);
  max = block_max(max);
  float sum = 0.0f;
  for (u32 i = thread(); i < v; i += BLOCK) sum += exponential(row[i] - max);
  float shift = max + logarithm(block_sum(sum));
  for (u32 i = thread(); i < v; i += BLOCK) row[i] -= shift;
}
