// What every kernel is written in: the language without NVIDIA's headers, Philox, elementary
// functions, bf16, reductions of fixed shape. The only include of a kernel. No float atomics
// anywhere: equal inputs give equal bits.
#pragma once

#define __device__ __attribute__((device))
#define __global__ extern "C" __attribute__((global))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define INLINE __attribute__((device)) inline __attribute__((always_inline))

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
// A vector of the compiler, not a structure, whose loads and stores clang would take apart.
typedef float float4 __attribute__((ext_vector_type(4)));
typedef float float2 __attribute__((ext_vector_type(2)));
typedef u32 uint4 __attribute__((ext_vector_type(4)));

// ---- where a thread is ----
INLINE u32 thread() { return __nvvm_read_ptx_sreg_tid_x(); }
INLINE u32 block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
INLINE u32 block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
INLINE u32 block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
INLINE u32 block_threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
// Number of the thread in a one-dimensional launch.
INLINE u32 global_thread() { return block_x() * block_threads() + thread(); }
INLINE void barrier() { __syncthreads(); }

// ---- shared memory ----
INLINE u32 shared_address(const void *p) { return (u32)(u64)(__attribute__((address_space(3))) const void *)p; }

// Four floats at an address of shared memory that is a multiple of 16, and a constant beyond it. As
// an instruction: clang takes loads from arrays in shared memory apart, and their parts have bank
// conflicts.
template <u32 BYTES> INLINE float4 load_shared(u32 at) {
  float x, y, z, w;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4+%5];" : "=f"(x), "=f"(y), "=f"(z), "=f"(w) : "r"(at), "n"(BYTES) : "memory");
  return {x, y, z, w};
}

#if __CUDA_ARCH__ >= 800
// ---- asynchronous copies from the GPU's memory to shared memory ----
// So many bytes, or zeros if they are not `there`: then nothing is read.
template <u32 BYTES> INLINE void begin_copy(u32 to, const void *from, bool there) {
  if (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES), "r"(there ? BYTES : 0) : "memory");
}
// What was begun is one group.
INLINE void copies_begun() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All groups of copies but the last LEFT have landed.
template <u32 LEFT> INLINE void copies_landed() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }
#endif

// ---- memory of the GPU ----

// Four words that no kernel writes. As an instruction: clang makes two
// loads of it where one of the words is not used.
INLINE uint4 load_words(const uint4 *p) {
  uint4 v;
  asm("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"((u64)(__attribute__((address_space(1))) const void *)p));
  return v;
}

// ---- storing a gradient: the first writer sets, later ones add ----
INLINE void put(float *to, float value, u32 add) { *to = add ? *to + value : value; }

// ---- Philox4x32-10, bit for bit that of src/random.rs ----
struct Lanes { u32 x, y, z, w; };

INLINE Lanes philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    u64 p0 = (u64)c0 * 0xD2511F53u;
    u64 p1 = (u64)c2 * 0xCD9E8D57u;
    u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = (u32)p1;
    c2 = n2;
    c3 = (u32)p0;
  }
  return {c0, c1, c2, c3};
}

// A dropout mask from the counters, as the host gives it. What changes from step to step is in
// memory, so that a launch can be repeated as it is.
struct MaskOf {
  // key0, key1, step, nothing; read only where there is a dropout
  const uint4 *counters;
  // 0 to 2^32
  u64 threshold;
  u32 site;
  float scale;
  // whether there is a dropout at all
  u32 on;
};

// The same as `random::Mask`: element (row, column) is kept where its lane is below the threshold.
struct Mask {
  u32 key0 = 0, key1 = 0, step = 0, site, on;
  u64 threshold;
  float scale;
  INLINE Mask(const MaskOf &m) : site(m.site), on(m.on), threshold(m.threshold), scale(m.scale) {
    if (!on) return;
    uint4 words = load_words(m.counters);
    key0 = words.x, key1 = words.y, step = words.z;
  }
};

// Factors (0 or `scale`) of columns 4·quad .. 4·quad+4 of a row.
INLINE float4 mask_factors(const Mask &m, u32 row, u32 quad) {
  if (!m.on) return {1.0f, 1.0f, 1.0f, 1.0f};
  Lanes l = philox(quad, row, m.step, m.site, m.key0, m.key1);
  return {(u64)l.x < m.threshold ? m.scale : 0.0f, (u64)l.y < m.threshold ? m.scale : 0.0f,
          (u64)l.z < m.threshold ? m.scale : 0.0f, (u64)l.w < m.threshold ? m.scale : 0.0f};
}

// Factor of column 0 of a row (dropout of whole word types).
INLINE float mask_row_factor(const Mask &m, u32 row) {
  return m.on ? ((u64)philox(0, row, m.step, m.site, m.key0, m.key1).x < m.threshold ? m.scale : 0.0f) : 1.0f;
}

// ---- elementary functions: the algorithms, and where the CPU fuses the bits, of
// src/device/cpu/math.rs ----
INLINE float fma(float a, float b, float c) { return __nvvm_fma_rn_f(a, b, c); }
INLINE float from_bits(u32 bits) { return __builtin_bit_cast(float, bits); }
INLINE u32 to_bits(float x) { return __builtin_bit_cast(u32, x); }
INLINE float absolute(float x) { return from_bits(to_bits(x) & 0x7FFFFFFFu); }
INLINE float square_root(float x) { return __nvvm_sqrt_rn_f(x); }
// Asked this way round, NaN in `a` passes.
INLINE float larger(float a, float b) { return b > a ? b : a; }
#define NEGATIVE_INFINITY from_bits(0xFF800000u)

// a / b without a branch, for |b| from 1 to 2^126 and a ≤ 2^126: a division in the language makes
// one for what lies outside of this. An approximate reciprocal, improved once, then the quotient by
// its own remainder: as the nearest number, but for results below the normal ones.
INLINE float quotient(float a, float b) {
  float r = __nvvm_rcp_approx_ftz_f(b);
  r = fma(fma(-b, r, 1.0f), r, r);
  float q = a * r;
  return fma(fma(-b, q, a), r, q);
}

// 2^n for n in the range of normal numbers.
INLINE float power_of_two(u32 n) { return from_bits((n + 127u) << 23); }

// n and e^r - 1 with x = n·ln 2 + r.
INLINE float reduce_exponent(float x, u32 &n) {
  const float round = 12582912.0f;
  float shifted = fma(x, 1.44269504f, round);
  float whole = shifted - round;
  float r = fma(whole, -0.693359375f, x);
  r = fma(whole, 2.12194440e-4f, r);
  float p = 1.0f / 5040.0f;
  p = fma(p, r, 1.0f / 720.0f);
  p = fma(p, r, 1.0f / 120.0f);
  p = fma(p, r, 1.0f / 24.0f);
  p = fma(p, r, 1.0f / 6.0f);
  p = fma(p, r, 1.0f / 2.0f);
  n = to_bits(shifted) - to_bits(round);
  return fma(p, r * r, r);
}

INLINE float exponential(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  u32 n;
  float e = reduce_exponent(x, n);
  u32 half = ((n + 4096u) >> 1) - 2048u;
  return (e + 1.0f) * power_of_two(half) * power_of_two(n - half);
}

INLINE float hyperbolic_tangent(float v) {
  float x = absolute(v);
  x = x > 10.0f ? 10.0f : x;
  u32 n;
  float e = reduce_exponent(x + x, n);
  float scale = power_of_two(n);
  float m = fma(scale, e, scale - 1.0f);
  return from_bits(to_bits(quotient(m, m + 2.0f)) | (to_bits(v) & 0x80000000u));
}

INLINE float sigmoid(float x) {
  float e = exponential(-absolute(x));
  return quotient(x < 0.0f ? e : 1.0f, 1.0f + e);
}

// Natural logarithm of a positive, normal number, to one unit in the last place: x = 2^k·(1 + f),
// the series of fdlibm's logf.
INLINE float logarithm(float x) {
  // k such that 1 + f lies between √½ and √2
  u32 shifted = to_bits(x) - 0x3F3504F3u;
  int k = (int)shifted >> 23;
  float f = from_bits((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  float s = f / (2.0f + f), z = s * s, w = z * z;
  float even = w * fma(w, 0.24279078841f, 0.40000972152f);
  float odd = z * fma(w, 0.28498786688f, 0.66666662693f);
  float half = 0.5f * f * f, n = (float)k;
  return n * 6.9313812256e-01f - ((half - fma(s, half + even + odd, n * 9.0580006145e-06f)) - f);
}

// ---- bf16 ----
// To the nearest, ties to even; NaN stays NaN.
INLINE u16 to_bf16(float x) {
  u32 b = to_bits(x);
  if ((b & 0x7FFFFFFFu) > 0x7F800000u) return (u16)((b >> 16) | 0x40u);
  return (u16)((b + 0x7FFFu + ((b >> 16) & 1u)) >> 16);
}
INLINE float from_bf16(u16 x) { return from_bits((u32)x << 16); }

// ---- reductions of fixed shape; every thread gets the result ----
INLINE float other_lane(float x, int distance) { return __nvvm_shfl_sync_bfly_f32(0xFFFFFFFFu, x, distance, 31); }
INLINE u32 other_lane(u32 x, int distance) { return (u32)__nvvm_shfl_sync_bfly_i32(0xFFFFFFFFu, (int)x, distance, 31); }

INLINE float warp_sum(float x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x += other_lane(x, d);
  return x;
}
INLINE float warp_max(float x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x = larger(x, other_lane(x, d));
  return x;
}
INLINE u32 warp_or(u32 x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x |= other_lane(x, d);
  return x;
}
INLINE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
INLINE u32 warp_min(u32 x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x = smaller(x, other_lane(x, d));
  return x;
}

// Of a block of 256 threads, all of which take part.
#define BLOCK 256
#define BLOCK_REDUCTION(NAME, TYPE, WARP, COMBINE)            \
  INLINE TYPE NAME(TYPE x) {                                  \
    static __shared__ TYPE parts[BLOCK / 32];                 \
    x = WARP(x);                                              \
    barrier();                                                \
    if (thread() % 32 == 0) parts[thread() / 32] = x;         \
    barrier();                                                \
    TYPE total = parts[0];                                    \
    _Pragma("unroll") for (int i = 1; i < BLOCK / 32; ++i) {  \
      TYPE y = parts[i];                                      \
      total = COMBINE;                                        \
    }                                                         \
    return total;                                             \
  }
BLOCK_REDUCTION(block_sum, float, warp_sum, total + y)
BLOCK_REDUCTION(block_max, float, warp_max, larger(total, y))
BLOCK_REDUCTION(block_or, u32, warp_or, total | y)
BLOCK_REDUCTION(block_min, u32, warp_min, smaller(total, y))

// ---- rows of words ----

// Columns 4·quad .. 4·quad+4 of a row of e, as far as there are any; whole
// where e is a multiple of four.
INLINE float4 load_columns(const float *row, u32 quad, u32 e) {
  const float *from = row + 4 * quad;
  u32 left = e - 4 * quad;
  if (e % 4 == 0) return *(const float4 *)from;
  return {from[0], left > 1 ? from[1] : 0.0f, left > 2 ? from[2] : 0.0f, left > 3 ? from[3] : 0.0f};
}
INLINE void store_columns(float *row, u32 quad, u32 e, float4 value) {
  float *to = row + 4 * quad;
  u32 left = e - 4 * quad;
  if (e % 4 == 0) {
    *(float4 *)to = value;
    return;
  }
  to[0] = value.x;
  if (left > 1) to[1] = value.y;
  if (left > 2) to[2] = value.z;
  if (left > 3) to[3] = value.w;
}

// Places of words in the order of words, those of a word in their own (`sorted_places` of
// src/ops/gpu.rs): the word above, the place below 32 bits.
INLINE u32 word_at(u64 entry) { return (u32)(entry >> 32); }
INLINE u32 place_at(u64 entry) { return (u32)entry; }
// Whether entry i is the first of its word.
INLINE bool begins_word(const u64 *places, u32 i) { return i == 0 || word_at(places[i - 1]) != word_at(places[i]); }

// Columns of a word's row that a warp adds up: `WARP_COLUMNS` of src/ops/gpu.rs.
#define WARP_COLUMNS 256

// row[e] += Σ over the places of the word that begins at entry `first` of n, one after the other:
// `load` gives four columns of a place (place, quad), `term` adds them (sum, place, quad, columns).
// By one warp, the columns of its `chunk`. Four places are loaded before the first of them is
// added: the word that stands most often is what the launch waits for in the end.
template <typename Load, typename Term>
INLINE void add_places(const u64 *places, u32 n, u32 first, float *row, u32 e, u32 chunk, const Load &load, const Term &term) {
  constexpr u32 AHEAD = 8, QUADS = WARP_COLUMNS / 128;
  u32 word = word_at(places[first]), quads = (e + 3) / 4, from = chunk * (WARP_COLUMNS / 4) + thread() % 32;
  float4 sums[QUADS];
#pragma unroll
  for (u32 q = 0; q < QUADS; ++q)
    if (from + 32 * q < quads) sums[q] = load_columns(row, from + 32 * q, e);
  bool more = true;
  for (u32 i = first; more; i += AHEAD) {
    u32 at[AHEAD];
    bool here[AHEAD];
#pragma unroll
    for (u32 k = 0; k < AHEAD; ++k) {
      u64 entry = 0;
      here[k] = more && i + k < n;
      if (here[k]) entry = places[i + k];
      more = here[k] = here[k] && word_at(entry) == word;
      at[k] = place_at(entry);
    }
#pragma unroll
    for (u32 q = 0; q < QUADS; ++q) {
      u32 quad = from + 32 * q;
      if (quad >= quads) continue;
      float4 columns[AHEAD];
#pragma unroll
      for (u32 k = 0; k < AHEAD; ++k)
        if (here[k]) columns[k] = load(at[k], quad);
#pragma unroll
      for (u32 k = 0; k < AHEAD; ++k)
        if (here[k]) sums[q] = term(sums[q], at[k], quad, columns[k]);
    }
  }
#pragma unroll
  for (u32 q = 0; q < QUADS; ++q)
    if (from + 32 * q < quads) store_columns(row, from + 32 * q, e, sums[q]);
}

// ---- one launch over several tensors ----
// A block has so many elements of one of them.
#define PART_BLOCK (16 * BLOCK)

// Scalars of an update; which of them an optimiser has, src/optim/ says.
struct Scalars {
  float gradient_scale, shrink, decay, rate, momentum, one_minus_momentum, beta2, one_minus_beta2, correction2, eps, weight, unused;
};

// A tensor p[n], its gradient and states, its first block in the launch, and the scalars of this
// step. In memory, written anew for every step.
struct Part {
  float *p;
  const float *g;
  float *a, *b;
  u32 n, first;
  Scalars s;
};

// The part that a block belongs to, of `count` that are in the order of their blocks.
INLINE const Part *part_of(const Part *parts, u32 count) {
  u32 k = 0;
  while (k + 1 < count && parts[k + 1].first <= block_x()) ++k;
  return parts + k;
}

// Visits the elements of the block that are this thread's: indices into the part.
template <typename Visit> INLINE void visit_chunk(const Part &part, const Visit &visit) {
  u32 from = (block_x() - part.first) * PART_BLOCK + thread();
#pragma unroll 4
  for (u32 k = 0; k < PART_BLOCK / BLOCK; ++k) {
    u32 i = from + k * BLOCK;
    if (i < part.n) visit(i);
  }
}

// ---- products ----

// The same number, of which the compiler does not know where it comes from: it
// would else make two conditions of one that is asked of it.
INLINE u32 opaque(u32 x) {
  asm("" : "+r"(x));
  return x;
}

// How many there are from `at` on.
INLINE u32 left_of(u32 count, u32 at) { return at < count ? count - at : 0; }

// Where the block's part of a product's inner dimension begins, if blocks share it out.
INLINE u32 first_k(u32 part) { return block_z() * part; }
