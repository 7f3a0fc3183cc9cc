#include "common.cuh"

// y [T, B, 2I]: x [T, B, I], and beside every step the one before it; before the first one `before`
// [B, I]. A thread for an element of x, which is written to both of its places; n of them, `step` =
// B·I.
__global__ void __launch_bounds__(BLOCK)
    with_previous_forward(const float *x, const float *before, float *y, u32 n, u32 step, u32 size) {
  u32 i = global_thread();
  if (i >= n) return;
  u32 row = i / size, column = i % size;
  float value = x[i];
  y[(u64)row * 2 * size + column] = value;
  if (i < step) y[(u64)row * 2 * size + size + column] = before[i];
  if (i + step < n) y[(u64)(row + step / size) * 2 * size + size + column] = value;
}

// dx (+)= the left half of its step of dy and the right half of the next
__global__ void __launch_bounds__(BLOCK) with_previous_backward(const float *dy, float *dx, u32 n, u32 step, u32 size, u32 add) {
  u32 i = global_thread();
  if (i >= n) return;
  u32 row = i / size, column = i % size;
  float d = dy[(u64)row * 2 * size + column];
  if (i + step < n) d += dy[(u64)(row + step / size) * 2 * size + size + column];
  put(dx + i, d, add);
}

// d [B, I] (+)= the right half of the first step of dy
__global__ void __launch_bounds__(BLOCK) with_previous_backward_first(const float *dy, float *d, u32 n, u32 size, u32 add) {
  u32 i = global_thread();
  if (i < n) put(d + i, dy[(u64)(i / size) * 2 * size + size + i % size], add);
}
