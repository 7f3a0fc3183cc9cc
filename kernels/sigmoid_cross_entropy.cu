// A thread an element.
#include "common.cuh"

// What a logit says, and -ln of the rest: what it costs where it is wrong.
INLINE float sigmoid_and_cost(float z, float &cost) {
  float small = exponential(-absolute(z)), sum = 1.0f + small, log = logarithm(sum);
  cost = z > 0.0f ? z + log : log;
  return (z > 0.0f ? 1.0f : small) / sum;
}

// p^focal
INLINE float power_of(float p, float focal) {
  if (focal == 0.0f) return 1.0f;
  return p > 0.0f ? exponential(focal * logarithm(p)) : 0.0f;
}

// losses = w·y·(1 - p)^focal·(-ln p) + (1 - y)·p^focal·(-ln (1 - p)), the weights by column
__global__ void __launch_bounds__(BLOCK)
    sigmoid_forward(const float *z, const float *targets, const float *weights, float *losses, u32 n, u32 classes, float focal) {
  u32 i = global_thread();
  if (i >= n) return;
  float wrong, missed, p = sigmoid_and_cost(z[i], wrong), rest = sigmoid_and_cost(-z[i], missed), y = targets[i];
  losses[i] = weights[i % classes] * y * power_of(rest, focal) * missed + (1.0f - y) * power_of(p, focal) * wrong;
}

__global__ void __launch_bounds__(BLOCK) sigmoid_backward(const float *z, const float *targets, const float *weights, const float *dloss,
                                                          float *dz, u32 n, u32 classes, float focal, u32 add) {
  u32 i = global_thread();
  if (i >= n) return;
  float wrong, missed, p = sigmoid_and_cost(z[i], wrong), rest = sigmoid_and_cost(-z[i], missed), y = targets[i];
  float up = power_of(p, focal) * (focal * rest * wrong + p);
  float down = power_of(rest, focal) * (focal * p * missed + rest);
  put(dz + i, ((1.0f - y) * up - weights[i % classes] * y * down) * (dloss[0] / (float)n), add);
}
