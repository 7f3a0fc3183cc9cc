// Products of operands in bf16: rounding, and tiles by tensor cores. For kernels that have to do
// with them, beside common.cuh.
//
// An operand is a row-major matrix of bf16 whose rows are `ld` elements apart, a multiple of 16,
// and zero from its last column on up to there. So every row begins at a sector, and eight
// neighbours can always be copied at once. Sums are in f32.
#pragma once

typedef u32 uint2 __attribute__((ext_vector_type(2)));

// As the CPU rounds (src/device/cpu/gemm/bf16.rs): to the nearest, ties to even; numbers below the
// normal ones of f32 count as zero.
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
// A block of 256 threads computes a tile of TM rows and TN columns; a
// warp WM rows and WN columns of it, in fragments of 16 by 8. Slices of 32 in k come by
// asynchronous copies into three buffers of shared memory in turn, and from there by ldmatrix;
// chunks of 16 bytes are exchanged so that neither has a bank conflict.
#define SLICE 32u
#define STAGES 3u

// Where the chunk of (outer, k) begins in a slice of EDGE rows or columns, in bytes. ALONG_K: an
// outer index has its 32 elements of k side by side, and eight outer indices meet in all banks;
// else an index of k has its EDGE elements side by side.
template <u32 EDGE, bool ALONG_K> INLINE u32 slice_at(u32 outer, u32 k) {
  return ALONG_K ? outer * 2 * SLICE + ((k / 8 ^ outer / 2 % 4) * 16) : k * 2 * EDGE + ((outer / 8 ^ k % 8) * 16);
}

// The chunks of an operand that a thread copies into every slice of EDGE rows or columns. What does
// not change from slice to slice is computed once. M tells where the eight elements from (outer, k)
// on are, how many outer indices there are from one on, and how far it is to the next slice.
template <u32 EDGE, typename M> struct Copier {
  // chunks side by side in memory; and how many of their rows are between two chunks of a thread
  static constexpr u32 ACROSS = M::ALONG_K ? SLICE / 8 : EDGE / 8, APART = BLOCK / ACROSS, COUNT = EDGE * SLICE / 8 / BLOCK;
  const u16 *from[COUNT];
  // of the first chunk, in the slice that comes next; in shared memory, in the first buffer; and
  // outer indices from there on
  u32 k, to, left;
  INLINE Copier(const M &m, u32 buffer) {
    u32 down = thread() / ACROSS, across = thread() % ACROSS * 8, outer = M::ALONG_K ? down : across;
    k = M::ALONG_K ? across : down, to = buffer + slice_at<EDGE, M::ALONG_K>(outer, k);
#pragma unroll
    for (u32 i = 0; i < COUNT; ++i) from[i] = M::ALONG_K ? m.at(outer + i * APART, k) : m.at(outer, k + i * APART);
    left = m.left(outer);
  }
  // Begins to copy the next slice to so many bytes beyond the first buffer; zeros where the operand
  // has no chunk, of which nothing is read.
  INLINE void copy(const M &m, u32 beyond, u32 end) {
    u32 here = opaque(k < end ? left : 0), end_here = opaque(left > 0 ? end : 0);
#pragma unroll
    for (u32 i = 0; i < COUNT; ++i) {
      bool inside = M::ALONG_K ? i * APART < here : k + i * APART < end_here;
      // rows that are APART are exchanged alike
      begin_copy<16>(to + beyond + i * APART * 2 * (M::ALONG_K ? SLICE : EDGE), from[i], inside);
      from[i] += m.step();
    }
    k += SLICE;
  }
};
// The matrices of 8 by 8 that a lane's four registers come from: of the left operand (outer, k) =
// (0-7, 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15), as mma takes 16 rows. Of the right one (0-7,
// 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15): 8 columns are two registers, which the machine
// wants to be neighbours; in the other order each mma would cost two moves.
enum Side { LEFT, RIGHT };

// Where a lane's part of a warp's first fragment is in a slice; `outer` is where the warp's
// fragments begin, a multiple of all of them, whose number is a power of two: so their chunks are
// exchanged as those of the first one, and once more.
template <Side SIDE, u32 EDGE, bool ALONG_K> INLINE u32 fragment_at(u32 outer) {
  // the matrix whose row a lane tells, and the row
  u32 matrix = thread() % 32 / 8, row = thread() % 8;
  u32 outer_half = SIDE == LEFT ? matrix % 2 : matrix / 2, k_half = SIDE == LEFT ? matrix / 2 : matrix % 2;
  return slice_at<EDGE, ALONG_K>(outer + outer_half * 8 + (ALONG_K ? row : 0), k_half * 8 + (ALONG_K ? 0 : row));
}

// Fragment i of 16 outer indices by 16 of k, from index q of the slice on; `first`: where the first
// one is.
template <u32 EDGE, bool ALONG_K> INLINE void load_fragment(u32 first, u32 i, u32 q, u32 (&f)[4]) {
  if (ALONG_K)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"((first ^ q * 2) + i * 16 * 2 * SLICE)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                 : "r"((first ^ i * 32) + q * 2 * EDGE)
                 : "memory");
}

// acc += a·b. A lane has rows lane/4 and lane/4 + 8 (acc[0], acc[1] and acc[2], acc[3]), columns
// lane%4·2 and its neighbour.
INLINE void multiply_fragments(const u32 (&a)[4], u32 b0, u32 b1, float (&acc)[4]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where a warp's part of the tile begins.
template <u32 TN, u32 WM, u32 WN> INLINE u32 warp_row() { return thread() / 32 / (TN / WN) * WM; }
template <u32 TN, u32 WN> INLINE u32 warp_column() { return thread() / 32 % (TN / WN) * WN; }

// The fragments of a warp's part: acc[i][j] begins at its row 16·i, column 8·j. Returns where the
// operands were, 2·STAGES·(TM + TN)·SLICE bytes that nobody needs once all threads are here.
template <u32 TM, u32 TN, u32 WM, u32 WN, typename A, typename B>
INLINE void *tensor_product(const A &a, const B &b, u32 k, float (&acc)[WM / 16][WN / 8][4]) {
  static_assert(TM / WM * (TN / WN) == BLOCK / 32, "eight warps share a tile");
  // of a buffer, in which the slice of a comes first
  constexpr u32 BYTES_A = 2 * TM * SLICE, BYTES = 2 * (TM + TN) * SLICE;
  alignas(128) static __shared__ u16 buffers[STAGES * BYTES / 2];
  u32 first = shared_address(buffers);
  Copier<TM, A> copier_a(a, first);
  Copier<TN, B> copier_b(b, first + BYTES_A);
  u32 first_a = first + fragment_at<LEFT, TM, A::ALONG_K>(warp_row<TN, WM, WN>());
  u32 first_b = first + BYTES_A + fragment_at<RIGHT, TN, B::ALONG_K>(warp_column<TN, WN>());
#pragma unroll
  for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
    for (u32 j = 0; j < WN / 8; ++j)
#pragma unroll
      for (u32 n = 0; n < 4; ++n) acc[i][j][n] = 0.0f;
  // as many groups as if there were slices enough, so that the number to wait for is always the
  // same
#pragma unroll
  for (u32 s = 0; s < STAGES - 1; ++s) {
    if (s * SLICE < k) {
      copier_a.copy(a, s * BYTES, k);
      copier_b.copy(b, s * BYTES, k);
    }
    copies_begun();
  }
  u32 stage = 0, next = (STAGES - 1) * BYTES;
#pragma unroll 1
  for (u32 k0 = 0; k0 < k; k0 += SLICE) {
    copies_landed<STAGES - 2>();
    // this slice is there for all, and nobody reads the one before any more
    barrier();
    if (k0 + (STAGES - 1) * SLICE < k) {
      copier_a.copy(a, next, k);
      copier_b.copy(b, next, k);
    }
    copies_begun();
    u32 at_a = first_a + stage, at_b = first_b + stage;
#pragma unroll
    for (u32 q = 0; q < SLICE; q += 16) {
      u32 fa[WM / 16][4], fb[WN / 16][4];
#pragma unroll
      for (u32 i = 0; i < WM / 16; ++i) load_fragment<TM, A::ALONG_K>(at_a, i, q, fa[i]);
#pragma unroll
      for (u32 j = 0; j < WN / 16; ++j) load_fragment<TN, B::ALONG_K>(at_b, j, q, fb[j]);
#pragma unroll
      for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
        for (u32 j = 0; j < WN / 8; ++j) multiply_fragments(fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1], acc[i][j]);
    }
    // the buffer that was read now is the next to be filled
    next = stage;
    stage = stage == (STAGES - 1) * BYTES ? 0 : stage + BYTES;
  }
  return buffers;
}

// Rows of an operand from row `first` on; k runs along them.
struct RoundedRows {
  static constexpr bool ALONG_K = true;
  const u16 *data;
  u32 rows, ld, first;
  INLINE const u16 *at(u32 outer, u32 q) const { return data + (u64)(first + outer) * ld + q; }
  INLINE u32 left(u32 outer) const { return left_of(rows, first + outer); }
  INLINE u64 step() const { return SLICE; }
};
// Columns of an operand from column `first` on; k counts its rows.
struct RoundedColumns {
  static constexpr bool ALONG_K = false;
  const u16 *data;
  u32 columns, ld, first;
  INLINE const u16 *at(u32 outer, u32 q) const { return data + (u64)q * ld + first + outer; }
  INLINE u32 left(u32 outer) const { return left_of(columns, first + outer); }
  INLINE u64 step() const { return (u64)SLICE * ld; }
};
#endif
