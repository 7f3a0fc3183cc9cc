// C (m, n) f32 = A (m, k) B (n, k)^T in bf16 by tensor cores; m, n multiples of 32, k of 32. A block of 4 warps computes
// 32x32; two stages of cp.async; rows padded to 40 bf16 so that ldmatrix has no bank conflict.
#include "prelude.cuh"
#define LD 40
__device__ __forceinline__ void copy16(uint shared, const void *global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global));
}
extern "C" __global__ void __launch_bounds__(128) bf16_mma(const ushort *__restrict__ a, const ushort *__restrict__ b, float *__restrict__ c,
                                                          uint m, uint n, uint k) {
  __shared__ __attribute__((aligned(16))) ushort as[2][32 * LD];
  __shared__ __attribute__((aligned(16))) ushort bs[2][32 * LD];
  uint t = threadIdx.x, lane = t % 32, warp = t / 32;
  uint row0 = blockIdx.y * 32, col0 = blockIdx.x * 32;
  uint wr = (warp / 2) * 16, wc = (warp % 2) * 16;
  uint lr = t / 4, lc = (t % 4) * 8;
  float acc[2][4] = {};
  const ushort *ga = a + (row0 + lr) * k + lc, *gb = b + (col0 + lr) * k + lc;
  copy16(shared_address(&as[0][lr * LD + lc]), ga);
  copy16(shared_address(&bs[0][lr * LD + lc]), gb);
  asm volatile("cp.async.commit_group;");
  uint steps = k / 32;
  for (uint s = 0; s < steps; ++s) {
    if (s + 1 < steps) {
      copy16(shared_address(&as[(s + 1) & 1][lr * LD + lc]), ga + (s + 1) * 32);
      copy16(shared_address(&bs[(s + 1) & 1][lr * LD + lc]), gb + (s + 1) * 32);
    }
    asm volatile("cp.async.commit_group;");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      uint a0, a1, a2, a3, b0, b1, b2, b3;
      uint pa = shared_address(&as[s & 1][(wr + lane % 16) * LD + q * 16 + (lane / 16) * 8]);
      uint pb = shared_address(&bs[s & 1][(wc + (lane / 16) * 8 + lane % 8) * LD + q * 16 + ((lane / 8) % 2) * 8]);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(a0), "=r"(a1), "=r"(a2), "=r"(a3) : "r"(pa) : "memory");
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(b0), "=r"(b1), "=r"(b2), "=r"(b3) : "r"(pb) : "memory");
#define MMA(d, x, y)                                                                                                   \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                        \
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(x), "r"(y))
      MMA(acc[0], b0, b1);
      MMA(acc[1], b2, b3);
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    uint r = row0 + wr + lane / 4, s = col0 + wc + j * 8 + (lane % 4) * 2;
    c[r * n + s] = acc[j][0];
    c[r * n + s + 1] = acc[j][1];
    c[(r + 8) * n + s] = acc[j][2];
    c[(r + 8) * n + s + 1] = acc[j][3];
  }
}
