// A thread for a column of a pair.
#include "common.cuh"

// y[b] = [u; v; |u - v|; u·v], u and v the rows of x that pairs[b] names
__global__ void __launch_bounds__(BLOCK) pair_features_forward(const float *x, const u32 *pairs, float *y, u32 rows, u32 size) {
  u32 i = global_thread();
  if (i >= rows * size) return;
  u32 row = i / size, column = i % size;
  float u = x[(u64)pairs[2 * row] * size + column], v = x[(u64)pairs[2 * row + 1] * size + column];
  float *to = y + (u64)row * 4 * size + column;
  to[0] = u;
  to[size] = v;
  to[2 * size] = absolute(u - v);
  to[3 * size] = u * v;
}

// every row of x is in one pair, so that no two threads write the same element
__global__ void __launch_bounds__(BLOCK)
    pair_features_backward(const float *x, const u32 *pairs, const float *dy, float *dx, u32 rows, u32 size, u32 add) {
  u32 i = global_thread();
  if (i >= rows * size) return;
  u32 row = i / size, column = i % size;
  u64 at_u = (u64)pairs[2 * row] * size + column, at_v = (u64)pairs[2 * row + 1] * size + column;
  const float *from = dy + (u64)row * 4 * size + column;
  float u = x[at_u], v = x[at_v], distance = from[2 * size], product = from[3 * size];
  distance = u > v ? distance : u < v ? -distance : 0.0f;
  put(dx + at_u, from[0] + distance + v * product, add);
  put(dx + at_v, from[size] - distance + u * product, add);
}
