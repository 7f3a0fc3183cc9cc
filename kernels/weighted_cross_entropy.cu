// A warp a row: the classes are few.
#include "common.cuh"

// (1 - p)^focal
INLINE float focus_of(float p, float focal) {
  float rest = 1.0f - p;
  if (focal == 0.0f) return 1.0f;
  return rest > 0.0f ? exponential(focal * logarithm(rest)) : 0.0f;
}

// p·d/dp of -(1 - p)^focal·ln p, by the logarithm of p
INLINE float slope_of(float log, float focal) {
  float p = exponential(log), rest = 1.0f - p, focus = focus_of(p, focal);
  float ratio = rest > 0.0f ? log / rest : -1.0f;
  float first = p > 0.0f ? focal * p * focus * ratio : 0.0f;
  return first - focus;
}

// logs[b] = ln softmax(z[b]); losses[b] = -Σ target·w·(1 - p)^focal·ln p, the target `of_label` at
// the label and `share` elsewhere
__global__ void __launch_bounds__(BLOCK)
    weighted_softmax_forward(const float *z, const u32 *labels, const float *weights, float *logs, float *losses, u32 rows, u32 classes,
                             float of_label, float share, float focal) {
  u32 row = global_thread() / 32, lane = thread() % 32;
  if (row >= rows) return;
  const float *from = z + (u64)row * classes;
  float *to = logs + (u64)row * classes;
  u32 label = labels[row];
  float max = NEGATIVE_INFINITY;
  for (u32 i = lane; i < classes; i += 32) max = larger(max, from[i]);
  max = warp_max(max);
  float sum = 0.0f;
  for (u32 i = lane; i < classes; i += 32) sum += exponential(from[i] - max);
  sum = logarithm(warp_sum(sum));
  float loss = 0.0f;
  for (u32 i = lane; i < classes; i += 32) {
    float log = from[i] - max - sum, part = (i == label ? of_label : share) * weights[i];
    to[i] = log;
    if (part > 0.0f) loss -= part * focus_of(exponential(log), focal) * log;
  }
  loss = warp_sum(loss);
  if (lane == 0) losses[row] = loss;
}

// dz (+)= (s - p·Σ s)·dloss·scale, s = target·w·slope
__global__ void __launch_bounds__(BLOCK)
    weighted_softmax_backward(const float *logs, const u32 *labels, const float *weights, const float *dloss, float *dz, u32 rows,
                              u32 classes, float of_label, float share, float focal, float scale, u32 add) {
  u32 row = global_thread() / 32, lane = thread() % 32;
  if (row >= rows) return;
  const float *from = logs + (u64)row * classes;
  float *to = dz + (u64)row * classes;
  u32 label = labels[row];
  float sum = 0.0f;
  for (u32 i = lane; i < classes; i += 32) {
    float part = (i == label ? of_label : share) * weights[i];
    if (part > 0.0f) sum += part * slope_of(from[i], focal);
  }
  sum = warp_sum(sum);
  float upstream = dloss[0] * scale;
  for (u32 i = lane; i < classes; i += 32) {
    float part = (i == label ? of_label : share) * weights[i];
    float own = part > 0.0f ? part * slope_of(from[i], focal) : 0.0f;
    put(to + i, (own - exponential(from[i]) * sum) * upstream, add);
  }
}
