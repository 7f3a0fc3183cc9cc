// Updates of all parameters of a step, each in one launch. They round after every operation as the
// CPU does (no fused multiply-adds), so that both give the same bits from the same gradient.
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

// p, g, moments a and b
__global__ void __launch_bounds__(BLOCK) adam_update(const Part *parts, u32 count) {
  const Part part = *part_of(parts, count);
  const Scalars &s = part.s;
  visit_chunk(part, [&](u32 i) {
    float before = part.p[i];
    float d = plus(times(part.g[i], s.gradient_scale), times(s.decay, before));
    float first = plus(times(s.momentum, part.a[i]), times(s.one_minus_momentum, d));
    float second = plus(times(s.beta2, part.b[i]), times(times(s.one_minus_beta2, d), d));
    part.a[i] = first;
    part.b[i] = second;
    float root = plus(square_root(second / s.correction2), s.eps);
    part.p[i] = plus(times(before, s.shrink), -(times(s.rate, first) / root));
  });
}

INLINE float decayed(const Scalars &s, float g, float p) { return plus(times(g, s.gradient_scale), times(s.decay, p)); }

// p, g
__global__ void __launch_bounds__(BLOCK) sgd_update(const Part *parts, u32 count) {
  const Part part = *part_of(parts, count);
  const Scalars &s = part.s;
  visit_chunk(part, [&](u32 i) {
    float before = part.p[i];
    part.p[i] = plus(times(before, s.shrink), -times(s.rate, decayed(s, part.g[i], before)));
  });
}

// p, g, momentum a
__global__ void __launch_bounds__(BLOCK) sgd_momentum_update(const Part *parts, u32 count) {
  const Part part = *part_of(parts, count);
  const Scalars &s = part.s;
  visit_chunk(part, [&](u32 i) {
    float before = part.p[i];
    float moved = plus(times(s.momentum, part.a[i]), decayed(s, part.g[i], before));
    part.a[i] = moved;
    part.p[i] = plus(times(before, s.shrink), -times(s.rate, moved));
  });
}

// average a += (p - a)·weight; a weight of 1 copies
__global__ void __launch_bounds__(BLOCK) average_update(const Part *parts, u32 count) {
  const Part part = *part_of(parts, count);
  float weight = part.s.weight;
  visit_chunk(part, [&](u32 i) {
    float a = part.a[i], p = part.p[i];
    part.a[i] = weight == 1.0f ? p : plus(a, times(plus(p, -a), weight));
  });
}

// a[n] and b[n] change places
__global__ void __launch_bounds__(BLOCK) exchange(float *a, float *b, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float x = a[i];
  a[i] = b[i];
  b[i] = x;
}
