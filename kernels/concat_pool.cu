#include "common.cuh"

// Goes on with the pooling over one more chunk [steps, rows, size] that begins at time `begin`.
// `spans` [B, 2]: first pooled step and the step after the last; y [B, 3E] = last, max, mean (a sum
// until a row's last step); argmax [B, E] a time. A thread for an element of [rows, E].
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
    // without a branch: lanes that part here would read the next values at different times
    u32 first = t == from, larger = first | (u32)(last > max);
    sum = first ? last : sum + last;
    max = larger ? last : max;
    at = larger ? t : at;
  }
  if (stop == to) {
    out[0] = last;
    sum = sum / (float)(to - from);
  }
  out[size] = max;
  out[2 * size] = sum;
  argmax[i] = at;
}

// The chunk's gradient [steps, rows, E] from dy [B, 3E]; a thread for an element of [rows, E]
__global__ void __launch_bounds__(BLOCK) concat_pool_backward(const float *dy, const u32 *spans, const u32 *argmax, float *dx, u32 begin,
                                                              u32 steps, u32 rows, u32 size, u32 add) {
  u32 i = global_thread();
  if (i >= rows * size) return;
  u32 column = i % size, row = i / size, from = spans[2 * row], to = spans[2 * row + 1], at = argmax[i];
  const float *upstream = dy + (u64)row * 3 * size + column;
  float last = upstream[0], max = upstream[size], mean = upstream[2 * size] / (float)(to - from);
  for (u32 t = begin; t < begin + steps; ++t) {
    float d = 0.0f;
    if (from <= t && t < to) {
      d = mean;
      if (at == t) d += max;
      if (t + 1 == to) d += last;
    }
    put(dx + (u64)(t - begin) * rows * size + i, d, add);
  }
}
