// Ordinary, locked and weight dropout: a matrix times a mask, forward and backward alike.
#include "common.cuh"

// y[o, r, c] (+)= x[o, r, c]·mask[r, c]. A thread draws the factors of four columns once, for all `outer` repetitions (time steps).
__global__ void __launch_bounds__(BLOCK)
    mask_multiply(const float *x, float *y, u32 outer, u32 rows, u32 columns, MaskOf mask, u32 add) {
  u32 quads = (columns + 3) / 4, i = global_thread();
  if (i >= rows * quads) return;
  u32 row = i / quads, quad = i % quads;
  float4 f = mask_factors(Mask(mask), row, quad);
  u64 at = (u64)row * columns + 4 * quad, stride = (u64)rows * columns;
  if (columns % 4 == 0) {
    for (u32 o = 0; o < outer; ++o, at += stride) {
      float4 v = *(const float4 *)(x + at);
      float4 out = {v.x * f.x, v.y * f.y, v.z * f.z, v.w * f.w};
      float4 *to = (float4 *)(y + at);
      if (add) {
        float4 old = *to;
        out = {old.x + out.x, old.y + out.y, old.z + out.z, old.w + out.w};
      }
      *to = out;
    }
    return;
  }
  u32 left = columns - 4 * quad;
  for (u32 o = 0; o < outer; ++o, at += stride) {
    put(y + at, x[at] * f.x, add);
    if (left > 1) put(y + at + 1, x[at + 1] * f.y, add);
    if (left > 2) put(y + at + 2, x[at + 2] * f.z, add);
    if (left > 3) put(y + at + 3, x[at + 3] * f.w, add);
  }
}

// y[o, i] (+)= x[o, i]·mask[i], `period` elements of a given mask
__global__ void __launch_bounds__(BLOCK)
    given_multiply(const float *x, const float *mask, float *y, u32 period, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(y + i, x[i] * mask[i % period], add);
}
