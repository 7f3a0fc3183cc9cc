// What clang needs to compile CUDA without NVIDIA's headers: qualifiers, thread indices, and the few built-ins that the
// test kernels use.
#pragma once
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __forceinline__ inline __attribute__((always_inline))
#include <__clang_cuda_builtin_vars.h>

typedef unsigned int uint;
typedef unsigned short ushort;
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { uint x, y, z, w; };
struct alignas(8) uint2 { uint x, y; };

// The 32-bit address of a pointer into shared memory.
__device__ __forceinline__ uint shared_address(const void *p) {
  return (uint)(unsigned long long)(__attribute__((address_space(3))) const void *)p;
}
__device__ __forceinline__ float ex2(float x) { return __nvvm_ex2_approx_f(x); }
__device__ __forceinline__ float expf(float x) { return ex2(x * 1.4426950408889634f); }
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float tanhf(float x) { return 1.0f - 2.0f / (expf(2.0f * x) + 1.0f); }
