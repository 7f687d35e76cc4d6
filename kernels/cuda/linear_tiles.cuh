// Products of up to 8 rows of bf16 on tensor cores. A block of threads has 16 rows of the weight, each of its warps every so
// many-th span of them; the warps' sums are added in order. Weights of blocks are linear_blocks.cuh's, plain ones go from
// memory to registers as the products want them: several rows of x would take too many instructions otherwise.

#ifndef TINYLLAMA_LINEAR_TILES_CUH
#define TINYLLAMA_LINEAR_TILES_CUH

#include "linear_blocks.cuh"

// One warp's part of a tile of a bf16 weight, whose rows are whole blocks of 32 elements.
struct PlainTile {
  static constexpr int COLUMNS = 8;
  static constexpr int AT_ONCE = 4;               // blocks of a lane's rows, on their way together
  static constexpr int X_PITCH = TILE_SPAN + 32; // rows of x that are neighbours meet other banks

  struct Stage {
    alignas(16) bf16 x[COLUMNS][X_PITCH];
  };

  Stage *stage;
  const bf16 *upper, *lower; // the lane's rows
  int blocks, rows;          // of a row; of the weight that there are
  bool packed;
  Pack<bf16> above[AT_ONCE], below[AT_ONCE];

  DEVICE PlainTile(Stage *stage, const void *weight, int first, int o, int i)
      : stage(stage), blocks(i / QUANT_BLOCK), rows(min(TILE_ROWS, o - first)), packed((uintptr_t)weight % 16 == 0) {
    int row = threadIdx.x / 4;
    upper = (const bf16 *)weight + (size_t)(first + min(row, rows - 1)) * i;
    lower = (const bf16 *)weight + (size_t)(first + min(row + 8, rows - 1)) * i;
  }

  DEVICE int blocks_of(int span) const { return min(TILE_BLOCKS, blocks - span * TILE_BLOCKS); }

  // Begins to read blocks of the row from number `block` on.
  DEVICE void fetch(int block) {
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
      if (block + k >= blocks) continue;
      int at = (block + k) * QUANT_BLOCK + threadIdx.x % 4 * 8;
      above[k] = load_pack(upper, at, blocks * QUANT_BLOCK, packed);
      below[k] = load_pack(lower, at, blocks * QUANT_BLOCK, packed);
    }
  }

  DEVICE void begin(int span) { fetch(span * TILE_BLOCKS); }

  DEVICE void stage_x(const bf16 *x, int n, int span) const {
    int from = threadIdx.x * 8, at = span * TILE_SPAN + from, width = blocks * QUANT_BLOCK;
    if (at >= width) return;
    Pack<bf16> packs[COLUMNS];
#pragma unroll
    for (int r = 0; r < COLUMNS; r++) packs[r] = load_pack(x + (size_t)min(r, n - 1) * width, at, width, true);
#pragma unroll
    for (int r = 0; r < COLUMNS; r++) *(Pack<bf16> *)(stage->x[r] + from) = packs[r];
  }

  // sums += the products of a span; elements are taken in another order than PTX numbers them, the same of weight and x.
  DEVICE void multiply_span(float sums[4], int span) {
    int count = blocks_of(span);
#pragma unroll
    for (int begin = 0; begin < TILE_BLOCKS; begin += AT_ONCE) {
      if (begin > 0 && begin < count) fetch(span * TILE_BLOCKS + begin);
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        if (begin + k >= count) continue;
        Pack<bf16> x = *(const Pack<bf16> *)(stage->x[threadIdx.x / 4] + (begin + k) * QUANT_BLOCK + threadIdx.x % 4 * 8);
#pragma unroll
        for (int half = 0; half < 4; half += 2) {
          uint32_t a[4] = {above[k].words[half], below[k].words[half], above[k].words[half + 1], below[k].words[half + 1]};
          mma_16x8x16(sums, a, x.words + half);
        }
      }
    }
  }
};

// out[r, column + row] = Σ x[r] · weight[row] + addend[r, column + row] for n <= COLUMNS rows of x; out and addend (n, width).
template <typename Tile>
DEVICE void matvec_tiles(bf16 *out, const bf16 *x, const void *weight, const bf16 *addend, int n, int o, int i, int column, int width) {
  constexpr int COLUMNS = Tile::COLUMNS;
  constexpr int PITCH = COLUMNS == 1 ? 1 : COLUMNS + 1; // rows of a column meet other banks
  __shared__ float parts[MOST_WARPS][TILE_ROWS][PITCH];
  typename Tile::Stage *stages = (typename Tile::Stage *)dynamic_shared();
  int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, first = blockIdx.x * TILE_ROWS;
  int spans = (i / QUANT_BLOCK + TILE_BLOCKS - 1) / TILE_BLOCKS;
  launch_dependents();
  Tile tile(&stages[warp], weight, first, o, i);
  float sums[4] = {0, 0, 0, 0};
#pragma unroll 1
  for (int span = warp; span < spans; span += warps) {
    __syncwarp();
    tile.begin(span);
    if (span == warp) wait_for_prerequisites(); // every warp has a first span
    tile.stage_x(x, n, span);
    copy_async_wait();
    __syncwarp();
    tile.multiply_span(sums, span);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int row = lane / 4 + i / 2 * 8, of_x = lane % 4 * 2 + i % 2;
    if (of_x < COLUMNS) parts[warp][row][of_x] = sums[i];
  }
  __syncthreads();
  for (int index = warp * WARP + lane; index < TILE_ROWS * COLUMNS; index += warps * WARP) {
    int row = index % TILE_ROWS, r = index / TILE_ROWS;
    if (r >= n || row >= tile.rows) continue;
    float sum = 0;
#pragma unroll 4
    for (int part = 0; part < warps; part++) sum += parts[part][row][r];
    size_t at = (size_t)r * width + column + first + row;
    out[at] = from_float<bf16>(addend ? sum + to_float(addend[at]) : sum);
  }
}

#endif
