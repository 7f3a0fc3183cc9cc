// c = a + b over n elements, one thread an element.
#include "prelude.cuh"
extern "C" __global__ void vector_add(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c, uint n) {
  uint i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

// One float per thread to one address: the sum's order is not defined, so the simulator shuffles it.
extern "C" __global__ void sum_atomic(const float *__restrict__ a, float *out, uint n) {
  uint i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) __nvvm_atom_add_gen_f(out, a[i]);
}
