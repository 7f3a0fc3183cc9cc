// The recurrence, one step a launch (the step-wise plan): the product with W_hh and the cell in one kernel.
#include "common.cuh"

// Rows of W [4H, H] as columns of a tile: the four gates of a unit side by side.
struct GateColumns {
  static constexpr bool ALONG_K = true;
  const float *w;
  u32 hidden, first;
  INLINE float operator()(u32 column, u32 k) const {
    u32 unit = first + column / 4;
    return unit < hidden ? w[(u64)(column % 4 * hidden + unit) * hidden + k] : 0.0f;
  }
};

// One step of a layer. gates [B, 4H]: in W_ih·x + b_ih + b_hh, out the activated gates; w [4H, H] the dropped W_hh; cells and y [B, H].
// A block has 64 rows of the batch and 16 units; a thread four rows of one unit.
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
    float cell = f * c_before[at] + i * g;
    z[0] = i, z[hidden] = f, z[2 * hidden] = g, z[3 * hidden] = o;
    cells[at] = cell;
    y[at] = o * hyperbolic_tangent(cell);
  }
}

// One step of the backward recurrence, before the product with W_hh: gates become the gradients of the pre-activations, dc that of the cell
// before. dh is read; dy is this step's upstream gradient (`with_dy`).
__global__ void __launch_bounds__(BLOCK) lstm_cell_backward(float *gates, const float *c_before, const float *cells, const float *dy,
                                                            const float *dh, float *dc, u32 batch, u32 hidden, u32 with_dy) {
  u32 at = global_thread();
  if (at >= batch * hidden) return;
  float *z = gates + (u64)(at / hidden) * 4 * hidden + at % hidden;
  float i = z[0], f = z[hidden], g = z[2 * hidden], o = z[3 * hidden];
  float d = dh[at];
  if (with_dy) d += dy[at];
  float tanh_c = hyperbolic_tangent(cells[at]);
  float d_cell = dc[at] + d * o * (1.0f - tanh_c * tanh_c);
  z[0] = d_cell * g * i * (1.0f - i);
  z[hidden] = d_cell * c_before[at] * f * (1.0f - f);
  z[2 * hidden] = d_cell * i * (1.0f - g * g);
  z[3 * hidden] = d * tanh_c * o * (1.0f - o);
  dc[at] = d_cell * f;
}
