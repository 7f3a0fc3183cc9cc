// A warp a row: the classes are few.
#include "common.cuh"

// p[b] = softmax(z[b]), and where `with_loss`, losses[b] = -Σ target·ln p[b], the target 1 -
// smoothing at the label and smoothing/classes everywhere
__global__ void __launch_bounds__(BLOCK) softmax_forward(const float *z, const u32 *labels, float *p, float *losses, u32 rows,
                                                         u32 classes, u32 with_loss, float smoothing) {
  u32 row = global_thread() / 32, lane = thread() % 32;
  if (row >= rows) return;
  const float *from = z + (u64)row * classes;
  float *to = p + (u64)row * classes;
  float max = NEGATIVE_INFINITY;
  for (u32 i = lane; i < classes; i += 32) max = larger(max, from[i]);
  max = warp_max(max);
  float sum = 0.0f;
  for (u32 i = lane; i < classes; i += 32) sum += exponential(from[i] - max);
  sum = warp_sum(sum);
  for (u32 i = lane; i < classes; i += 32) to[i] = exponential(from[i] - max) / sum;
  if (!with_loss) return;
  float others = 0.0f;
  if (smoothing > 0.0f) {
    for (u32 i = lane; i < classes; i += 32) others += from[i] - max;
    others = warp_sum(others);
  }
  if (lane != 0) return;
  float expected = from[labels[row]] - max;
  if (smoothing > 0.0f) expected = (1.0f - smoothing) * expected + smoothing / (float)classes * others;
  losses[row] = logarithm(sum) - expected;
}

// dz (+)= (p - target)·dloss/rows; the target is `of_label` at the label, `share` elsewhere
__global__ void __launch_bounds__(BLOCK) softmax_backward(const float *p, const u32 *labels, const float *dloss, float *dz, u32 rows,
                                                          u32 classes, float of_label, float share, u32 add) {
  u32 i = global_thread();
  if (i >= rows * classes) return;
  float scale = dloss[0] / (float)rows;
  float difference = p[i] - (i % classes == labels[i / classes] ? of_label : share);
  put(dz + i, difference * scale, add);
}
