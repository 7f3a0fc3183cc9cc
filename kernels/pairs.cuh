// Cells of the LSTM by pairs of neighbouring units, for kernels that include common.cuh and
// bf16.cuh before.
#pragma once

// Two neighbours; the second one is there if `both`.
INLINE float2 load_pair(const float *from, u32 pairs, bool both) {
  if (pairs) return *(const float2 *)from;
  return {from[0], both ? from[1] : 0.0f};
}
INLINE void store_pair(float *to, float2 v, u32 pairs, bool both) {
  if (pairs) {
    *(float2 *)to = v;
    return;
  }
  to[0] = v.x;
  if (both) to[1] = v.y;
}
// In bf16; zero instead of a second one that is not there.
INLINE void round_to(u16 *to, float2 v, bool both) { *(u32 *)to = round_pair(v.x, both ? v.y : 0.0f); }

// Gates i, f, g, o: in their pre-activations, out activated; c: in the cells before, out these.
// Returns h.
INLINE float2 cells_forward(float2 (&z)[4], float2 &c) {
  float2 out;
#pragma unroll
  for (u32 n = 0; n < 2; ++n) {
    z[0][n] = sigmoid(z[0][n]), z[1][n] = sigmoid(z[1][n]), z[2][n] = hyperbolic_tangent(z[2][n]), z[3][n] = sigmoid(z[3][n]);
    c[n] = z[1][n] * c[n] + z[0][n] * z[2][n];
    out[n] = z[3][n] * hyperbolic_tangent(c[n]);
  }
  return out;
}
