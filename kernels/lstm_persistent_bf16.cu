// The recurrence of a layer in one cooperative launch, with products in bf16 by tensor cores (as
// kernels/lstm_persistent.cu in f32). A block owns U units; its share of W_hh, masked and rounded,
// stays in shared memory, or a part of it in registers; h, and in the backward the gradients of the
// pre-activations, pass between blocks in bf16; one grid barrier a step.
//
// A product has 32 rows of the batch at a time. A warp has 16 of them, and every fourth slice of 32
// of the inner dimension. Each element of the other operand is needed by one lane of a block alone:
// it comes from the L2 cache straight into registers, eight neighbours in k at once. The weights
// lie as lanes take them: of every slice and eight columns 32 times 16 bytes. Which eight of k a
// lane has in a fragment does not matter, if it is the same eight of both operands. The sums of the
// four warps that share rows are added in a fixed order.
//
// A thread has two neighbouring units, read and written together where the layer has an even number
// of them (`pairs`).
#include "common.cuh"
#include "bf16.cuh"
#include "grid.cuh"
#include "pairs.cuh"

#if __CUDA_ARCH__ >= 800
#define ROWS 32u
// Warps that share the inner dimension of the same rows.
#define SHARES 4u

// The weights, then sums.
struct alignas(16) Shared { uint4 v; };
extern __shared__ Shared shared_memory[];

// Sums [columns/2][32 rows] of two columns; the exchange keeps what lanes write, and read, at a
// time in different banks.
INLINE u32 sum_at(u32 row, u32 column) { return column / 2 * ROWS + (row ^ column / 2 % 4 * 4); }

// Sixteen bytes of shared memory, as an instruction (see load_shared).
INLINE uint4 load_shared_words(u32 at) {
  u32 x, y, z, w;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "r"(at) : "memory");
  return {x, y, z, w};
}

// A thread's cells: a row of 32 and one of up to eight pairs of units. A warp has 16 rows and two
// pairs.
INLINE u32 cell_row() { return thread() / 32 % 2 * 16 + thread() % 16; }
INLINE u32 cell_pair() { return thread() / 64 * 2 + thread() % 32 / 16; }

// The columns of a row of an operand from `end` to `ld` are zero: the first units of a layer see to
// it. `width`: all units, and one that is not there where their number is odd.
INLINE void zero_beyond(u16 *row, u32 end, u32 ld, u32 unit, u32 width) {
  for (u32 column = end + unit; column < ld; column += width) *(u32 *)(row + column) = 0;
}

// Eight neighbours in k of two rows of an operand, from column `at` on; zeros where there are none.
INLINE void load_operand(uint4 &above, uint4 &below, const u16 *upper, const u16 *lower, bool has_upper, bool has_lower, u32 at, u32 ld) {
  above = below = {0, 0, 0, 0};
  if (has_upper && at < ld) above = *(const uint4 *)(upper + at);
  if (has_lower && at < ld) below = *(const uint4 *)(lower + at);
}

// The weights of a warp's first KEPT slices as its lanes take them, in registers for all steps.
template <u32 NT, u32 KEPT> struct Kept {
  uint4 slices[KEPT][NT];
};
template <u32 NT> struct Kept<NT, 0> {};

// acc += of one slice of the operand, x and y, with the weights w of eight columns.
INLINE void multiply_slice(uint4 x, uint4 y, uint4 w, float (&acc)[4]) {
  u32 first[4] = {x.x, y.x, x.y, y.y}, second[4] = {x.z, y.z, x.w, y.w};
  multiply_fragments(first, w.x, w.y, acc);
  multiply_fragments(second, w.z, w.w, acc);
}

// The product of `rows` rows of x [rows, ld], of whose columns k count, and the weights of 8·NT
// columns: where a warp is the last of those that share its rows, all of it goes to `sums`. All
// threads wait for it. `weights` begin after the slices that are `kept`.
template <u32 NT, u32 KEPT>
INLINE void product(const Kept<NT, KEPT> &kept, const uint4 *weights, float2 *sums, const u16 *x, u32 rows, u32 k, u32 ld) {
  u32 lane = thread() % 32, warp = thread() / 32, share = warp / 2, row = warp % 2 * 16 + lane / 4;
  const u16 *upper = x + (u64)row * ld, *lower = upper + (u64)8 * ld;
  bool has_upper = row < rows, has_lower = row + 8 < rows;
  float acc[NT][4];
#pragma unroll
  for (u32 j = 0; j < NT; ++j)
#pragma unroll
    for (u32 n = 0; n < 4; ++n) acc[j][n] = 0.0f;
  u32 slices = (k + 31) / 32, at_weights = shared_address(weights + lane);
  // by fours, whose loads are on their way together
  if constexpr (KEPT > 0) {
#pragma unroll
    for (u32 i = 0; i < KEPT; i += 4) {
      uint4 above[4], below[4];
#pragma unroll
      for (u32 n = 0; n < 4; ++n)
        load_operand(above[n], below[n], upper, lower, has_upper, has_lower, 32 * (share + (i + n) * SHARES) + lane % 4 * 8, ld);
#pragma unroll
      for (u32 n = 0; n < 4; ++n)
#pragma unroll
        for (u32 j = 0; j < NT; ++j) multiply_slice(above[n], below[n], kept.slices[i + n][j], acc[j]);
    }
  }
#pragma unroll 1
  for (u32 s0 = share + KEPT * SHARES; s0 < slices; s0 += 4 * SHARES) {
    uint4 above[4], below[4];
#pragma unroll
    for (u32 n = 0; n < 4; ++n)
      load_operand(above[n], below[n], upper, lower, has_upper, has_lower, 32 * (s0 + n * SHARES) + lane % 4 * 8, ld);
#pragma unroll
    for (u32 n = 0; n < 4; ++n) {
      u32 s = s0 + n * SHARES;
      if (s >= slices) continue;
#pragma unroll
      for (u32 j = 0; j < NT; ++j)
        multiply_slice(above[n], below[n], load_shared_words(at_weights + ((s - KEPT * SHARES) * NT + j) * 512), acc[j]);
    }
  }
  // from the last share to the first
#pragma unroll 1
  for (u32 turn = SHARES; turn > 0; --turn) {
    if (share == turn - 1) {
#pragma unroll
      for (u32 j = 0; j < NT; ++j)
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
          float2 *to = sums + sum_at(row + 8 * half, 8 * j + lane % 4 * 2);
          float2 v = {acc[j][2 * half], acc[j][2 * half + 1]};
          if (turn < SHARES) v += *to;
          *to = v;
        }
    }
    barrier();
  }
}

// Two neighbours of W_hh [4H, H], masked: element `at`, and the next one if `both`; `x`, `y`: their
// factors where none are given.
INLINE float2 load_weights(const float *w, const float *given, u64 at, float x, float y, u32 pairs, bool both, u32 with_given) {
  float2 factors = {x, y};
  if (with_given) factors = load_pair(given + at, pairs, both);
  return load_pair(w + at, pairs, both) * factors;
}

// Eight neighbours in k of row `row` of W_hh from column k0 on, masked and rounded.
INLINE uint4 load_row_part(const float *w, const float *given, u32 row, u32 k0, u32 hidden, u32 pairs, u32 with_given, const Mask &mask) {
  u32 rounded[4];
#pragma unroll
  for (u32 half = 0; half < 2; ++half) {
    float4 f = mask_factors(mask, row, k0 / 4 + half);
    const float factor[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
    for (u32 e = 0; e < 4; e += 2) {
      u32 k = k0 + 4 * half + e;
      float2 v = {0.0f, 0.0f};
      if (k < hidden) v = load_weights(w, given, (u64)row * hidden + k, factor[e], factor[e + 1], pairs, k + 1 < hidden, with_given);
      rounded[2 * half + e / 2] = round_pair(v.x, v.y);
    }
  }
  return {rounded[0], rounded[1], rounded[2], rounded[3]};
}

// ---- forward ----

// All steps. gates [T, B, 4H]: in W_ih·x + b_ih + b_hh, out the activated gates;
// cells and y [T, B, H]; h0 [B, ld] and h [T, B, ld], which is y, in bf16. Column g·U + u of the
// block is gate g of its unit u. `arrived` is zero at first.
template <u32 U>
INLINE void forward(const u16 *h0, const float *c0, const float *w, const float *given, float *gates, float *cells, float *y, u16 *h,
                    u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 ld, u32 blocks, u32 pairs, u32 with_given, const MaskOf &mask_of) {
  constexpr u32 NT = U / 2, PAIRS = U / 2;
  u32 first = block_x() * U, width = hidden + hidden % 2, slices = (hidden + 31) / 32;
  uint4 *weights = &shared_memory[0].v;
  float2 *sums = (float2 *)(weights + slices * NT * 32);
  {
    Mask mask(mask_of);
    u32 lane = thread() % 32;
    for (u32 n = thread() / 32; n < slices * NT; n += BLOCK / 32) {
      u32 column = n % NT * 8 + lane / 4, unit = first + column % U;
      uint4 v = {0, 0, 0, 0};
      if (unit < hidden) v = load_row_part(w, given, column / U * hidden + unit, n / NT * 32 + lane % 4 * 8, hidden, pairs, with_given, mask);
      weights[n * 32 + lane] = v;
    }
  }
  barrier();
  u32 row = cell_row(), pair = cell_pair(), unit = first + 2 * pair;
  bool both = unit + 1 < hidden;
  for (u32 t = 0; t < steps; ++t) {
    u64 at = (u64)t * batch;
    const u16 *h_before = t == 0 ? h0 : h + (at - batch) * ld;
    const float *c_before = t == 0 ? c0 : cells + (at - batch) * hidden;
    for (u32 row0 = 0; row0 < batch; row0 += ROWS) {
      bool mine = pair < PAIRS && row0 + row < batch && unit < hidden;
      u64 here = at + row0 + row;
      float *z = gates + here * 4 * hidden + unit;
      // what the cells need is on its way during the product
      float2 before[4], c = {0.0f, 0.0f};
#pragma unroll
      for (u32 g = 0; g < 4; ++g) before[g] = mine ? load_pair(z + g * hidden, pairs, both) : c;
      if (mine) c = load_pair(c_before + (u64)(row0 + row) * hidden + unit, pairs, both);
      product<NT, 0>({}, weights, sums, h_before + (u64)row0 * ld, batch - row0, hidden, ld);
      if (mine) {
#pragma unroll
        for (u32 n = 0; n < 4; ++n) before[n] += sums[sum_at(row, n * U + 2 * pair)];
        float2 out = cells_forward(before, c);
#pragma unroll
        for (u32 n = 0; n < 4; ++n) store_pair(z + n * hidden, before[n], pairs, both);
        store_pair(cells + here * hidden + unit, c, pairs, both);
        store_pair(y + here * hidden + unit, out, pairs, both);
        round_to(h + here * ld + unit, out, both);
        zero_beyond(h + here * ld, width, ld, unit, width);
      }
      // the sums have been read
      barrier();
    }
    if (t + 1 < steps) grid_barrier(arrived, (t + 1) * blocks);
  }
}

// ---- backward ----

// `count` slices of the columns from `first` on of W_hh, from slice `slice0` on,
// masked and rounded, to `weights`. `inner`: gates of `width` units each.
template <u32 NT>
INLINE void load_columns(uint4 *weights, const float *w, const float *given, u32 slice0, u32 count, u32 first, u32 hidden, u32 width, u32 inner,
                         u32 pairs, u32 with_given, const Mask &mask) {
  u32 lane = thread() % 32;
  for (u32 n = thread() / 32; n < count * NT; n += BLOCK / 32) {
    // a lane has a row of the slice, and of it what masks are drawn for together
    u32 k = (slice0 + n / NT) * 32 + lane, of_gate = k % width, row = k / width * hidden + of_gate, column = first + n % NT * 8;
    bool there = k < inner && of_gate < hidden;
    u32 *to = (u32 *)(weights + n * 32) + lane % 2 * 16 + lane / 2;
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
      float4 f = mask_factors(mask, row, column / 4 + half);
      const float factor[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
      for (u32 e = 0; e < 4; e += 2) {
        u32 c = 4 * half + e;
        bool both = column + c + 1 < hidden;
        float2 v = {0.0f, 0.0f};
        if (there && column + c < hidden)
          v = load_weights(w, given, (u64)row * hidden + column + c, factor[e], factor[e + 1], pairs, both, with_given);
        // two lanes have two columns of two rows; each stores one of the columns
        u32 mine = round_pair(v.x, v.y), other = other_lane(mine, 1);
        to[16 * c] = lane % 2 == 0 ? (mine & 0xFFFFu) | other << 16 : other >> 16 | (mine & 0xFFFF0000u);
      }
    }
  }
}

// All steps from the last to the first. gates: in the activated gates, out the gradients of the
// pre-activations, also in bf16 to dz [T, B, ld], there of an even number of units. dh and dc [B,
// H]: in the gradients of the last h and c, out those of h0 and c0. dy [T, B, H] is read `with_dy`.
// Column u of the block is that of its unit u. A warp keeps KEPT slices in registers.
template <u32 U, u32 KEPT>
INLINE void backward(const float *c0, const float *cells, const float *dy, const float *w, const float *given, float *gates, u16 *dz,
                     float *dh, float *dc, u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 ld, u32 blocks, u32 pairs, u32 with_dy,
                     u32 with_given, const MaskOf &mask_of) {
  constexpr u32 NT = U / 8, PAIRS = U / 2, IN_REGISTERS = KEPT * SHARES;
  u32 first = block_x() * U, width = hidden + hidden % 2, inner = 4 * width, slices = (inner + 31) / 32;
  u32 in_registers = smaller(slices, IN_REGISTERS), in_memory = slices - in_registers;
  uint4 *weights = &shared_memory[0].v;
  // what goes to registers passes through the same memory
  float2 *sums = (float2 *)(weights + (in_registers > in_memory ? in_registers : in_memory) * NT * 32);
  Kept<NT, KEPT> kept;
  {
    Mask mask(mask_of);
    if constexpr (KEPT > 0) {
      load_columns<NT>(weights, w, given, 0, in_registers, first, hidden, width, inner, pairs, with_given, mask);
      barrier();
#pragma unroll
      for (u32 i = 0; i < KEPT; ++i) {
        u32 s = thread() / 64 + i * SHARES;
#pragma unroll
        for (u32 j = 0; j < NT; ++j) {
          kept.slices[i][j] = {0, 0, 0, 0};
          if (s < in_registers) kept.slices[i][j] = load_shared_words(shared_address(weights + (s * NT + j) * 32 + thread() % 32));
        }
      }
      barrier();
    }
    load_columns<NT>(weights, w, given, in_registers, in_memory, first, hidden, width, inner, pairs, with_given, mask);
  }
  barrier();
  u32 row = cell_row(), pair = cell_pair(), unit = first + 2 * pair;
  bool both = unit + 1 < hidden;
  for (u32 step = 0; step < steps; ++step) {
    u32 t = steps - 1 - step;
    u64 at = (u64)t * batch;
    const float *c_before = t == 0 ? c0 : cells + (at - batch) * hidden;
    for (u32 row0 = 0; row0 < batch; row0 += ROWS) {
      if (pair >= PAIRS || row0 + row >= batch || unit >= hidden) continue;
      u64 here = (at + row0 + row) * hidden + unit, of_state = (u64)(row0 + row) * hidden + unit;
      float *z = gates + (at + row0 + row) * 4 * hidden + unit;
      u16 *rounded = dz + (at + row0 + row) * ld;
      float2 i = load_pair(z, pairs, both), f = load_pair(z + hidden, pairs, both);
      float2 g = load_pair(z + 2 * hidden, pairs, both), o = load_pair(z + 3 * hidden, pairs, both);
      float2 d = load_pair(dh + of_state, pairs, both), d_c = load_pair(dc + of_state, pairs, both);
      float2 c = load_pair(cells + here, pairs, both), before = load_pair(c_before + of_state, pairs, both);
      if (with_dy) d += load_pair(dy + here, pairs, both);
      float2 d_z[4];
#pragma unroll
      for (u32 n = 0; n < 2; ++n) {
        float tanh_c = hyperbolic_tangent(c[n]), d_cell = d_c[n] + d[n] * o[n] * (1.0f - tanh_c * tanh_c);
        d_z[0][n] = d_cell * g[n] * i[n] * (1.0f - i[n]);
        d_z[1][n] = d_cell * before[n] * f[n] * (1.0f - f[n]);
        d_z[2][n] = d_cell * i[n] * (1.0f - g[n] * g[n]);
        d_z[3][n] = d[n] * tanh_c * o[n] * (1.0f - o[n]);
        d_c[n] = d_cell * f[n];
      }
      store_pair(dc + of_state, d_c, pairs, both);
#pragma unroll
      for (u32 n = 0; n < 4; ++n) {
        store_pair(z + n * hidden, d_z[n], pairs, both);
        round_to(rounded + n * width + unit, d_z[n], both);
      }
      zero_beyond(rounded, inner, ld, unit, width);
    }
    grid_barrier(arrived, (step + 1) * blocks);
    for (u32 row0 = 0; row0 < batch; row0 += ROWS) {
      product<NT, KEPT>(kept, weights, sums, dz + (at + row0) * ld, batch - row0, inner, ld);
      if (pair < PAIRS && row0 + row < batch && unit < hidden)
        store_pair(dh + (u64)(row0 + row) * hidden + unit, sums[sum_at(row, 2 * pair)], pairs, both);
      // the sums have been read
      barrier();
    }
  }
}

#define FORWARD(U)                                                                                                                         \
  __global__ void __launch_bounds__(BLOCK, 1)                                                                                              \
      lstm_forward_bf16_##U(const u16 *h0, const float *c0, const float *w, const float *given, float *gates, float *cells, float *y,      \
                            u16 *h, u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 ld, u32 blocks, u32 pairs, u32 with_given,         \
                            MaskOf mask) {                                                                                                 \
    forward<U>(h0, c0, w, given, gates, cells, y, h, arrived, steps, batch, hidden, ld, blocks, pairs, with_given, mask);                  \
  }
#define BACKWARD(NAME, U, KEPT)                                                                                                            \
  __global__ void __launch_bounds__(BLOCK, 1)                                                                                              \
      lstm_backward_bf16_##NAME(const float *c0, const float *cells, const float *dy, const float *w, const float *given, float *gates,    \
                                u16 *dz, float *dh, float *dc, u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 ld, u32 blocks,         \
                                u32 pairs, u32 with_dy, u32 with_given, MaskOf mask) {                                                     \
    backward<U, KEPT>(c0, cells, dy, w, given, gates, dz, dh, dc, arrived, steps, batch, hidden, ld, blocks, pairs, with_dy, with_given,   \
                      mask);                                                                                                               \
  }

FORWARD(4)
FORWARD(10)
FORWARD(12)
BACKWARD(8, 8, 0)
BACKWARD(16, 16, 0)
BACKWARD(16_registers, 16, 12)
#endif
