#include "common.cuh"

// Where the factors of the two dropouts come from: the counters, or given ones (`rows` [V],
// `locked` [B, E]).
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
  return load_columns(given + (u64)b * e, quad, e);
}

// y[t, b, e] = w[tokens[t, b], e]·row·locked[b, e]; a thread for four columns
__global__ void __launch_bounds__(BLOCK) embedding_forward(const u32 *tokens, const float *w, const float *rows, const float *locked,
                                                           MasksOf of, float *y, u32 n, u32 batch, u32 e) {
  u32 quads = (e + 3) / 4, i = global_thread();
  if (i >= n * quads) return;
  u32 at = i / quads, quad = i % quads, token = tokens[at];
  Masks masks(of);
  float factor = row_factor(masks, rows, token);
  float4 m = locked_factors(masks, locked, at % batch, quad, e), v = load_columns(w + (u64)token * e, quad, e);
  store_columns(y + (u64)at * e, quad, e, v * factor * m);
}

// dw[token] += Σ dy·locked·row over the places where a token stands, in their order; nothing for
// `pad`. A warp has one of the n sorted places and WARP_COLUMNS; that of a token's first place adds
// up all of them.
__global__ void __launch_bounds__(BLOCK) embedding_backward(const u64 *places, const float *dy, const float *rows, const float *locked,
                                                            MasksOf of, float *dw, u32 n, u32 batch, u32 e, u32 pad) {
  u32 chunks = (e + WARP_COLUMNS - 1) / WARP_COLUMNS, warp = global_thread() / 32, first = warp / chunks;
  if (first >= n || !begins_word(places, first)) return;
  u32 token = word_at(places[first]);
  if (token == pad) return;
  Masks masks(of);
  float factor = row_factor(masks, rows, token);
  if (factor == 0.0f) return;
  add_places(
      places, n, first, dw + (u64)token * e, e, warp % chunks,
      [&](u32 at, u32 quad) { return load_columns(dy + (u64)at * e, quad, e); },
      [&](float4 sum, u32 at, u32 quad, float4 d) { return sum + d * locked_factors(masks, locked, at % batch, quad, e) * factor; });
}
