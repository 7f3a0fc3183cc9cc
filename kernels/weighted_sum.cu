#include "common.cuh"

#define TERMS 16

// Pairs of a scalar (or its gradient) and a coefficient; `add` has a bit for each gradient that is
// added to.
struct Terms {
  float *x[TERMS];
  float c[TERMS];
  u32 n, add;
};

// y[0] = Σ c·x, in order, by one thread
__global__ void __launch_bounds__(32) weighted_sum_forward(Terms terms, float *y) {
  if (thread() > 0) return;
  float sum = 0.0f;
#pragma unroll
  for (u32 i = 0; i < TERMS; ++i)
    if (i < terms.n) sum += terms.c[i] * terms.x[i][0];
  y[0] = sum;
}

// x[0] (+)= c·dy[0] for every term, in order (two may be the same)
__global__ void __launch_bounds__(32) weighted_sum_backward(Terms terms, const float *dy) {
  if (thread() > 0) return;
#pragma unroll
  for (u32 i = 0; i < TERMS; ++i)
    if (i < terms.n) put(terms.x[i], terms.c[i] * dy[0], terms.add >> i & 1u);
}
