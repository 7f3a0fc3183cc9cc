// What a GPU can do at most (src/bench/gpu_peaks.rs): multiply-adds on registers, in f32 and by
// tensor cores, and memory bandwidth.
#include "common.cuh"
#include "bf16.cuh"

// Chains of multiply-adds that do not wait for each other: `PROBE_CHAINS` of
// src/bench/gpu_peaks.rs.
#define CHAINS 8u

// out[thread] = Σ of the thread's chains after `steps` of x = x·by + by
__global__ void __launch_bounds__(BLOCK) probe_multiply_adds(float *out, float by, u32 steps) {
  float x[CHAINS];
#pragma unroll
  for (u32 c = 0; c < CHAINS; ++c) x[c] = by + (float)c;
#pragma unroll 1
  for (u32 step = 0; step < steps; step += 16)
#pragma unroll
    for (u32 n = 0; n < 16; ++n)
#pragma unroll
      for (u32 c = 0; c < CHAINS; ++c) x[c] = fma(x[c], by, by);
  float sum = 0.0f;
#pragma unroll
  for (u32 c = 0; c < CHAINS; ++c) sum += x[c];
  out[global_thread()] = sum;
}

// a = b + by·c, by fours
__global__ void __launch_bounds__(BLOCK) probe_triad(float4 *a, const float4 *b, const float4 *c, float by, u32 quads) {
  u32 i = global_thread();
  if (i < quads) a[i] = b[i] + by * c[i];
}

#if __CUDA_ARCH__ >= 800
// out[thread] = Σ of the thread's part of the chains after `steps` of sums += by·by, fragments
// whose every element is `by`
__global__ void __launch_bounds__(BLOCK) probe_multiply_adds_bf16(float *out, float by, u32 steps) {
  float sums[CHAINS][4];
  u32 pair = round_pair(by, by);
  const u32 a[4] = {pair, pair, pair, pair};
#pragma unroll
  for (u32 c = 0; c < CHAINS; ++c)
#pragma unroll
    for (u32 n = 0; n < 4; ++n) sums[c][n] = (float)c;
#pragma unroll 1
  for (u32 step = 0; step < steps; step += 16)
#pragma unroll
    for (u32 n = 0; n < 16; ++n)
#pragma unroll
      for (u32 c = 0; c < CHAINS; ++c) multiply_fragments(a, pair, pair, sums[c]);
  float sum = 0.0f;
#pragma unroll
  for (u32 c = 0; c < CHAINS; ++c)
#pragma unroll
    for (u32 n = 0; n < 4; ++n) sum += sums[c][n];
  out[global_thread()] = sum;
}
#endif
