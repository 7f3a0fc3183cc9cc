// Partial sums of 16 elements a thread and 256 threads a block; tensor.cu adds them up.
#include "common.cuh"

#define EACH 16

// parts[block] = c·Σ h²
__global__ void __launch_bounds__(BLOCK) regularisation_squares(const float *h, float c, float *parts, u32 n) {
  float sum = 0.0f;
#pragma unroll
  for (u32 i = 0; i < EACH; ++i) {
    u32 at = (block_x() * EACH + i) * BLOCK + thread();
    if (at < n) sum += h[at] * h[at];
  }
  sum = block_sum(sum);
  if (thread() == 0) parts[block_x()] = c * sum;
}

// parts[block] = c·Σ (h[t] - h[t-1])² over the steps of a chunk of `step` elements each; `last` is
// the step before it, where there is one (`with_last`), with as many rows or more
__global__ void __launch_bounds__(BLOCK)
    regularisation_differences(const float *h, const float *last, float c, float *parts, u32 n, u32 step, u32 with_last) {
  float sum = 0.0f;
#pragma unroll
  for (u32 i = 0; i < EACH; ++i) {
    u32 at = (block_x() * EACH + i) * BLOCK + thread();
    if (at < n && (at >= step || with_last)) {
      float d = h[at] - (at >= step ? h[at - step] : last[at]);
      sum += d * d;
    }
  }
  sum = block_sum(sum);
  if (thread() == 0) parts[block_x()] = c * sum;
}

// dh (+)= c·dy[0]·h
__global__ void __launch_bounds__(BLOCK)
    regularisation_squares_backward(const float *h, const float *dy, float c, float *dh, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(dh + i, c * dy[0] * h[i], add);
}

// dh[t] (+)= c·dy[0]·((h[t] - h[t-1]) - (h[t+1] - h[t])), each difference where it exists: `last`
// as above, `next` [next_n] the step after the chunk, with as many rows or fewer
__global__ void __launch_bounds__(BLOCK)
    regularisation_differences_backward(const float *h, const float *last, const float *next, const float *dy, float c, float *dh, u32 n,
                                        u32 step, u32 with_last, u32 next_n, u32 add) {
  u32 i = global_thread();
  if (i >= n) return;
  float now = h[i], d = 0.0f;
  if (i >= step) d = now - h[i - step];
  else if (with_last) d = now - last[i];
  if (i + step < n) d -= h[i + step] - now;
  else if (i + step - n < next_n) d -= next[i + step - n] - now;
  put(dh + i, c * dy[0] * d, add);
}
