// Tiles of a matrix product in true f32, beside common.cuh.
//
// A block of 256 threads computes a square of 16·TM: acc[i][j] belongs to row tile_index(thread/16,
// i), column tile_index(thread%16, j). Sums run over k in order. The operands A and B tell where
// the element (row or column of the tile, k) is, how many outer indices there are from one on, how
// far it is to the next slab of k, and whether neighbours along k are neighbours in memory. Slabs
// of depth 8 are in shared memory, padded so that no access has a bank conflict; the next ones are
// on their way meanwhile.
#pragma once

INLINE u32 tile_index(u32 t, int i) { return 64 * (u32)(i / 4) + 4 * t + (u32)(i % 4); }

#define DEPTH 8u

// Step Q of a slab; PITCH floats apart. `a` and `b`: where the thread's first row and column are.
template <int TM, u32 PITCH, u32 Q> INLINE void tile_step(u32 a, u32 b, float (&acc)[TM][TM]) {
  float4 va[2], vb[2];
  va[0] = load_shared<4 * Q * PITCH>(a), vb[0] = load_shared<4 * Q * PITCH>(b);
  if (TM == 8) va[1] = load_shared<4 * (Q * PITCH + 64)>(a), vb[1] = load_shared<4 * (Q * PITCH + 64)>(b);
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TM; ++j) acc[i][j] = fma(va[i / 4][i % 4], vb[j / 4][j % 4], acc[i][j]);
}

#if __CUDA_ARCH__ >= 800
#define SLABS 3u

// The elements that a thread copies into every slab of EDGE rows or columns: of one k and every
// 32nd outer index, where k runs along memory; else of neighbouring outer indices, as many at a
// time as where they begin allows, of several k.
template <u32 EDGE, typename M> struct SlabCopier {
  static constexpr u32 PITCH = EDGE + 4, COUNT = EDGE * DEPTH / BLOCK;
  const float *from;
  // of the first element, in the slab that comes next; in shared memory, in the first buffer
  u32 k, to;
  // outer indices from the first one on; and how many floats are copied at a time
  u32 left, width;
  INLINE SlabCopier(const M &m, u32 buffer) {
    u32 t = thread(), outer = 0;
    width = smaller(m.width(), COUNT);
    if (M::ALONG_K) outer = t / DEPTH, k = t % DEPTH;
    else if (width == 4) outer = t % (EDGE / 4) * 4, k = t / (EDGE / 4);
    else if (width == 2) outer = t % (EDGE / 2) * 2, k = t / (EDGE / 2);
    else outer = t % EDGE, k = t / EDGE;
    from = m.at(outer, k), to = buffer + 4 * (k * PITCH + outer), left = m.left(outer);
  }
  template <u32 WIDTH> INLINE void copy_side_by_side(const M &m, u32 to, u32 end) {
    // k of a thread are so far apart
    constexpr u32 APART = BLOCK * WIDTH / EDGE;
#pragma unroll
    for (u32 i = 0; i < DEPTH / APART; ++i)
      begin_copy<4 * WIDTH>(to + 4 * PITCH * APART * i, from + (u64)(APART * i) * m.columns, k + APART * i < end);
  }
  // Begins to copy the next slab to so many bytes beyond the first buffer; zeros outside of the
  // matrix.
  INLINE void copy(const M &m, u32 beyond, u32 end) {
    if constexpr (M::ALONG_K) {
      u32 here = opaque(k < end ? left : 0);
#pragma unroll
      for (u32 i = 0; i < COUNT; ++i) begin_copy<4>(to + beyond + 4 * 32 * i, from + i * m.down(), 32 * i < here);
    } else {
      u32 here = opaque(left > 0 ? end : 0);
      if (COUNT == 4 && width == 4) copy_side_by_side<COUNT == 4 ? 4 : 2>(m, to + beyond, here);
      else if (width >= 2) copy_side_by_side<2>(m, to + beyond, here);
      else copy_side_by_side<1>(m, to + beyond, here);
    }
    from += m.step(), k += DEPTH;
  }
};

template <int TM, typename A, typename B> INLINE void tile_product(const A &a, const B &b, u32 k, float (&acc)[TM][TM]) {
  constexpr u32 TILE = 16 * TM, PITCH = TILE + 4, BYTES_A = 4 * DEPTH * PITCH, BYTES = 2 * BYTES_A;
  alignas(16) static __shared__ float slabs[SLABS * BYTES / 4];
  u32 first = shared_address(slabs), first_a = first + 16 * (thread() / 16), first_b = first + BYTES_A + 16 * (thread() % 16);
  SlabCopier<TILE, A> copier_a(a, first);
  SlabCopier<TILE, B> copier_b(b, first + BYTES_A);
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TM; ++j) acc[i][j] = 0.0f;
  // as many groups as if there were slabs enough, so that the number to wait for is always the same
#pragma unroll
  for (u32 s = 0; s < SLABS - 1; ++s) {
    if (s * DEPTH < k) {
      copier_a.copy(a, s * BYTES, k);
      copier_b.copy(b, s * BYTES, k);
    }
    copies_begun();
  }
  u32 slab = 0, next = (SLABS - 1) * BYTES;
#pragma unroll 1
  for (u32 k0 = 0; k0 < k; k0 += DEPTH) {
    copies_landed<SLABS - 2>();
    // this slab is there for all, and nobody reads the one before any more
    barrier();
    if (k0 + (SLABS - 1) * DEPTH < k) {
      copier_a.copy(a, next, k);
      copier_b.copy(b, next, k);
    }
    copies_begun();
    u32 at_a = first_a + slab, at_b = first_b + slab;
    // a quarter of it unrolled: more would not leave a large tile its 128 registers
#pragma unroll 1
    for (u32 q = 0; q < DEPTH; q += 2) {
      tile_step<TM, PITCH, 0>(at_a, at_b, acc);
      tile_step<TM, PITCH, 1>(at_a, at_b, acc);
      at_a += 8 * PITCH, at_b += 8 * PITCH;
    }
    // the buffer that was read now is the next to be filled
    next = slab;
    slab = slab == (SLABS - 1) * BYTES ? 0 : slab + BYTES;
  }
}
#else
template <int TM, typename A, typename B> INLINE void tile_product(const A &a, const B &b, u32 k, float (&acc)[TM][TM]) {
  constexpr u32 TILE = 16 * TM, PITCH = TILE + 4, LOADS = TILE * DEPTH / BLOCK;
  alignas(16) static __shared__ float as[2][DEPTH * PITCH], bs[2][DEPTH * PITCH];
  u32 t = thread(), tx = t % 16, ty = t / 16;
  float next_a[LOADS], next_b[LOADS];
#define TILE_ROW(M, i) ((M::ALONG_K) ? t / DEPTH + (i) * (BLOCK / DEPTH) : t % TILE)
#define TILE_K(M, i) ((M::ALONG_K) ? t % DEPTH : t / TILE + (i) * (BLOCK / TILE))
#define TILE_FETCH(k0)                                                     \
  _Pragma("unroll") for (u32 i = 0; i < LOADS; ++i) {                      \
    u32 ka = (k0) + TILE_K(A, i), kb = (k0) + TILE_K(B, i);                \
    next_a[i] = ka < k && a.left(TILE_ROW(A, i)) > 0 ? *a.at(TILE_ROW(A, i), ka) : 0.0f; \
    next_b[i] = kb < k && b.left(TILE_ROW(B, i)) > 0 ? *b.at(TILE_ROW(B, i), kb) : 0.0f; \
  }
#define TILE_KEEP(buffer)                                                        \
  _Pragma("unroll") for (u32 i = 0; i < LOADS; ++i) {                            \
    as[buffer][TILE_K(A, i) * PITCH + TILE_ROW(A, i)] = next_a[i];               \
    bs[buffer][TILE_K(B, i) * PITCH + TILE_ROW(B, i)] = next_b[i];               \
  }
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TM; ++j) acc[i][j] = 0.0f;
  TILE_FETCH(0u)
  TILE_KEEP(0)
  barrier();
  u32 buffer = 0;
  for (u32 k0 = 0; k0 < k; k0 += DEPTH) {
    bool more = k0 + DEPTH < k;
    if (more) { TILE_FETCH(k0 + DEPTH) }
    u32 at_a = shared_address(&as[buffer][4 * ty]), at_b = shared_address(&bs[buffer][4 * tx]);
    // a step at a time: more would not leave a large tile its 128 registers
#pragma unroll 1
    for (u32 q = 0; q < DEPTH; ++q) {
      tile_step<TM, PITCH, 0>(at_a, at_b, acc);
      at_a += 4 * PITCH, at_b += 4 * PITCH;
    }
    if (more) { TILE_KEEP(buffer ^ 1) }
    barrier();
    buffer ^= 1;
  }
}
#endif

// Rows of a row-major matrix [rows, ld], from row `first` on. Within a tile 32 bits of offset are
// enough.
struct RowMajor {
  static constexpr bool ALONG_K = true;
  const float *tile;
  u32 rows, ld, first;
  INLINE RowMajor(const float *data, u32 rows, u32 ld, u32 first) : tile(data + (u64)first * ld), rows(rows), ld(ld), first(first) {}
  INLINE const float *at(u32 row, u32 k) const { return tile + row * ld + k; }
  INLINE u32 left(u32 row) const { return left_of(rows, first + row); }
  // to the 32nd row from here
  INLINE u32 down() const { return 32 * ld; }
  INLINE u64 step() const { return DEPTH; }
  INLINE u32 width() const { return 1; }
};
// Columns of a row-major matrix [k, columns], from column `first` on.
struct ColumnMajor {
  static constexpr bool ALONG_K = false;
  const float *data;
  u32 columns, first;
  INLINE const float *at(u32 column, u32 k) const { return data + (u64)k * columns + first + column; }
  INLINE u32 left(u32 column) const { return left_of(columns, first + column); }
  INLINE u64 step() const { return (u64)DEPTH * columns; }
  INLINE u32 width() const {
    u64 ends = (u64)data / 4 | columns;
    return ends % 4 == 0 ? 4 : ends % 2 == 0 ? 2 : 1;
  }
};
