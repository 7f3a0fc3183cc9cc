// The recurrence of a layer in one cooperative launch (the persistent plan). A block owns U units;
// its share of W_hh, masked, stays in shared memory; blocks meet at a grid barrier once a step,
// because each reads what all of them wrote the step before.
//
// A product of a step, for 8·R rows of the batch at a time: the other operand comes through shared
// memory in chunks of KC of the inner dimension, two of them in turn. The warps share out the quads
// of a chunk; a lane has R rows, 8 apart, and U columns. The sums of the eight warps are added in a
// fixed order at the end.
#include "common.cuh"
#include "grid.cuh"

#define WARPS (BLOCK / 32)

// What is in shared memory: the weights, then two chunks, which afterwards hold partial sums.
struct alignas(16) Shared { float4 v; };
extern __shared__ Shared shared_memory[];

// ---- a chunk of rows [rows, k] in shared memory ----
// Quad `quad` of a row; the exchange keeps eight neighbouring rows in different banks.
template <int KC> INLINE u32 chunk_at(u32 row, u32 quad) { return row * KC + 4 * (quad ^ (row & 7)); }

// The thread, unknown to the compiler, which would else keep the addresses of all copies in
// registers throughout.
INLINE u32 opaque_thread() {
  u32 t = thread();
  asm volatile("" : "+r"(t));
  return t;
}

// Copies of V floats. Outside of the matrix there are zeros.
template <int R, int KC, int V> struct Copies {
  static constexpr u32 COUNT = 8 * R * KC / V / BLOCK, A_ROW = KC / V;
  u32 row, column;
  INLINE Copies(u32 t, u32 i) : row((t + i * BLOCK) / A_ROW), column((t + i * BLOCK) % A_ROW * V) {}
  INLINE u32 to() const { return chunk_at<KC>(row, column / 4) + column % 4; }
};

#if __CUDA_ARCH__ >= 800
// Begins to copy; the bytes are there after `landed`.
template <int R, int KC, int V> INLINE void copy_chunk(float *chunk, const float *x, u32 rows, u32 k, u32 k0) {
  using C = Copies<R, KC, V>;
  u32 t = opaque_thread();
#pragma unroll 4
  for (u32 i = 0; i < C::COUNT; ++i) {
    C c(t, i);
    bool inside = c.row < rows && k0 + c.column < k;
    const float *from = inside ? x + c.row * k + k0 + c.column : x;
    u32 to = shared_address(chunk + c.to());
    if (V == 4)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
    else if (V == 2)
      asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(inside ? 8 : 0) : "memory");
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(inside ? 4 : 0) : "memory");
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
}
INLINE void landed() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

template <int R, int KC> struct Stage {
  INLINE void begin(float *chunk, const float *x, u32 rows, u32 k, u32 k0, u32 vector) {
    if (vector == 4) copy_chunk<R, KC, 4>(chunk, x, rows, k, k0);
    else if (vector == 2) copy_chunk<R, KC, 2>(chunk, x, rows, k, k0);
    else copy_chunk<R, KC, 1>(chunk, x, rows, k, k0);
  }
  INLINE void end(float *, const float *, u32, u32, u32, u32) {}
  INLINE void wait() { landed(); }
};
#else
// Without asynchronous copies: through registers, by fours or one by one. As many as there are
// registers for are filled before a chunk is computed and stored after it; the rest follows then.
template <int R, int KC> struct Stage {
  static constexpr u32 FLOATS = 8 * R * KC / BLOCK, KEPT = FLOATS < 16 ? FLOATS : 16;
  float kept[KEPT];
  template <int V> INLINE void load(const float *x, u32 rows, u32 k, u32 k0, u32 part) {
    u32 t = opaque_thread();
#pragma unroll
    for (u32 i = 0; i < KEPT / V; ++i) {
      Copies<R, KC, V> c(t, part * KEPT / V + i);
      bool inside = c.row < rows && k0 + c.column < k;
      const float *from = x + c.row * k + k0 + c.column;
      float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
      if (inside) {
        if (V == 4) v = *(const float4 *)from;
        else v.x = *from;
      }
      const float all[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < V; ++j) kept[i * V + j] = all[j];
    }
  }
  template <int V> INLINE void store(float *chunk, u32 part) {
    u32 t = opaque_thread();
#pragma unroll
    for (u32 i = 0; i < KEPT / V; ++i) {
      float *to = chunk + Copies<R, KC, V>(t, part * KEPT / V + i).to();
      if (V == 4) *(float4 *)to = {kept[i * V], kept[i * V + 1], kept[i * V + 2], kept[i * V + 3]};
      else *to = kept[i];
    }
  }
  INLINE void begin(float *, const float *x, u32 rows, u32 k, u32 k0, u32 vector) {
    if (vector == 4) load<4>(x, rows, k, k0, 0);
    else load<1>(x, rows, k, k0, 0);
  }
  INLINE void end(float *chunk, const float *x, u32 rows, u32 k, u32 k0, u32 vector) {
#pragma unroll 1
    for (u32 part = 0; part < FLOATS / KEPT; ++part) {
      if (vector == 4) {
        if (part > 0) load<4>(x, rows, k, k0, part);
        store<4>(chunk, part);
      } else {
        if (part > 0) load<1>(x, rows, k, k0, part);
        store<1>(chunk, part);
      }
    }
  }
  INLINE void wait() {}
};
#endif

// acc[i][u] += x[row i] · w[u] over one quad of the inner dimension; w: the quad's first column of
// this lane.
template <int R, int U, int KC> INLINE void quad_product(const float *chunk, u32 row, u32 quad, const float4 *w, float (&acc)[R][U]) {
  float4 x[R];
#pragma unroll
  for (int i = 0; i < R; ++i) x[i] = *(const float4 *)(chunk + chunk_at<KC>(row + 8 * i, quad));
#pragma unroll
  for (int u = 0; u < U; ++u) {
    float4 v = w[u];
#pragma unroll
    for (int i = 0; i < R; ++i) {
      acc[i][u] = fma(x[i].x, v.x, acc[i][u]);
      acc[i][u] = fma(x[i].y, v.y, acc[i][u]);
      acc[i][u] = fma(x[i].z, v.z, acc[i][u]);
      acc[i][u] = fma(x[i].w, v.w, acc[i][u]);
    }
  }
}

// acc = x · w for 8·R rows of x [rows, k], w [k/4][COLUMNS] quads. A lane's eight neighbours share
// the column group `lane / 8`: of the columns where SPLIT is 1, else of the quads.
template <int R, int U, int KC, int COLUMNS, int SPLIT>
INLINE void product(const float4 *w, float *chunks, const float *x, u32 rows, u32 k, u32 vector, float (&acc)[R][U]) {
  constexpr u32 CHUNK = 8 * R * KC, QUADS = KC / 4 / WARPS / SPLIT;
#pragma unroll
  for (int i = 0; i < R; ++i)
#pragma unroll
    for (int u = 0; u < U; ++u) acc[i][u] = 0.0f;
  Stage<R, KC> stage;
  // one turn more than there are chunks: each begins a chunk and computes the one before
  float *chunk = chunks + CHUNK, *next = chunks;
#pragma unroll 1
  for (u32 k0 = 0; k0 < k + KC; k0 += KC) {
    stage.wait();
    // the chunk is there, and nobody reads the other one any more
    barrier();
    bool more = k0 < k;
    if (more) stage.begin(next, x, rows, k, k0, vector);
    if (k0 > 0) {
      u32 t = opaque_thread(), warp = t / 32, row = t % 8, group = t % 32 / 8;
      // unrolled, they would not leave the largest tile its registers
#pragma unroll 1
      for (u32 n = 0; n < QUADS; ++n) {
        u32 quad = SPLIT == 1 ? warp * QUADS + n : (warp * QUADS + n) * 4 + group;
        const float4 *at = w + (k0 / 4 - KC / 4 + quad) * COLUMNS + (SPLIT == 1 ? group * U : 0);
        quad_product<R, U, KC>(chunk, row, quad, at, acc);
      }
    }
    if (more) stage.end(next, x, rows, k, k0, vector);
    float *swap = chunk;
    chunk = next, next = swap;
  }
  // the chunks may be overwritten
  barrier();
}

// ---- forward ----

// Quads of the rows that a block owns (gate g of its unit u as column g·U + u),
// masked, in shared memory; zero beyond H.
template <int U>
INLINE void load_rows(float4 *to, const float *w, const float *given, u32 first, u32 hidden, u32 quads, u32 with_given, const Mask &mask) {
  constexpr u32 GROUPS = (4 * U + 7) / 8;
  // eight rows by four quads a warp: whole sectors of global memory, all banks of shared memory
  u32 lane = thread() % 32, warp = thread() / 32;
  for (u32 n = warp; n < GROUPS * (quads / 4); n += WARPS) {
    u32 column = n % GROUPS * 8 + lane % 8, quad = n / GROUPS * 4 + lane / 8;
    if (column >= 4 * U) continue;
    u32 unit = first + column % U, row = column / U * hidden + unit;
    float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (unit < hidden && 4 * quad < hidden) {
      float4 f = mask_factors(mask, row, quad);
      const float factor[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
      for (u32 j = 0; j < 4; ++j) {
        if (4 * quad + j >= hidden) continue;
        u64 at = (u64)row * hidden + 4 * quad + j;
        v[j] = w[at] * (with_given ? given[at] : factor[j]);
      }
    }
    to[quad * 4 * U + column] = {v[0], v[1], v[2], v[3]};
  }
}

// All steps. gates [T, B, 4H]: in W_ih·x + b_ih + b_hh, out the activated gates; cells and y [T, B,
// H]. `arrived` is zero at first. `vector`: how many floats rows of h may be read at a time.
template <int U, int R>
INLINE void forward(const float *h0, const float *c0, const float *w, const float *given, float *gates, float *cells, float *y, u32 *arrived,
                    u32 steps, u32 batch, u32 hidden, u32 blocks, u32 vector, u32 with_given, const MaskOf &mask) {
  constexpr int KC = 64, N = R * U, CELLS = (8 * N + BLOCK - 1) / BLOCK;
  u32 lane = thread() % 32, warp = thread() / 32, first = block_x() * U, quads = (hidden + KC - 1) / KC * (KC / 4);
  float4 *weights = &shared_memory[0].v;
  float *chunks = (float *)(weights + quads * 4 * U), *sums = chunks;
  load_rows<U>(weights, w, given, first, hidden, quads, with_given, mask);
  barrier();
  for (u32 t = 0; t < steps; ++t) {
    u64 at = (u64)t * batch * hidden;
    const float *h = t == 0 ? h0 : y + at - (u64)batch * hidden;
    const float *c_before = t == 0 ? c0 : cells + at - (u64)batch * hidden;
    for (u32 row0 = 0; row0 < batch; row0 += 8 * R) {
      // a thread's cells: number e is row e%8 + 8·i and unit u with i·U + u = e/8; what they need
      // is on its way during the product
      float z[CELLS][4], c[CELLS];
#pragma unroll
      for (int n = 0; n < CELLS; ++n) {
        u32 e = thread() + n * BLOCK, row = row0 + e % 8 + e / 8 / U * 8, unit = first + e / 8 % U;
        bool mine = e < 8 * N && row < batch && unit < hidden;
        const float *from = gates + 4 * at + (u64)row * 4 * hidden + unit;
#pragma unroll
        for (int g = 0; g < 4; ++g) z[n][g] = mine ? from[g * hidden] : 0.0f;
        c[n] = mine ? c_before[(u64)row * hidden + unit] : 0.0f;
      }
      float acc[R][U];
      product<R, U, KC, 4 * U, 1>(weights, chunks, h + (u64)row0 * hidden, batch - row0, hidden, vector, acc);
      // 4 and 5 onto 0 and 1, 6 and 7 onto 2 and 3, 2 and 3 onto 0 and 1, 1 onto 0
#pragma unroll 1
      for (u32 round = 0; round < 4; ++round) {
        u32 half = round < 2 ? 4 : 4 >> (round - 1), to = round == 1 ? 2 : 0, from = to + half, pair = half < 2 ? half : 2;
        if (warp >= from && warp < from + pair)
#pragma unroll
          for (u32 n = 0; n < N; ++n) sums[32 * N * (warp - from) + 32 * n + lane] = acc[n / U][n % U];
        barrier();
        if (warp >= to && warp < to + pair)
#pragma unroll
          for (u32 n = 0; n < N; ++n) acc[n / U][n % U] += sums[32 * N * (warp - to) + 32 * n + lane];
        barrier();
      }
      // [i·U + u][32], the gates of one unit in different banks
      if (warp == 0)
#pragma unroll
        for (u32 n = 0; n < N; ++n) sums[32 * n + (lane ^ (n % 4 * 8))] = acc[n / U][n % U];
      barrier();
#pragma unroll
      for (int n = 0; n < CELLS; ++n) {
        u32 e = thread() + n * BLOCK, row = row0 + e % 8 + e / 8 / U * 8, unit = first + e / 8 % U;
        if (e >= 8 * N || row >= batch || unit >= hidden) continue;
        const float *sum = sums + 32 * (e / 8) + e % 8;
        u32 turn = e / 8 % 4;
        float i = sigmoid(z[n][0] + sum[8 * (0 ^ turn)]), f = sigmoid(z[n][1] + sum[8 * (1 ^ turn)]);
        float g = hyperbolic_tangent(z[n][2] + sum[8 * (2 ^ turn)]), o = sigmoid(z[n][3] + sum[8 * (3 ^ turn)]);
        float cell = f * c[n] + i * g;
        float *to = gates + 4 * at + (u64)row * 4 * hidden + unit;
        to[0] = i, to[hidden] = f, to[2 * hidden] = g, to[3 * hidden] = o;
        cells[at + (u64)row * hidden + unit] = cell;
        y[at + (u64)row * hidden + unit] = o * hyperbolic_tangent(cell);
      }
      // the sums have been read
      barrier();
    }
    if (t + 1 < steps) grid_barrier(arrived, (t + 1) * blocks);
  }
}

// ---- backward ----
// Columns that a block owns, masked: quads of four rows of W_hh.
template <int U>
INLINE void load_columns(float *to, const float *w, const float *given, u32 first, u32 hidden, u32 quads, u32 with_given, const Mask &mask) {
  // every quad of columns that the block's reach into
  u32 quad0 = first / 4, count = (first + U - 1) / 4 - quad0 + 1;
  for (u32 n = thread(); n < 4 * quads * count; n += BLOCK) {
    u32 row = n % (4 * quads), quad = quad0 + n / (4 * quads);
    bool inside = row < 4 * hidden;
    float4 f = mask_factors(mask, row, quad);
    // neighbouring quads of rows begin with another column each, so that they write to different
    // banks; where U is odd they do anyway
    u32 turn = U % 8 == 4 ? row / 8 % 4 : 0;
#pragma unroll
    for (u32 n = 0; n < 4; ++n) {
      u32 j = (n + turn) % 4, column = 4 * quad + j;
      if (column < first || column >= first + U) continue;
      // without a branch for what lies outside: lanes that part would write at different times
      bool there = inside && column < hidden;
      u64 at = there ? (u64)row * hidden + column : 0;
      float factor = j == 0 ? f.x : j == 1 ? f.y : j == 2 ? f.z : f.w;
      float v = w[at] * (with_given ? given[at] : factor);
      if (!there) v = 0.0f;
      to[(row / 4 * U + column - first) * 4 + row % 4] = v;
    }
  }
}

// All steps from the last to the first. gates: in the activated gates, out the gradients of the
// pre-activations. dh and dc [B, H]: in the gradients of the last h and c, out those of h0 and c0.
// dy [T, B, H] is read `with_dy`.
template <int U, int R>
INLINE void backward(const float *c0, const float *cells, const float *dy, const float *w, const float *given, float *gates, float *dh, float *dc,
                     u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 blocks, u32 vector, u32 with_dy, u32 with_given, const MaskOf &mask) {
  constexpr int KC = 128, N = R * U, CELLS = (8 * N + BLOCK - 1) / BLOCK;
  u32 lane = thread() % 32, warp = thread() / 32, first = block_x() * U, quads = (4 * hidden + KC - 1) / KC * (KC / 4);
  float4 *weights = &shared_memory[0].v;
  float *chunks = (float *)(weights + quads * U), *sums = chunks;
  load_columns<U>((float *)weights, w, given, first, hidden, quads, with_given, mask);
  barrier();
  for (u32 step = 0; step < steps; ++step) {
    u32 t = steps - 1 - step;
    u64 at = (u64)t * batch * hidden;
    const float *c_before = t == 0 ? c0 : cells + at - (u64)batch * hidden;
    for (u32 e = thread(); e < (batch + 7) / 8 * 8 * U; e += BLOCK) {
      u32 row = e % 8 + e / 8 / U * 8, unit = first + e / 8 % U;
      if (row >= batch || unit >= hidden) continue;
      u64 here = (u64)row * hidden + unit;
      float *z = gates + 4 * at + (u64)row * 4 * hidden + unit;
      float i = z[0], f = z[hidden], g = z[2 * hidden], o = z[3 * hidden];
      float d = dh[here];
      if (with_dy) d += dy[at + here];
      float tanh_c = hyperbolic_tangent(cells[at + here]);
      float d_cell = dc[here] + d * o * (1.0f - tanh_c * tanh_c);
      z[0] = d_cell * g * i * (1.0f - i);
      z[hidden] = d_cell * c_before[here] * f * (1.0f - f);
      z[2 * hidden] = d_cell * i * (1.0f - g * g);
      z[3 * hidden] = d * tanh_c * o * (1.0f - o);
      dc[here] = d_cell * f;
    }
    grid_barrier(arrived, (step + 1) * blocks);
    for (u32 row0 = 0; row0 < batch; row0 += 8 * R) {
      float acc[R][U];
      product<R, U, KC, U, 4>(weights, chunks, gates + 4 * at + (u64)row0 * 4 * hidden, batch - row0, 4 * hidden, vector, acc);
      // the four quads of a lane's row, then the warps; sums [warp][i·U + u][8]
#pragma unroll
      for (u32 n = 0; n < N; ++n) {
        float s = acc[n / U][n % U];
        s += other_lane(s, 8);
        s += other_lane(s, 16);
        if (lane < 8) sums[(warp * N + n) * 8 + lane] = s;
      }
      barrier();
#pragma unroll
      for (int n = 0; n < CELLS; ++n) {
        u32 e = thread() + n * BLOCK, row = row0 + e % 8 + e / 8 / U * 8, unit = first + e / 8 % U;
        if (e >= 8 * N || row >= batch || unit >= hidden) continue;
        float s = sums[e];
#pragma unroll
        for (u32 m = 1; m < WARPS; ++m) s += sums[m * 8 * N + e];
        dh[(u64)row * hidden + unit] = s;
      }
      // the sums have been read
      barrier();
    }
  }
}

// Of U units and 8·R rows at a time.
#define KERNELS(U, R, ROWS)                                                                                                                  \
  __global__ void __launch_bounds__(BLOCK, 1)                                                                                                \
      lstm_forward_##U##x##ROWS(const float *h0, const float *c0, const float *w, const float *given, float *gates, float *cells, float *y,  \
                                u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 blocks, u32 vector, u32 with_given, MaskOf mask) {       \
    forward<U, R>(h0, c0, w, given, gates, cells, y, arrived, steps, batch, hidden, blocks, vector, with_given, mask);                       \
  }                                                                                                                                          \
  __global__ void __launch_bounds__(BLOCK, 1)                                                                                                \
      lstm_backward_##U##x##ROWS(const float *c0, const float *cells, const float *dy, const float *w, const float *given, float *gates,     \
                                 float *dh, float *dc, u32 *arrived, u32 steps, u32 batch, u32 hidden, u32 blocks, u32 vector, u32 with_dy,  \
                                 u32 with_given, MaskOf mask) {                                                                              \
    backward<U, R>(c0, cells, dy, w, given, gates, dh, dc, arrived, steps, batch, hidden, blocks, vector, with_dy, with_given, mask);        \
  }

KERNELS(4, 2, 16)
KERNELS(4, 8, 64)
KERNELS(9, 2, 16)
KERNELS(9, 8, 64)
