// For kernels whose blocks wait for each other, in cooperative launches, beside common.cuh.
#pragma once

// All blocks meet; what each wrote before is seen by all after. `target`: arrivals so far, with these.
INLINE void grid_barrier(u32 *arrived, u32 target) {
  barrier();
  if (thread() == 0) {
    u32 seen;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], 1;" : "=r"(seen) : "l"(arrived) : "memory");
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
    while (seen < target);
  }
  barrier();
}
