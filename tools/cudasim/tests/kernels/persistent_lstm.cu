// All steps of one LSTM layer in one cooperative launch. x_gates (steps, batch, 4, hidden) holds W x + b; w_hh (4, hidden, hidden);
// h (2, batch, hidden) is double-buffered in global memory and met at a grid barrier; out (steps, batch, hidden). A block
// owns `units` hidden units: its rows of w_hh stay in dynamic shared memory. One thread per (unit, batch row).
// no_barrier != 0 leaves the grid barrier out: the simulator must see the race.
#include "prelude.cuh"
__device__ __forceinline__ void grid_barrier(uint *counter, uint target) {
  __syncthreads();
  if (threadIdx.x == 0) {
    uint old, seen;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], 1;" : "=r"(old) : "l"(counter) : "memory");
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (seen < target);
  }
  __syncthreads();
}
extern __shared__ float w[];
extern "C" __global__ void persistent_lstm(const float *__restrict__ x_gates, const float *__restrict__ w_hh, float *h, float *__restrict__ c_out,
                                           float *__restrict__ out, uint *counter, uint steps, uint batch, uint hidden, uint units,
                                           uint no_barrier) {
  uint first = blockIdx.x * units;
  for (uint e = threadIdx.x; e < 4 * units * hidden; e += blockDim.x) {
    uint g = e / (units * hidden), u = e / hidden % units, q = e % hidden;
    w[e] = w_hh[(g * hidden + first + u) * hidden + q];
  }
  __syncthreads();
  uint u = threadIdx.x % units, row = threadIdx.x / units;
  bool mine = row < batch;
  float cell = 0.0f;
  for (uint s = 0; s < steps; ++s) {
    const float *from = h + (s & 1) * batch * hidden;
    float *to = h + ((s + 1) & 1) * batch * hidden;
    if (mine) {
      float gate[4];
#pragma unroll
      for (int g = 0; g < 4; ++g) gate[g] = x_gates[((s * batch + row) * 4 + g) * hidden + first + u];
      for (uint q = 0; q < hidden; ++q) {
        float v = from[row * hidden + q];
#pragma unroll
        for (int g = 0; g < 4; ++g) gate[g] += w[(g * units + u) * hidden + q] * v;
      }
      cell = sigmoid(gate[1]) * cell + sigmoid(gate[0]) * tanhf(gate[2]);
      float y = sigmoid(gate[3]) * tanhf(cell);
      to[row * hidden + first + u] = y;
      out[(s * batch + row) * hidden + first + u] = y;
    }
    if (!no_barrier) grid_barrier(counter, (s + 1) * gridDim.x);
  }
  if (mine) c_out[row * hidden + first + u] = cell;
}
