// Sums in f64, for numbers that the host reads: the norm of the gradients, losses and hits of an
// evaluation.
#include "common.cuh"

// Sum of a block's values in a fixed order, known to thread 0.
INLINE double block_total(double x) {
  static __shared__ double parts[BLOCK];
  u32 t = thread();
  parts[t] = x;
  barrier();
#pragma unroll
  for (u32 half = BLOCK / 2; half > 0; half /= 2) {
    if (t < half) parts[t] += parts[t + half];
    barrier();
  }
  return parts[0];
}

// sums[block] = Σ g² over the block's part of several tensors. In f64: a square of f32 is exact,
// and never beyond its range.
__global__ void __launch_bounds__(BLOCK) squares(const Part *parts, u32 count, double *sums) {
  const Part part = *part_of(parts, count);
  double sum = 0.0;
  visit_chunk(part, [&](u32 i) {
    double value = (double)part.g[i];
    sum += value * value;
  });
  sum = block_total(sum);
  if (thread() == 0) sums[block_x()] = sum;
}

// to[0] = Σ parts[n], by one block
__global__ void __launch_bounds__(BLOCK) squares_total(const double *parts, double *to, u32 n) {
  double sum = 0.0;
  for (u32 i = thread(); i < n; i += BLOCK) sum += parts[i];
  sum = block_total(sum);
  if (thread() == 0) to[0] = sum;
}

// to[0] = Σ losses[n], to[1] = Σ correct[n], by one block
__global__ void __launch_bounds__(BLOCK) loss_and_hits(const float *losses, const u32 *correct, double *to, u32 n) {
  double loss = 0.0;
  u32 hits = 0;
  for (u32 i = thread(); i < n; i += BLOCK) {
    loss += (double)losses[i];
    hits += correct[i];
  }
  loss = block_total(loss);
  if (thread() == 0) to[0] = loss;
  barrier();
  loss = block_total((double)hits);
  if (thread() == 0) to[1] = loss;
}
