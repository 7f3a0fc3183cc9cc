// What is not an operation of its own: adding, sums, rows.
#include "common.cuh"

// y[n] (+)= c·x[n]
__global__ void __launch_bounds__(BLOCK) put_scaled(const float *x, float c, float *y, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(y + i, c * x[i], add);
}

// y[n] (+)= factor[0]·x[n], the factor (an upstream gradient) on the device
__global__ void __launch_bounds__(BLOCK) put_times(const float *x, const float *factor, float *y, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(y + i, factor[0] * x[i], add);
}

// y[n] = a[n] + b[n]
__global__ void __launch_bounds__(BLOCK) add(const float *a, const float *b, float *y, u32 n) {
  u32 i = global_thread();
  if (i < n) y[i] = a[i] + b[i];
}

// to[c] (+)= Σ_r x[r, c] over rows, and the same to `other` where it is another place. A block has
// 32 columns; eight threads a column take every eighth row, then are added in order.
__global__ void __launch_bounds__(BLOCK) column_sums(const float *x, float *to, float *other, u32 rows, u32 columns, u32 add, u32 add_other) {
  __shared__ float parts[8][32];
  u32 lane = thread() % 32, slice = thread() / 32, column = block_x() * 32 + lane;
  float sum = 0.0f;
  if (column < columns) {
    // eight loads under way, added in their order
#pragma unroll 8
    for (u32 r = slice; r < rows; r += 8) sum += x[(u64)r * columns + column];
  }
  parts[slice][lane] = sum;
  barrier();
  if (slice > 0 || column >= columns) return;
#pragma unroll
  for (int i = 1; i < 8; ++i) sum += parts[i][lane];
  put(to + column, sum, add);
  if (other != to) put(other + column, sum, add_other);
}

// to[i] = Σ_p parts[p·n + i], from the first part to the last; a thread for four elements
__global__ void __launch_bounds__(BLOCK) add_parts(const float *parts, u32 count, float *to, u32 n) {
  u32 i = global_thread();
  if (n % 4 == 0) {
    if (i >= n / 4) return;
    float4 sum = ((const float4 *)parts)[i];
#pragma unroll 4
    for (u32 p = 1; p < count; ++p) sum += ((const float4 *)(parts + (u64)p * n))[i];
    ((float4 *)to)[i] = sum;
    return;
  }
  for (u32 at = 4 * i; at < smaller(n, 4 * i + 4); ++at) {
    float sum = parts[at];
    for (u32 p = 1; p < count; ++p) sum += parts[(u64)p * n + at];
    to[at] = sum;
  }
}

// to[0] = c·Σ x[n], by one block
__global__ void __launch_bounds__(BLOCK) sum(const float *x, float c, float *to, u32 n) {
  float total = 0.0f;
  for (u32 i = thread(); i < n; i += BLOCK) total += x[i];
  total = block_sum(total);
  if (thread() == 0) to[0] = c * total;
}

// to[r, c] = from[which[r], c] over n rows of `columns`; a thread for four columns
__global__ void __launch_bounds__(BLOCK) gather_rows(const float *from, const u32 *which, float *to, u32 n, u32 columns) {
  u32 quads = (columns + 3) / 4, i = global_thread(), r = i / quads, quad = i % quads;
  if (r < n) store_columns(to + (u64)r * columns, quad, columns, load_columns(from + (u64)which[r] * columns, quad, columns));
}

// to[which[r], c] += from[r, c] over n rows of `columns`; no row comes twice; a thread for four
// columns
__global__ void __launch_bounds__(BLOCK) add_rows(const float *from, const u32 *which, float *to, u32 n, u32 columns) {
  u32 quads = (columns + 3) / 4, i = global_thread(), r = i / quads, quad = i % quads;
  if (r >= n) return;
  float *row = to + (u64)which[r] * columns;
  store_columns(row, quad, columns, load_columns(row, quad, columns) + load_columns(from + (u64)r * columns, quad, columns));
}
