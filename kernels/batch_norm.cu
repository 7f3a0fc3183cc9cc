// A block has 32 features; eight threads a feature take every eighth row, and their sums are added
// in order.
#include "common.cuh"

INLINE float over_rows(float sum, float (&parts)[8][32]) {
  u32 lane = thread() % 32, slice = thread() / 32;
  barrier();
  parts[slice][lane] = sum;
  barrier();
  float total = parts[0][lane];
#pragma unroll
  for (int i = 1; i < 8; ++i) total += parts[i][lane];
  return total;
}

// statistics [2, F]: the batch's mean and 1/√(biased variance + ε); both enter the running
// statistics, the variance unbiased
__global__ void __launch_bounds__(BLOCK) batch_norm_statistics(const float *x, float *statistics, float *running_mean,
                                                               float *running_variance, u32 rows, u32 features, float epsilon,
                                                               float momentum) {
  __shared__ float parts[8][32];
  u32 feature = block_x() * 32 + thread() % 32, slice = thread() / 32;
  bool here = feature < features;
  float sum = 0.0f;
  if (here)
    for (u32 r = slice; r < rows; r += 8) sum += x[(u64)r * features + feature];
  float mean = over_rows(sum, parts) / (float)rows;
  sum = 0.0f;
  if (here)
    for (u32 r = slice; r < rows; r += 8) {
      float d = x[(u64)r * features + feature] - mean;
      sum += d * d;
    }
  float variance = over_rows(sum, parts) / (float)rows;
  if (!here || slice > 0) return;
  float unbiased = variance * ((float)rows / (float)(rows - 1));
  running_mean[feature] = (1.0f - momentum) * running_mean[feature] + momentum * mean;
  running_variance[feature] = (1.0f - momentum) * running_variance[feature] + momentum * unbiased;
  statistics[feature] = mean;
  statistics[features + feature] = 1.0f / square_root(variance + epsilon);
}

// statistics from the running ones
__global__ void __launch_bounds__(BLOCK) batch_norm_running(const float *running_mean, const float *running_variance, float *statistics,
                                                            u32 features, float epsilon) {
  u32 i = global_thread();
  if (i >= features) return;
  statistics[i] = running_mean[i];
  statistics[features + i] = 1.0f / square_root(running_variance[i] + epsilon);
}

__global__ void __launch_bounds__(BLOCK) batch_norm_forward(const float *x, const float *statistics, const float *weight,
                                                            const float *bias, float *y, u32 n, u32 features) {
  u32 i = global_thread(), j = i % features;
  if (i < n) y[i] = (x[i] - statistics[j]) * statistics[features + j] * weight[j] + bias[j];
}

// sums [2, F]: Σ dy·x̂ and Σ dy over the rows
__global__ void __launch_bounds__(BLOCK)
    batch_norm_sums(const float *x, const float *dy, const float *statistics, float *sums, u32 rows, u32 features) {
  __shared__ float parts[8][32];
  u32 feature = block_x() * 32 + thread() % 32, slice = thread() / 32;
  bool here = feature < features;
  float dweight = 0.0f, dbias = 0.0f;
  if (here) {
    float mean = statistics[feature], scale = statistics[features + feature];
    for (u32 r = slice; r < rows; r += 8) {
      u64 i = (u64)r * features + feature;
      dweight += dy[i] * ((x[i] - mean) * scale);
      dbias += dy[i];
    }
  }
  dweight = over_rows(dweight, parts);
  dbias = over_rows(dbias, parts);
  if (!here || slice > 0) return;
  sums[feature] = dweight;
  sums[features + feature] = dbias;
}

// dx (+)= weight·scale·(dy - mean(dy) - x̂·mean(dy·x̂)); where mean and variance are constants
// (`train` 0) without the means
__global__ void __launch_bounds__(BLOCK)
    batch_norm_backward(const float *x, const float *dy, const float *statistics, const float *sums, const float *weight, float *dx,
                        u32 rows, u32 features, u32 train, u32 add) {
  u32 i = global_thread(), j = i % features;
  if (i >= rows * features) return;
  float scale = statistics[features + j], d = dy[i];
  if (train) {
    float normal = (x[i] - statistics[j]) * scale, count = (float)rows;
    d = d - sums[features + j] / count - normal * (sums[j] / count);
  }
  put(dx + i, weight[j] * scale * d, add);
}
