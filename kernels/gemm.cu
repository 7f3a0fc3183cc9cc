// c[m, n] (+)= op(a)·op(b) (+ bias[n]): true f32, each element one sum over k in order. All transpositions, two tile sizes.
#include "common.cuh"

#define ADD 1
#define BIAS 2

template <int TM, typename A, typename B>
INLINE void gemm(const A &a, const B &b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 flags) {
  float acc[TM][TM];
  tile_product<TM>(a, b, k, acc);
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
        if (flags & BIAS) v = {v.x + bias[column], v.y + bias[column + 1], v.z + bias[column + 2], v.w + bias[column + 3]};
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
          if (flags & BIAS) v += (float2){bias[column + j], bias[column + j + 1]};
          if (flags & ADD) v += *(const float2 *)(to + column + j);
          *(float2 *)(to + column + j) = v;
        }
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (column + j < n) {
            float v = acc[i][4 * g + j];
            if (flags & BIAS) v += bias[column + j];
            put(to + column + j, v, flags & ADD);
          }
      }
    }
  }
}

// n or t: as stored, or transposed. a is [m, k] or [k, m], b is [k, n] or [n, k].
#define KERNELS(SIZE, TM, RESIDENT)                                                                                                       \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) \
      gemm_nn_##SIZE(const float *a, const float *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 flags) {               \
    gemm<TM>(RowMajor{a, m, k, 16 * TM * block_y()}, ColumnMajor{b, n, 16 * TM * block_x()}, bias, c, m, n, k, flags);            \
  }                                                                                                                               \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) \
      gemm_nt_##SIZE(const float *a, const float *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 flags) {               \
    gemm<TM>(RowMajor{a, m, k, 16 * TM * block_y()}, RowMajor{b, n, k, 16 * TM * block_x()}, bias, c, m, n, k, flags);            \
  }                                                                                                                               \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) \
      gemm_tn_##SIZE(const float *a, const float *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 flags) {               \
    gemm<TM>(ColumnMajor{a, m, 16 * TM * block_y()}, ColumnMajor{b, n, 16 * TM * block_x()}, bias, c, m, n, k, flags);            \
  }                                                                                                                               \
  __global__ void __launch_bounds__(BLOCK, RESIDENT) \
      gemm_tt_##SIZE(const float *a, const float *b, const float *bias, float *c, u32 m, u32 n, u32 k, u32 flags) {               \
    gemm<TM>(ColumnMajor{a, m, 16 * TM * block_y()}, RowMajor{b, n, k, 16 * TM * block_x()}, bias, c, m, n, k, flags);            \
  }

KERNELS(small, 4, 3)
KERNELS(large, 8, 2)
