// C (m, n) = A (m, k) B (k, n), row-major f32; a block computes a 64x64 tile, a thread 4x4 of it.
#include "prelude.cuh"
extern "C" __global__ void __launch_bounds__(256) sgemm(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c,
                                                       uint m, uint n, uint k) {
  __shared__ float as[16][64 + 4];
  __shared__ float bs[16][64];
  uint tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  uint row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
  float acc[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) acc[i][j] = 0.0f;
  for (uint k0 = 0; k0 < k; k0 += 16) {
#pragma unroll
    for (uint t = 0; t < 4; ++t) {
      uint e = threadIdx.x + t * 256;
      uint r = e / 16, q = e % 16;
      as[q][r] = row0 + r < m && k0 + q < k ? a[(row0 + r) * k + k0 + q] : 0.0f;
      uint p = e / 64, s = e % 64;
      bs[p][s] = k0 + p < k && col0 + s < n ? b[(k0 + p) * n + col0 + s] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int q = 0; q < 16; ++q) {
      float x[4], y[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = as[q][ty * 4 + i];
#pragma unroll
      for (int j = 0; j < 4; ++j) y[j] = bs[q][tx * 4 + j];
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[i][j] += x[i] * y[j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      uint r = row0 + ty * 4 + i, s = col0 + tx * 4 + j;
      if (r < m && s < n) c[r * n + s] = acc[i][j];
    }
}
