// For kernels whose blocks wait for each other, in cooperative launches, beside common.cuh.
#pragma once

// How often a block asks whether the others have come, about half a microsecond each time: half a
// minute, where a step takes less than a millisecond. A block that is lost then ends the kernel
// with an error, instead of the program hanging for ever.
#define PATIENCE (1u << 26)

// All blocks meet; what each wrote before is seen by all after. `target`: arrivals so far, with
// these.
INLINE void grid_barrier(u32 *arrived, u32 target) {
  barrier();
  if (thread() == 0) {
    u32 seen, asked = 0;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], 1;" : "=r"(seen) : "l"(arrived) : "memory");
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
      if (++asked == PATIENCE) asm volatile("trap;");
    } while (seen < target);
  }
  barrier();
}
