#include "common.cuh"

// y = max(x, 0); NaN passes
__global__ void __launch_bounds__(BLOCK) relu_forward(const float *x, float *y, u32 n) {
  u32 i = global_thread();
  if (i < n) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

// dx (+)= dy where y > 0
__global__ void __launch_bounds__(BLOCK) relu_backward(const float *y, const float *dy, float *dx, u32 n, u32 add) {
  u32 i = global_thread();
  if (i < n) put(dx + i, y[i] > 0.0f ? dy[i] : 0.0f, add);
}
