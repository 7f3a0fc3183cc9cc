#include "common.cuh"

// Where the factors of the two dropouts come from: the counters, or given ones (`rows` [V], `locked` [B, E]).
struct MasksOf {
  MaskOf rows, locked;
  u32 rows_given, locked_given;
};
struct Masks {
  Mask rows, locked;
  u32 rows_given, locked_given;
  INLINE Masks(const MasksOf &m) : rows(m.rows), locked(m.locked), rows_given(m.rows_given), locked_given(m.locked_given) {}
};

INLINE float row_factor(const Masks &m, const float *given, u32 token) {
  return m.rows_given ? given[token] : mask_row_factor(m.rows, token);
}

INLINE float4 locked_factors(const Masks &m, const float *given, u32 b, u32 quad, u32 e) {
  if (!m.locked_given) return mask_factors(m.locked, b, quad);
  const float *f = given + (u64)b * e + 4 * quad;
  u32 left = e - 4 * quad;
  return {f[0], left > 1 ? f[1] : 0.0f, left > 2 ? f[2] : 0.0f, left > 3 ? f[3] : 0.0f};
}

// y[t, b, e] = w[tokens[t, b], e]·row·locked[b, e]; a thread for four columns
__global__ void __launch_bounds__(BLOCK) embedding_forward(const u32 *tokens, const float *w, const float *rows, const float *locked,
                                                           MasksOf of, float *y, u32 n, u32 batch, u32 e) {
  u32 quads = (e + 3) / 4, i = global_thread();
  if (i >= n * quads) return;
  u32 at = i / quads, quad = i % quads, token = tokens[at];
  Masks masks(of);
  float factor = row_factor(masks, rows, token);
  float4 m = locked_factors(masks, locked, at % batch, quad, e);
  const float *from = w + (u64)token * e + 4 * quad;
  float *to = y + (u64)at * e + 4 * quad;
  u32 left = e - 4 * quad;
  if (e % 4 == 0) {
    float4 v = *(const float4 *)from;
    *(float4 *)to = {v.x * factor * m.x, v.y * factor * m.y, v.z * factor * m.z, v.w * factor * m.w};
    return;
  }
  to[0] = from[0] * factor * m.x;
  if (left > 1) to[1] = from[1] * factor * m.y;
  if (left > 2) to[2] = from[2] * factor * m.z;
  if (left > 3) to[3] = from[3] * factor * m.w;
}

// dw[token] += Σ dy·locked·row over the places where a token stands, in their order; nothing for `pad`. A block has one of the n places and 1024
// columns; that of a token's first place adds up all of them.
__global__ void __launch_bounds__(BLOCK) embedding_backward(const u32 *tokens, const float *dy, const float *rows, const float *locked,
                                                            MasksOf of, float *dw, u32 n, u32 batch, u32 e, u32 pad) {
  Masks masks(of);
  u32 quad = block_y() * BLOCK + thread(), token = tokens[block_x()];
  float factor = row_factor(masks, rows, token);
  if (token == pad || factor == 0.0f || !is_first_place(tokens, block_x())) return;
  u32 left = 4 * quad < e ? e - 4 * quad : 0;
  float *to = dw + (u64)token * e + 4 * quad;
  if (e % 4 == 0) {
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    if (left > 0) sum = *(const float4 *)to;
    visit_places(tokens, n, block_x(), [&](u32 at) {
      if (left == 0) return;
      float4 m = locked_factors(masks, locked, at % batch, quad, e), d = *(const float4 *)(dy + (u64)at * e + 4 * quad);
      sum.x += d.x * m.x * factor, sum.y += d.y * m.y * factor, sum.z += d.z * m.z * factor, sum.w += d.w * m.w * factor;
    });
    if (left > 0) *(float4 *)to = sum;
    return;
  }
  float s0 = left > 0 ? to[0] : 0.0f, s1 = left > 1 ? to[1] : 0.0f, s2 = left > 2 ? to[2] : 0.0f, s3 = left > 3 ? to[3] : 0.0f;
  visit_places(tokens, n, block_x(), [&](u32 at) {
    if (left == 0) return;
    float4 m = locked_factors(masks, locked, at % batch, quad, e);
    const float *d = dy + (u64)at * e + 4 * quad;
    s0 += d[0] * m.x * factor;
    if (left > 1) s1 += d[1] * m.y * factor;
    if (left > 2) s2 += d[2] * m.z * factor;
    if (left > 3) s3 += d[3] * m.w * factor;
  });
  if (left > 0) to[0] = s0;
  if (left > 1) to[1] = s1;
  if (left > 2) to[2] = s2;
  if (left > 3) to[3] = s3;
}
