#include "common.cuh"

// Goes on with the pooling over one more chunk [steps, rows, size] that begins at time `begin`. `spans` [B, 2]: first pooled step and the step
// after the last; y [B, 3E] = last, max, mean (a sum until a row's last step); argmax [B, E] a time. A thread for an element of [rows, E].
__global__ void __launch_bounds__(BLOCK)
    concat_pool_forward(const float *x, const u32 *spans, float *y, u32 *argmax, u32 begin, u32 steps, u32 rows, u32 size) {
  u32 i = global_thread();
  if (i >= rows * size) return;
  u32 row = i / size, column = i % size, from = spans[2 * row], to = spans[2 * row + 1];
  u32 t = from > begin ? from : begin, stop = to < begin + steps ? to : begin + steps;
  if (t >= stop) return;
  float *out = y + (u64)row * 3 * size + column;
  float max = NEGATIVE_INFINITY, sum = 0.0f, last = 0.0f;
  u32 at = 0;
  if (t > from) max = out[size], sum = out[2 * size], at = argmax[i];
  for (; t < stop; ++t) {
    last = x[(u64)((t - begin) * rows + row) * size + column];
    if (t == from) {
      max = last, sum = last, at = t;
    } else {
      sum += last;
      if (last > max) max = last, at = t;
    }
  }
  if (stop == to) {
    out[0] = last;
    sum = sum / (float)(to - from);
  }
  out[size] = max;
  out[2 * size] = sum;
  argmax[i] = at;
}

// The chunk's gradient from dy [B, 3E]; a thread for an element of [steps, rows, E]
__global__ void __launch_bounds__(BLOCK) concat_pool_backward(const float *dy, const u32 *spans, const u32 *argmax, float *dx, u32 begin,
                                                              u32 steps, u32 rows, u32 size, u32 add) {
  u32 i = global_thread();
  if (i >= steps * rows * size) return;
  u32 column = i % size, row = i / size % rows, t = begin + i / size / rows;
  u32 from = spans[2 * row], to = spans[2 * row + 1];
  float d = 0.0f;
  if (from <= t && t < to) {
    const float *upstream = dy + (u64)row * 3 * size + column;
    d = upstream[2 * size] / (float)(to - from);
    if (argmax[row * size + column] == t) d += upstream[size];
    if (t + 1 == to) d += upstream[0];
  }
  put(dx + i, d, add);
}
