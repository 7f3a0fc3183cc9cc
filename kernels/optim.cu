// Updates of a parameter. They round after every operation as the CPU does (no fused multiply-adds),
// so that both give the same bits from the same gradient.
#include "common.cuh"

// As instructions, which no compiler fuses.
INLINE float times(float a, float b) {
  float c;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
INLINE float plus(float a, float b) {
  float c;
  asm("add.rn.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}

// `Scalars` of src/optim/adam.rs
struct AdamScalars {
  float gradient_scale, shrink, decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, correction2, eps;
};

// p[n], g[n], moments m[n] and v[n]
__global__ void __launch_bounds__(BLOCK) adam_update(AdamScalars s, float *p, const float *g, float *m, float *v, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float before = p[i];
  float d = plus(times(g[i], s.gradient_scale), times(s.decay, before));
  float first = plus(times(s.beta1, m[i]), times(s.one_minus_beta1, d));
  float second = plus(times(s.beta2, v[i]), times(times(s.one_minus_beta2, d), d));
  m[i] = first;
  v[i] = second;
  float root = plus(square_root(second / s.correction2), s.eps);
  p[i] = plus(times(before, s.shrink), -(times(s.step_size, first) / root));
}

// `Scalars` of src/optim/sgd.rs
struct SgdScalars {
  float lr, gradient_scale, shrink, decay;
};

INLINE float decayed(const SgdScalars &s, float g, float p) { return plus(times(g, s.gradient_scale), times(s.decay, p)); }

// p[n], g[n]
__global__ void __launch_bounds__(BLOCK) sgd_update(SgdScalars s, float *p, const float *g, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float before = p[i];
  p[i] = plus(times(before, s.shrink), -times(s.lr, decayed(s, g[i], before)));
}

// p[n], g[n], momentum b[n]
__global__ void __launch_bounds__(BLOCK) sgd_momentum_update(SgdScalars s, float momentum, float *p, const float *g, float *b, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float before = p[i];
  float moved = plus(times(momentum, b[i]), decayed(s, g[i], before));
  b[i] = moved;
  p[i] = plus(times(before, s.shrink), -times(s.lr, moved));
}

// average[n] += (p[n] - average[n])·weight; a weight of 1 copies
__global__ void __launch_bounds__(BLOCK) average_update(float weight, const float *p, float *average, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float a = average[i];
  average[i] = weight == 1.0f ? p[i] : plus(a, times(plus(p[i], -a), weight));
}

// a[n] and b[n] change places
__global__ void __launch_bounds__(BLOCK) exchange(float *a, float *b, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float x = a[i];
  a[i] = b[i];
  b[i] = x;
}
