// c[m, n] (+)= op(a)·op(b) (+ bias[n]): true f32, each element one sum over k in order. All
// transpositions, two tile sizes; and logits, whose parts are told. Where c has few tiles, blocks
// share out k: block_z() takes `part` of it and writes a matrix of its own, the block_z()-th from c
// on.
#include "common.cuh"
#include "tiles.cuh"
#include "row_parts.cuh"

#define ADD 1
#define BIAS 2

// The products of a thread, to which the bias is added.
template <int TM, typename B> INLINE void add_bias(const B &b, const float *bias, u32 n, float (&acc)[TM][TM]) {
#pragma unroll
  for (int j = 0; j < TM; ++j) {
    u32 column = b.first + tile_index(thread() % 16, j);
    float x = column < n ? bias[column] : 0.0f;
#pragma unroll
    for (int i = 0; i < TM; ++i) acc[i][j] += x;
  }
}

// c (+)= the products of a thread.
template <int TM, typename A, typename B>
INLINE void store_tile(const A &a, const B &b, const float (&acc)[TM][TM], float *c, u32 m, u32 n, u32 flags) {
  u32 tx = thread() % 16, ty = thread() / 16;
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    u32 row = a.first + tile_index(ty, i);
    if (row >= m) continue;
    float *to = c + (u64)row * n;
#pragma unroll
    for (int g = 0; g < TM / 4; ++g) {
      u32 column = b.first + tile_index(tx, 4 * g);
      if (n % 4 == 0) {
        if (column >= n) continue;
        float4 v = {acc[i][4 * g], acc[i][4 * g + 1], acc[i][4 * g + 2], acc[i][4 * g + 3]};
        if (flags & ADD) {
          float4 old = *(const float4 *)(to + column);
          v = {old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w};
        }
        *(float4 *)(to + column) = v;
      } else if (n % 2 == 0) {
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          if (column + j >= n) continue;
          float2 v = {acc[i][4 * g + j], acc[i][4 * g + j + 1]};
          if (flags & ADD) v += *(const float2 *)(to + column + j);
          *(float2 *)(to + column + j) = v;
        }
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (column + j < n) put(to + column + j, acc[i][4 * g + j], flags & ADD);
      }
    }
  }
}

template <int TM, typename A, typename B>
INLINE void gemm(const A &a, const B &b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 part, u32 flags) {
  float acc[TM][TM];
  tile_product<TM>(a, b, smaller(part, k - first_k(part)), acc);
  if (flags & BIAS) add_bias<TM>(b, bias, n, acc);
  store_tile<TM>(a, b, acc, c + (u64)block_z() * m * n, m, n, flags);
}

// parts[row, tile]: of row `row` of x[m, k]·w[n, k]ᵀ (+ bias[n]), which is stored in c with KEEP;
// targets[m] with TARGETS.
template <int TM>
INLINE void logits(const float *x, const float *w, const float *bias, const u32 *targets, float *c, uint4 *parts, u32 m, u32 n, u32 k,
                   u32 flags) {
  RowMajor a{x, m, k, 16 * TM * block_y()}, b{w, n, k, 16 * TM * block_x()};
  float acc[TM][TM];
  tile_product<TM>(a, b, k, acc);
  if (flags & BIAS) add_bias<TM>(b, bias, n, acc);
  u32 tx = thread() % 16, ty = thread() / 16, tiles = (n + 16 * TM - 1) / (16 * TM);
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    u32 row = a.first + tile_index(ty, i), target = NO_COLUMN;
    if ((flags & TARGETS) && row < m) target = targets[row];
    RowPart part = part_of_lanes<16, TM>([&](int j) { return acc[i][j]; }, [&](int j) { return b.first + tile_index(tx, j); }, n, target);
    if (tx == 0 && row < m) store_part(parts + (u64)row * tiles + block_x(), part);
  }
  if (flags & KEEP) store_tile<TM>(a, b, acc, c, m, n, flags);
}

// n or t: as stored, or transposed. a is [m, k] or [k, m], b is [k, n] or [n, k].
#define ARGUMENTS const float *a, const float *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 part, u32 flags
#define ROWS(X, N, FIRST) RowMajor{X + first_k(part), N, k, FIRST}
#define COLUMNS(X, N, FIRST) ColumnMajor{X + (u64)first_k(part) * N, N, FIRST}
#define KERNELS(SIZE, TM, RESIDENT)                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_nn_##SIZE(ARGUMENTS) {                                                          \
    gemm<TM>(ROWS(a, m, 16 * TM * block_y()), COLUMNS(b, n, 16 * TM * block_x()), bias, c, m, n, k, part, flags);                         \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_nt_##SIZE(ARGUMENTS) {                                                          \
    gemm<TM>(ROWS(a, m, 16 * TM * block_y()), ROWS(b, n, 16 * TM * block_x()), bias, c, m, n, k, part, flags);                            \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_tn_##SIZE(ARGUMENTS) {                                                          \
    gemm<TM>(COLUMNS(a, m, 16 * TM * block_y()), COLUMNS(b, n, 16 * TM * block_x()), bias, c, m, n, k, part, flags);                      \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) gemm_tt_##SIZE(ARGUMENTS) {                                                          \
    gemm<TM>(COLUMNS(a, m, 16 * TM * block_y()), ROWS(b, n, 16 * TM * block_x()), bias, c, m, n, k, part, flags);                         \
  }                                                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT)                                                                              \
      logits_##SIZE(const float *x, const float *w, const float *bias, const u32 *targets, float *c, uint4 *parts, u32 m, u32 n,  \
                    u32 k, u32 flags) {                                                                                           \
    logits<TM>(x, w, bias, targets, c, parts, m, n, k, flags);                                                                    \
  }

KERNELS(small, 4, 3)
KERNELS(large, 8, 2)
