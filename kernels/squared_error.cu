// A thread an element.
#include "common.cuh"

// squares = (x - targets)²
__global__ void __launch_bounds__(BLOCK) squared_error_forward(const float *x, const float *targets, float *squares, u32 n) {
  u32 i = global_thread();
  if (i >= n) return;
  float difference = x[i] - targets[i];
  squares[i] = difference * difference;
}

// dx (+)= (x - targets)·scale·dloss
__global__ void __launch_bounds__(BLOCK)
    squared_error_backward(const float *x, const float *targets, const float *dloss, float *dx, u32 n, float scale, u32 add) {
  u32 i = global_thread();
  if (i < n) put(dx + i, (x[i] - targets[i]) * (scale * dloss[0]), add);
}
