// Products of operands in bf16: rounding, and tiles by tensor cores. For kernels that have to do with them, beside common.cuh.
//
// An operand is a row-major matrix of bf16 whose rows are `ld` elements apart, a multiple of 16, and zero from its last column on up to there. So
// every row begins at a sector, and eight neighbours can always be copied at once. Sums are in f32.
#pragma once

typedef u32 uint2 __attribute__((ext_vector_type(2)));

// As the CPU rounds (src/device/cpu/gemm/bf16.rs): to the nearest, ties to even; numbers below the normal ones of f32 count as zero.
INLINE u16 round_bf16(float x) { return (to_bits(x) & 0x7F800000u) == 0 ? (u16)((to_bits(x) & 0x80000000u) >> 16) : to_bf16(x); }
// Two neighbours, the first one in the lower half.
INLINE u32 round_pair(float first, float second) { return (u32)round_bf16(first) | (u32)round_bf16(second) << 16; }

// Where a kernel puts a copy of what it computes as an operand; ld is 0 where there is none.
struct RoundedCopy {
  u16 *to;
  u32 ld;
  INLINE void put(u32 row, u32 column, float x) const { to[(u64)row * ld + column] = round_bf16(x); }
};

#if __CUDA_ARCH__ >= 800
// ---- tiles of a product ----
// A block of 256 threads computes a tile of TM rows and TN columns; a warp WM rows and WN columns of it, in fragments of 16 by 8. Slices of 32 in k come by
// asynchronous copies into three buffers of shared memory in turn, and from there by ldmatrix; chunks of 16 bytes are exchanged so that neither has a bank
// conflict.
#define SLICE 32u
#define STAGES 3u

// Where the chunk of (outer, k) begins in a slice of EDGE rows or columns, in bytes. ALONG_K: an outer index has its 32 elements of k side by side, and
// eight outer indices meet in all banks; else an index of k has its EDGE elements side by side.
template <u32 EDGE, bool ALONG_K> INLINE u32 slice_at(u32 outer, u32 k) {
  return ALONG_K ? outer * 2 * SLICE + ((k / 8 ^ outer / 2 % 4) * 16) : k * 2 * EDGE + ((outer / 8 ^ k % 8) * 16);
}

// Begins to copy the slice from k0 on; zeros where the operand has no chunk. M::at tells the place of eight elements: of (outer, k) and what follows in k,
// or what follows in outer; or that there are none.
template <u32 EDGE, typename M> INLINE void copy_slice(u32 to, const M &m, u32 k0) {
#pragma unroll
  for (u32 i = 0; i < EDGE * SLICE / 8 / BLOCK; ++i) {
    u32 chunk = thread() + i * BLOCK;
    u32 outer = M::ALONG_K ? chunk / (SLICE / 8) : chunk % (EDGE / 8) * 8;
    u32 k = M::ALONG_K ? chunk % (SLICE / 8) * 8 : chunk / (EDGE / 8);
    const u16 *from = m.at(outer, k0 + k);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to + slice_at<EDGE, M::ALONG_K>(outer, k)), "l"(from ? from : m.data),
                 "r"(from ? 16 : 0)
                 : "memory");
  }
}
INLINE void copies_begun() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All groups of copies but the last LEFT have landed.
template <u32 LEFT> INLINE void copies_landed() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// 16 outer indices by 16 of k: (0-7, 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15), as mma takes them.
template <u32 EDGE, bool ALONG_K> INLINE void load_fragment(u32 slice, u32 outer, u32 k, u32 (&f)[4]) {
  u32 lane = thread() % 32;
  if (ALONG_K)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(slice + slice_at<EDGE, true>(outer + lane % 16, k + lane / 16 * 8))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"(slice + slice_at<EDGE, false>(outer + lane / 8 % 2 * 8, k + lane % 8 + lane / 16 * 8))
                 : "memory");
}

// acc += a·b. A lane has rows lane/4 and lane/4 + 8 (acc[0], acc[1] and acc[2], acc[3]), columns lane%4·2 and its neighbour.
INLINE void multiply_fragments(const u32 (&a)[4], u32 b0, u32 b1, float (&acc)[4]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where a warp's part of the tile begins.
template <u32 TN, u32 WM, u32 WN> INLINE u32 warp_row() { return thread() / 32 / (TN / WN) * WM; }
template <u32 TN, u32 WN> INLINE u32 warp_column() { return thread() / 32 % (TN / WN) * WN; }

// The fragments of a warp's part: acc[i][j] begins at its row 16·i, column 8·j. Returns where the operands were, 2·STAGES·TM·SLICE bytes that nobody needs
// once all threads are here.
template <u32 TM, u32 TN, u32 WM, u32 WN, typename A, typename B>
INLINE void *tensor_product(const A &a, const B &b, u32 k, float (&acc)[WM / 16][WN / 8][4]) {
  static_assert(TM / WM * (TN / WN) == BLOCK / 32, "eight warps share a tile");
  constexpr u32 BYTES_A = 2 * TM * SLICE, BYTES_B = 2 * TN * SLICE;
  alignas(128) static __shared__ u16 as[STAGES * TM * SLICE], bs[STAGES * TN * SLICE];
  u32 to_a = shared_address(as), to_b = shared_address(bs), row = warp_row<TN, WM, WN>(), column = warp_column<TN, WN>();
#pragma unroll
  for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
    for (u32 j = 0; j < WN / 8; ++j)
#pragma unroll
      for (u32 n = 0; n < 4; ++n) acc[i][j][n] = 0.0f;
  // as many groups as if there were slices enough, so that the number to wait for is always the same
#pragma unroll
  for (u32 s = 0; s < STAGES - 1; ++s) {
    if (s * SLICE < k) {
      copy_slice<TM>(to_a + s * BYTES_A, a, s * SLICE);
      copy_slice<TN>(to_b + s * BYTES_B, b, s * SLICE);
    }
    copies_begun();
  }
  u32 stage = 0, next = STAGES - 1;
#pragma unroll 1
  for (u32 k0 = 0; k0 < k; k0 += SLICE) {
    copies_landed<STAGES - 2>();
    // this slice is there for all, and nobody reads the one before any more
    barrier();
    u32 ahead = k0 + (STAGES - 1) * SLICE;
    if (ahead < k) {
      copy_slice<TM>(to_a + next * BYTES_A, a, ahead);
      copy_slice<TN>(to_b + next * BYTES_B, b, ahead);
    }
    copies_begun();
    u32 slice_a = to_a + stage * BYTES_A, slice_b = to_b + stage * BYTES_B;
#pragma unroll
    for (u32 q = 0; q < SLICE; q += 16) {
      u32 fa[WM / 16][4], fb[WN / 16][4];
#pragma unroll
      for (u32 i = 0; i < WM / 16; ++i) load_fragment<TM, A::ALONG_K>(slice_a, row + 16 * i, q, fa[i]);
#pragma unroll
      for (u32 j = 0; j < WN / 16; ++j) load_fragment<TN, B::ALONG_K>(slice_b, column + 16 * j, q, fb[j]);
#pragma unroll
      for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
        for (u32 j = 0; j < WN / 8; ++j) multiply_fragments(fa[i], fb[j / 2][j % 2], fb[j / 2][j % 2 + 2], acc[i][j]);
    }
    stage = stage + 1 == STAGES ? 0 : stage + 1;
    next = next + 1 == STAGES ? 0 : next + 1;
  }
  return as;
}

// Rows of an operand from row `first` on; k runs along them.
struct RoundedRows {
  static constexpr bool ALONG_K = true;
  const u16 *data;
  u32 rows, k, ld, first;
  INLINE const u16 *at(u32 outer, u32 q) const {
    return first + outer < rows && q < k ? data + (u64)(first + outer) * ld + q : (const u16 *)0;
  }
};
// Columns of an operand of k rows from column `first` on.
struct RoundedColumns {
  static constexpr bool ALONG_K = false;
  const u16 *data;
  u32 columns, k, ld, first;
  INLINE const u16 *at(u32 outer, u32 q) const {
    return first + outer < columns && q < k ? data + (u64)q * ld + first + outer : (const u16 *)0;
  }
};
#endif
