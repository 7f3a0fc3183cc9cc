// Ordinary, locked and weight dropout: a matrix times a mask, forward and backward alike.
#include "common.cuh"

INLINE float lane_of(float x, u32 lane) { return __nvvm_shfl_sync_idx_f32(0xFFFFFFFFu, x, (int)lane, 31); }

// y[o, r, c] (+)= x[o, r, c]·mask[r, c]. A thread draws the factors of four columns once, for
// `span` of the `outer` repetitions (time steps); the grid's second dimension counts the spans.
// Where columns come in fours, the thread also multiplies them. Else a warp has 128 columns of a
// row, and a thread every 32nd of them, so that neighbours stay neighbours.
__global__ void __launch_bounds__(BLOCK)
    mask_multiply(const float *x, float *y, u32 outer, u32 span, u32 rows, u32 columns, MaskOf mask, u32 add) {
  u32 i = global_thread(), from = block_y() * span, to = smaller(outer, from + span);
  u64 stride = (u64)rows * columns;
  if (columns % 4 == 0) {
    u32 quads = columns / 4;
    if (i >= rows * quads) return;
    float4 f = mask_factors(Mask(mask), i / quads, i % quads);
    u64 at = from * stride + 4 * (u64)i;
    for (u32 o = from; o < to; ++o, at += stride) {
      float4 out = *(const float4 *)(x + at) * f;
      if (add) out += *(const float4 *)(y + at);
      *(float4 *)(y + at) = out;
    }
    return;
  }
  u32 chunks = (columns + 127) / 128, lane = i % 32, row = i / 32 / chunks, first = i / 32 % chunks * 128;
  if (row >= rows) return;
  float4 f = mask_factors(Mask(mask), row, first / 4 + lane);
  float factor[4];
#pragma unroll
  for (u32 j = 0; j < 4; ++j) {
    u32 owner = 8 * j + lane / 4, part = lane % 4;
    float a = lane_of(f.x, owner), b = lane_of(f.y, owner), c = lane_of(f.z, owner), d = lane_of(f.w, owner);
    factor[j] = part == 0 ? a : part == 1 ? b : part == 2 ? c : d;
  }
  u64 at = from * stride + (u64)row * columns + first + lane;
  for (u32 o = from; o < to; ++o, at += stride)
#pragma unroll
    for (u32 j = 0; j < 4; ++j)
      if (first + lane + 32 * j < columns) put(y + at + 32 * j, x[at + 32 * j] * factor[j], add);
}

// y[o, i] (+)= x[o, i]·mask[i], `period` elements of a given mask
__global__ void __launch_bounds__(BLOCK)
    given_multiply(const float *x, const float *mask, float *y, u32 period, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(y + i, x[i] * mask[i % period], add);
}
