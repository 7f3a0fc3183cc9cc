// The recurrence, one step a launch (the step-wise plan): the product with W_hh and the cell in one
// kernel.
#include "common.cuh"
#include "tiles.cuh"
#include "bf16.cuh"
#include "pairs.cuh"

// Rows of W [4H, H] as columns of a tile: the four gates of a unit side by side.
struct GateColumns {
  static constexpr bool ALONG_K = true;
  const float *w;
  u32 hidden, first;
  INLINE const float *at(u32 column, u32 k) const { return w + (u64)(column % 4 * hidden + first + column / 4) * hidden + k; }
  INLINE u32 left(u32 column) const { return 4 * left_of(hidden, first + column / 4); }
  // to the same gate of the eighth unit from here
  INLINE u32 down() const { return 8 * hidden; }
  INLINE u64 step() const { return DEPTH; }
  INLINE u32 width() const { return 1; }
};

// One step of a layer. gates [B, 4H]: in W_ih·x + b_ih + b_hh, out the activated gates; w [4H, H]
// the dropped W_hh; cells and y [B, H]. A block has 64 rows of the batch and 16 units; a thread
// four rows of one unit.
__global__ void __launch_bounds__(BLOCK) lstm_step(const float *h_before, const float *c_before, const float *w, float *gates,
                                                   float *cells, float *y, u32 batch, u32 hidden) {
  u32 first = 64 * block_y(), unit = 16 * block_x() + thread() % 16;
  float acc[4][4];
  tile_product<4>(RowMajor{h_before, batch, hidden, first}, GateColumns{w, hidden, 16 * block_x()}, hidden, acc);
  if (unit >= hidden) return;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    u32 row = first + 4 * (thread() / 16) + r;
    if (row >= batch) continue;
    float *z = gates + (u64)row * 4 * hidden + unit;
    u64 at = (u64)row * hidden + unit;
    float i = sigmoid(z[0] + acc[r][0]), f = sigmoid(z[hidden] + acc[r][1]);
    float g = hyperbolic_tangent(z[2 * hidden] + acc[r][2]), o = sigmoid(z[3 * hidden] + acc[r][3]);
    z[0] = i, z[hidden] = f, z[2 * hidden] = g, z[3 * hidden] = o;
    float cell = f * c_before[at] + i * g;
    cells[at] = cell;
    y[at] = o * hyperbolic_tangent(cell);
  }
}

#if __CUDA_ARCH__ >= 800
// Rows of W [4H, H] in bf16 as columns of a tile: by 32, the four gates of eight units.
struct RoundedGateColumns {
  static constexpr bool ALONG_K = true;
  const u16 *data;
  u32 hidden, ld, first;
  INLINE u32 unit(u32 column) const { return first + column / 32 * 8 + column % 8; }
  INLINE const u16 *at(u32 column, u32 k) const { return data + (u64)(column % 32 / 8 * hidden + unit(column)) * ld + k; }
  INLINE u32 left(u32 column) const { return left_of(hidden, unit(column)); }
  INLINE u64 step() const { return SLICE; }
};

// As lstm_step, with h_before [B, ld] and w [4H, ld] in bf16; h [B, ld] is y in bf16. A warp has 16
// rows and 8 units, a thread two rows of two units, of whose gates each is in a fragment of its
// own.
__global__ void __launch_bounds__(BLOCK)
    lstm_step_bf16(const u16 *h_before, const float *c_before, const u16 *w, float *gates, float *cells, float *y, u16 *h, u32 batch,
                   u32 hidden, u32 ld) {
  float acc[1][4][4];
  u32 first = 64 * block_y(), lane = thread() % 32;
  RoundedRows a{h_before, batch, ld, first};
  tensor_product<64, 64, 16, 32>(a, RoundedGateColumns{w, hidden, ld, 16 * block_x()}, hidden, acc);
  u32 unit = 16 * block_x() + thread() / 32 % 2 * 8 + lane % 4 * 2, pairs = hidden % 2 == 0;
  bool both = unit + 1 < hidden;
#pragma unroll
  for (u32 r = 0; r < 2; ++r) {
    u32 row = first + warp_row<64, 16, 32>() + lane / 4 + 8 * r;
    if (row >= batch) continue;
    float2 out = {0.0f, 0.0f};
    if (unit < hidden) {
      u64 at = (u64)row * hidden + unit;
      float *gate = gates + (u64)row * 4 * hidden + unit;
      float2 z[4], c = load_pair(c_before + at, pairs, both);
#pragma unroll
      for (u32 n = 0; n < 4; ++n) z[n] = load_pair(gate + n * hidden, pairs, both) + (float2){acc[0][n][2 * r], acc[0][n][2 * r + 1]};
      out = cells_forward(z, c);
#pragma unroll
      for (u32 n = 0; n < 4; ++n) store_pair(gate + n * hidden, z[n], pairs, both);
      store_pair(cells + at, c, pairs, both);
      store_pair(y + at, out, pairs, both);
    }
    round_to(h + (u64)row * ld + unit, out, both);
  }
}
#endif

// One step of the backward recurrence, before the product with W_hh: gates become the gradients of
// the pre-activations, dc that of the cell before, and are also rounded to `copy`. dh is the sum of
// `parts` matrices, one after the other; dy is this step's upstream gradient (`with_dy`).
__global__ void __launch_bounds__(BLOCK) lstm_cell_backward(float *gates, const float *c_before, const float *cells, const float *dy,
                                                            const float *dh, float *dc, u32 batch, u32 hidden, u32 parts, u32 with_dy,
                                                            RoundedCopy copy) {
  u32 at = global_thread(), n = batch * hidden;
  if (at >= n) return;
  float *z = gates + (u64)(at / hidden) * 4 * hidden + at % hidden;
  float i = z[0], f = z[hidden], g = z[2 * hidden], o = z[3 * hidden];
  float d = dh[at];
#pragma unroll 4
  for (u32 part = 1; part < parts; ++part) d += dh[(u64)part * n + at];
  if (with_dy) d += dy[at];
  float tanh_c = hyperbolic_tangent(cells[at]);
  float d_cell = dc[at] + d * o * (1.0f - tanh_c * tanh_c);
  float d_z[4] = {d_cell * g * i * (1.0f - i), d_cell * c_before[at] * f * (1.0f - f), d_cell * i * (1.0f - g * g),
                  d * tanh_c * o * (1.0f - o)};
  dc[at] = d_cell * f;
  u32 row = at / hidden, unit = at % hidden;
#pragma unroll
  for (u32 n = 0; n < 4; ++n) {
    z[n * hidden] = d_z[n];
    if (copy.ld != 0) copy.put(row, n * hidden + unit, d_z[n]);
  }
  // a row has fewer than 16 elements beyond its last column
  for (u32 column = 4 * hidden + unit; column < copy.ld; column += hidden) copy.put(row, column, 0.0f);
}
