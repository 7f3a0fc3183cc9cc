// A warp a row: the classes are few.
#include "common.cuh"

// p[b] = softmax(z[b]), and where `with_loss`, losses[b] = -ln p[b, label[b]]
__global__ void __launch_bounds__(BLOCK)
    softmax_forward(const float *z, const u32 *labels, float *p, float *losses, u32 rows, u32 classes, u32 with_loss) {
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
  if (with_loss && lane == 0) losses[row] = logarithm(sum) - (from[labels[row]] - max);
}

// dz (+)= (p - 1[label])·dloss/rows
__global__ void __launch_bounds__(BLOCK) softmax_backward(const float *p, const u32 *labels, const float *dloss, float *dz, u32 rows,
                                                          u32 classes, u32 add) {
  u32 i = global_thread();
  if (i >= rows * classes) return;
  float scale = dloss[0] / (float)rows;
  float difference = i % classes == labels[i / classes] ? p[i] - 1.0f : p[i];
  put(dz + i, difference * scale, add);
}
