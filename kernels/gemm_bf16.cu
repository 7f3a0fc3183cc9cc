// c[m, n] (+)= op(a)·op(b) (+ bias[n]) of operands in bf16, by tensor cores, with sums in f32; and
// the rounding of operands. All transpositions, three tile sizes; and logits, whose parts are told.
// Blocks share out k as in kernels/gemm.cu, whole slices of it. For compute capability 8.0 and
// newer: older GPUs have neither the format nor asynchronous copies.
#include "common.cuh"
#include "bf16.cuh"
#include "row_parts.cuh"

#if __CUDA_ARCH__ >= 800
#define ADD 1
#define BIAS 2
// Blocks run along m first: the operand with fewer tiles is read again from the L2 cache, the other
// one once.
#define ROWS_FIRST 4

// The sums of a warp's part of c, and where they belong: those of a lane begin at row0, column0.
template <u32 TM, u32 TN, u32 WM, u32 WN> struct Sums {
  float acc[WM / 16][WN / 8][4];
  u32 row0, column0;

  // Returns what tensor_product does.
  template <typename A, typename B> INLINE void *multiply(const A &a, const B &b, const float *bias, u32 n, u32 k, u32 flags) {
    void *free = tensor_product<TM, TN, WM, WN>(a, b, k, acc);
    u32 lane = thread() % 32;
    row0 = a.first + warp_row<TN, WM, WN>() + lane / 4, column0 = b.first + warp_column<TN, WN>() + lane % 4 * 2;
    if (!(flags & BIAS)) return free;
#pragma unroll
    for (u32 j = 0; j < WN / 8; ++j)
#pragma unroll
      for (u32 second = 0; second < 2; ++second) {
        u32 column = column0 + 8 * j + second;
        float x = column < n ? bias[column] : 0.0f;
#pragma unroll
        for (u32 i = 0; i < WM / 16; ++i) acc[i][j][second] += x, acc[i][j][2 + second] += x;
      }
    return free;
  }

  // c[m, n] (+)= the sums
  INLINE void store(float *c, u32 m, u32 n, u32 flags) const {
#pragma unroll
    for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
      for (u32 half = 0; half < 2; ++half) {
        u32 row = row0 + 16 * i + 8 * half;
        if (row >= m) continue;
        float *to = c + (u64)row * n;
#pragma unroll
        for (u32 j = 0; j < WN / 8; ++j) {
          u32 column = column0 + 8 * j;
          if (column >= n) continue;
          float2 v = {acc[i][j][2 * half], acc[i][j][2 * half + 1]};
          if (n % 2 == 0) {
            if (flags & ADD) v += *(const float2 *)(to + column);
            *(float2 *)(to + column) = v;
          } else {
            put(to + column, v.x, flags & ADD);
            if (column + 1 < n) put(to + column + 1, v.y, flags & ADD);
          }
        }
      }
  }
};

template <u32 TM, u32 TN, u32 WM, u32 WN, typename A, typename B>
INLINE void gemm(const A &a, const B &b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 part, u32 flags) {
  Sums<TM, TN, WM, WN> sums;
  sums.multiply(a, b, bias, n, smaller(part, k - first_k(part)), flags);
  sums.store(c + (u64)block_z() * m * n, m, n, flags);
}

// parts[row, tile]: of row `row` of x[m, k]·w[n, k]ᵀ (+ bias[n]), which is stored in c with KEEP;
// targets[m] with TARGETS.
template <u32 TM, u32 TN, u32 WM, u32 WN>
INLINE void logits(const RoundedRows &x, const RoundedRows &w, const float *bias, const u32 *targets, float *c, uint4 *parts, u32 m, u32 n,
                   u32 k, u32 flags) {
  // warps that share a tile's rows
  constexpr u32 WARPS = TN / WN;
  static_assert(TM <= BLOCK && WARPS * sizeof(RowPart) <= 2 * STAGES * SLICE, "a thread a row, and room for its parts");
  Sums<TM, TN, WM, WN> sums;
  uint4 *of_warps = (uint4 *)sums.multiply(x, w, bias, n, k, flags);
  // the last slice has been read by all
  barrier();
#pragma unroll
  for (u32 i = 0; i < WM / 16; ++i)
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
      u32 row = sums.row0 + 16 * i + 8 * half, target = NO_COLUMN;
      if ((flags & TARGETS) && row < m) target = targets[row];
      RowPart part = part_of_lanes<4, WN / 4>([&](int j) { return sums.acc[i][j / 2][2 * half + j % 2]; },
                                              [&](int j) { return sums.column0 + 8 * (j / 2) + j % 2; }, n, target);
      if (thread() % 4 == 0) store_part(of_warps + (thread() / 32 % WARPS) * TM + row - x.first, part);
    }
  barrier();
  u32 row = x.first + thread(), tiles = (n + TN - 1) / TN;
  if (thread() < TM && row < m) {
    u32 at = shared_address(of_warps + thread());
    RowPart part = load_shared_part(at);
#pragma unroll
    for (u32 warp = 1; warp < WARPS; ++warp) part = join(part, load_shared_part(at + warp * TM * sizeof(RowPart)));
    store_part(parts + (u64)row * tiles + w.first / TN, part);
  }
  if (flags & KEEP) sums.store(c, m, n, flags);
}

// n or t: as stored, or transposed. a is [m, k] or [k, m], b is [k, n] or [n, k], with rows lda and
// ldb apart.
#define ARGUMENTS \
  const u16 *a, const u16 *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 lda, u32 ldb, u32 part, u32 flags
#define FIRST_ROW(TM) (TM * (flags & ROWS_FIRST ? block_x() : block_y()))
#define FIRST_COLUMN(TN) (TN * (flags & ROWS_FIRST ? block_y() : block_x()))
#define ROWS(X, N, LD, FIRST) RoundedRows{X + first_k(part), N, LD, FIRST}
#define COLUMNS(X, N, LD, FIRST) RoundedColumns{X + (u64)first_k(part) * LD, N, LD, FIRST}
#define KERNELS(SIZE, TM, TN, WM, WN, RESIDENT)                                                                                           \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_bf16_nn_##SIZE(ARGUMENTS) {                                                     \
    gemm<TM, TN, WM, WN>(ROWS(a, m, lda, FIRST_ROW(TM)), COLUMNS(b, n, ldb, FIRST_COLUMN(TN)), bias, c, m, n, k, part, flags);            \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_bf16_nt_##SIZE(ARGUMENTS) {                                                     \
    gemm<TM, TN, WM, WN>(ROWS(a, m, lda, FIRST_ROW(TM)), ROWS(b, n, ldb, FIRST_COLUMN(TN)), bias, c, m, n, k, part, flags);               \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_bf16_tn_##SIZE(ARGUMENTS) {                                                     \
    gemm<TM, TN, WM, WN>(COLUMNS(a, m, lda, FIRST_ROW(TM)), COLUMNS(b, n, ldb, FIRST_COLUMN(TN)), bias, c, m, n, k, part, flags);         \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_bf16_tt_##SIZE(ARGUMENTS) {                                                     \
    gemm<TM, TN, WM, WN>(COLUMNS(a, m, lda, FIRST_ROW(TM)), ROWS(b, n, ldb, FIRST_COLUMN(TN)), bias, c, m, n, k, part, flags);            \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT)                                                                                      \
      logits_bf16_##SIZE(const u16 *x, const u16 *w, const float *bias, const u32 *targets, float *c, uint4 *parts, u32 m, u32 n, u32 k,  \
                         u32 ldx, u32 ldw, u32 flags) {                                                                                   \
    logits<TM, TN, WM, WN>(RoundedRows{x, m, ldx, FIRST_ROW(TM)}, RoundedRows{w, n, ldw, FIRST_COLUMN(TN)}, bias, targets, c,       \
                           parts, m, n, k, flags);                                                                                        \
  }

KERNELS(small, 64, 64, 32, 16, 3)
KERNELS(tall, 128, 64, 32, 32, 2)
KERNELS(large, 128, 128, 64, 32, 2)

// y[rows, ld] = x[rows, columns], and zeros; V neighbours a thread.
template <u32 V> INLINE void round_rows(const float *x, u16 *y, u32 rows, u32 columns, u32 ld) {
  u32 row = global_thread() / (ld / V), column = global_thread() % (ld / V) * V;
  if (row >= rows) return;
  const float *from = x + (u64)row * columns + column;
  u16 *to = y + (u64)row * ld + column;
  bool inside = column < columns;
  if (V == 4) {
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (inside) v = *(const float4 *)from;
    *(uint2 *)to = {round_pair(v.x, v.y), round_pair(v.z, v.w)};
  } else if (V == 2) {
    float2 v = {0.0f, 0.0f};
    if (inside) v = *(const float2 *)from;
    *(u32 *)to = round_pair(v.x, v.y);
  } else {
    *to = inside ? round_bf16(*from) : 0;
  }
}

// An operand: `vector` neighbours of x can be read at a time.
__global__ void __launch_bounds__(BLOCK) round_operand(const float *x, u16 *y, u32 rows, u32 columns, u32 ld, u32 vector) {
  if (vector == 4) round_rows<4>(x, y, rows, columns, ld);
  else if (vector == 2) round_rows<2>(x, y, rows, columns, ld);
  else round_rows<1>(x, y, rows, columns, ld);
}
#endif
