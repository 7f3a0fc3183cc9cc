// fo-pooling of a QRNN (src/ops/forget_mult). A thread has a column of [B, H] through all steps;
// neighbours read and write side by side. Nothing that is read depends on the step before: what
// some steps need is loaded before the first of them is computed.
#include "common.cuh"

#define AHEAD 4
// Blocks a multiprocessor must hold: enough to hide loads. Left to itself ptxas 12.0 wants four on
// sm_90, and spills registers for it.
#define RESIDENT 2

// What the gates f are multiplied by: one factor for all, a given mask [T, B, H], or the keeps (0
// and 1) of a random one of T·B rows.
struct Zoneout {
  Mask mask;
  const float *given;
  float factor;
  u32 with_given;
  INLINE Zoneout(const MaskOf &m, const float *given, float factor, u32 with_given)
      : mask(m), given(given), factor(factor), with_given(with_given) {}
  // Of element `at`, which is column `unit` of row `row`.
  INLINE float at(u64 at, u32 row, u32 unit) const {
    if (with_given) return given[at];
    if (!mask.on) return factor;
    Lanes l = philox(unit / 4, row, mask.step, mask.site, mask.key0, mask.key1);
    u32 lane = unit % 4, mine = lane == 0 ? l.x : lane == 1 ? l.y : lane == 2 ? l.z : l.w;
    return (u64)mine < mask.threshold ? 1.0f : 0.0f;
  }
};

// states and y [T, B, H] from gates [T, B, 3H] (z, f, o before their activations) and c0 [B, H]
__global__ void __launch_bounds__(BLOCK, RESIDENT)
    forget_mult_forward(const float *gates, const float *c0, const float *given, float *states, float *y, u32 steps, u32 batch,
                        u32 hidden, float factor, u32 with_given, MaskOf mask) {
  u32 i = global_thread(), columns = batch * hidden;
  if (i >= columns) return;
  Zoneout zoneout(mask, given, factor, with_given);
  u32 row = i / hidden, unit = i % hidden;
  const float *from = gates + (u64)row * 3 * hidden + unit;
  float c = c0[i];
  for (u32 first = 0; first < steps; first += AHEAD) {
    float a[AHEAD][3];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k)
      if (first + k < steps)
#pragma unroll
        for (u32 gate = 0; gate < 3; ++gate) a[k][gate] = from[(u64)(first + k) * 3 * columns + gate * hidden];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
      u32 t = first + k;
      if (t >= steps) continue;
      u64 at = (u64)t * columns + i;
      float f = sigmoid(a[k][1]) * zoneout.at(at, t * batch + row, unit);
      c = f * hyperbolic_tangent(a[k][0]) + (1.0f - f) * c;
      states[at] = c;
      y[at] = sigmoid(a[k][2]) * c;
    }
  }
}

// d_gates [T, B, 3H] (if `wanted`) from dy (`with_dy`), and carried [B, H], the gradient of c0,
// from dc, that of the last state (`with_dc`)
__global__ void __launch_bounds__(BLOCK, RESIDENT)
    forget_mult_backward(const float *gates, const float *c0, const float *given, const float *states, const float *dy, const float *dc,
                         float *d_gates, float *carried, u32 steps, u32 batch, u32 hidden, float factor, u32 with_given, u32 with_dy,
                         u32 with_dc, u32 wanted, u32 add, MaskOf mask) {
  u32 i = global_thread(), columns = batch * hidden;
  if (i >= columns) return;
  Zoneout zoneout(mask, given, factor, with_given);
  u32 row = i / hidden, unit = i % hidden;
  u64 of_row = (u64)row * 3 * hidden + unit;
  float d = with_dc ? dc[i] : 0.0f, c = states[(u64)(steps - 1) * columns + i];
  // steps are counted from the last
  for (u32 first = 0; first < steps; first += AHEAD) {
    float a[AHEAD][3], before[AHEAD], up[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k)
      if (first + k < steps) {
        u32 t = steps - 1 - first - k;
#pragma unroll
        for (u32 gate = 0; gate < 3; ++gate) a[k][gate] = gates[of_row + (u64)t * 3 * columns + gate * hidden];
        before[k] = t == 0 ? c0[i] : states[(u64)(t - 1) * columns + i];
        up[k] = with_dy ? dy[(u64)t * columns + i] : 0.0f;
      }
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
      if (first + k >= steps) continue;
      u32 t = steps - 1 - first - k;
      float z = hyperbolic_tangent(a[k][0]), gate = sigmoid(a[k][1]), o = sigmoid(a[k][2]);
      float f = gate * zoneout.at((u64)t * columns + i, t * batch + row, unit);
      d = d + up[k] * o;
      if (wanted) {
        float *to = d_gates + of_row + (u64)t * 3 * columns;
        put(to, d * f * (1.0f - z * z), add);
        put(to + hidden, d * (z - before[k]) * f * (1.0f - gate), add);
        put(to + 2 * hidden, up[k] * c * o * (1.0f - o), add);
      }
      d = d * (1.0f - f);
      c = before[k];
    }
  }
  carried[i] = d;
}
