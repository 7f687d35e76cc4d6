// Matrix products out (M, N) = left (M, K) · right (K, N), plus an addend, in blocks of 4 x 4 elements, which are WGSL's
// matrices. One kernel serves forward and both gradients: they differ in which operand lies along k. Needs blocks_*.wgsl,
// out_*.wgsl and tile_*.wgsl before it. Formulas: lib/core/ops.ts.
//
// A block of the left operand has the rows as its columns, one of the right operand has k, so right · left has the rows
// of the output as columns.

override IS_LEFT_ALONG_K: bool = true; // left is stored (M, K), otherwise (K, M)
override IS_RIGHT_ALONG_K: bool = true; // right is stored (N, K), otherwise (K, N)
override THREADS_DOWN: u32 = 8u;
override THREADS_ACROSS: u32 = 8u;
// Blocks of depth that a workgroup fetches into its memory at once; 0 when every thread reads the operands themselves.
override DEPTH: u32 = 4u;

struct Product {
  out_at: u32,
  right_at: u32,
  left_at: u32,
  addend_at: u32,
  m: u32,
  n: u32,
  k: u32,
  out_width: u32, // from row to row of out and addend
  out_column: u32, // where their columns start
  left_width: u32, // from row to row of left as stored
  left_column: u32,
  right_width: u32,
  addend_kind: u32,
  tiles_down: u32,
  tiles_across: u32,
  tiles_tall: u32, // tiles down that share columns of the right operand before the next columns' turn
}

@group(0) @binding(0) var<uniform> parameters: Product;

// The parameters in registers: a processor that plays the graphics card would load them at every use.
var<private> p: Product;

override BLOCKS_DOWN: u32 = THREADS_DOWN * TALL;
override BLOCKS_ACROSS: u32 = THREADS_ACROSS * WIDE;
override LEFT_FOURS: u32 = max(1u, 4u * DEPTH * BLOCKS_DOWN);
override RIGHT_FOURS: u32 = max(1u, 4u * DEPTH * BLOCKS_ACROSS);

// Column c of block (k, i) of the tile is at (4 k + c) · blocks + i: neighbouring threads read neighbouring addresses.
var<workgroup> left_tile: array<vec4<f32>, LEFT_FOURS>;
var<workgroup> right_tile: array<vec4<f32>, RIGHT_FOURS>;

// The first block of this thread, and of its workgroup's tile, in blocks of the output.
var<private> down: u32;
var<private> across: u32;
var<private> tile_down: u32;
var<private> tile_across: u32;

// The thread's block `i` of an operand at depth `k`, which counts from the start of the tile where there is one.
fn left_block(i: u32, k: u32) -> mat4x4<f32> {
  let block = down + i * THREADS_DOWN;
  if (DEPTH == 0u) {
    return fetch_left(4u * block, k);
  }
  let at = k * BLOCKS_DOWN + block - tile_down;
  return mat4x4<f32>(
    left_tile[at],
    left_tile[at + BLOCKS_DOWN],
    left_tile[at + 2u * BLOCKS_DOWN],
    left_tile[at + 3u * BLOCKS_DOWN],
  );
}

fn right_block(i: u32, k: u32) -> mat4x4<f32> {
  let block = across + i * THREADS_ACROSS;
  if (DEPTH == 0u) {
    return fetch_right(4u * block, k);
  }
  let at = k * BLOCKS_ACROSS + block - tile_across;
  return mat4x4<f32>(
    right_tile[at],
    right_tile[at + BLOCKS_ACROSS],
    right_tile[at + 2u * BLOCKS_ACROSS],
    right_tile[at + 3u * BLOCKS_ACROSS],
  );
}

// Copies the operands' part of the tile from depth `k` on. Neighbouring threads take what is stored side by side.
fn fetch_tiles(k: u32, thread: u32) {
  let threads = THREADS_DOWN * THREADS_ACROSS;
  for (var b = thread; b < DEPTH * BLOCKS_DOWN; b += threads) {
    let depth = select(b / BLOCKS_DOWN, b % DEPTH, IS_LEFT_ALONG_K);
    let i = select(b % BLOCKS_DOWN, b / DEPTH, IS_LEFT_ALONG_K);
    let block = fetch_left(4u * (tile_down + i), k + 4u * depth);
    let at = 4u * depth * BLOCKS_DOWN + i;
    left_tile[at] = block[0];
    left_tile[at + BLOCKS_DOWN] = block[1];
    left_tile[at + 2u * BLOCKS_DOWN] = block[2];
    left_tile[at + 3u * BLOCKS_DOWN] = block[3];
  }
  for (var b = thread; b < DEPTH * BLOCKS_ACROSS; b += threads) {
    let depth = select(b / BLOCKS_ACROSS, b % DEPTH, IS_RIGHT_ALONG_K);
    let i = select(b % BLOCKS_ACROSS, b / DEPTH, IS_RIGHT_ALONG_K);
    let block = fetch_right(4u * (tile_across + i), k + 4u * depth);
    let at = 4u * depth * BLOCKS_ACROSS + i;
    right_tile[at] = block[0];
    right_tile[at + BLOCKS_ACROSS] = block[1];
    right_tile[at + 2u * BLOCKS_ACROSS] = block[2];
    right_tile[at + 3u * BLOCKS_ACROSS] = block[3];
  }
}

// How many of the elements up to `end` start at `first`.
fn remaining(first: u32, end: u32) -> u32 {
  return end - min(first, end);
}

fn store_row(m: u32, n: u32, values: vec4<f32>) {
  if (m < p.m) {
    store_four(m * p.out_width + p.out_column + n, remaining(n, p.n), values, p.addend_kind);
  }
}

// Stores the thread's block `i` down and `j` across.
fn store(i: u32, j: u32, block: mat4x4<f32>) {
  let m = 4u * (down + i * THREADS_DOWN);
  let n = 4u * (across + j * THREADS_ACROSS);
  store_row(m, n, block[0]);
  store_row(m + 1u, n, block[1]);
  store_row(m + 2u, n, block[2]);
  store_row(m + 3u, n, block[3]);
}

// Adds right · left to the thread's sums `i`. Written out row by row, it is the shortest code where a processor plays the
// graphics card: fewer numbers wait at a time.
fn add_product(i: u32, right: mat4x4<f32>, left: mat4x4<f32>) {
  sums[i][0] +=
    right[0] * left[0].x + right[1] * left[0].y + right[2] * left[0].z + right[3] * left[0].w;
  sums[i][1] +=
    right[0] * left[1].x + right[1] * left[1].y + right[2] * left[1].z + right[3] * left[1].w;
  sums[i][2] +=
    right[0] * left[2].x + right[1] * left[2].y + right[2] * left[2].z + right[3] * left[2].w;
  sums[i][3] +=
    right[0] * left[3].x + right[1] * left[3].y + right[2] * left[3].z + right[3] * left[3].w;
}

// A workgroup a tile. Tiles that follow each other share what they read: of a few rows of tiles all columns in turn.
@compute @workgroup_size(THREADS_DOWN * THREADS_ACROSS)
fn product(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sizes = parameters; // what is uniform is so by rule, which private variables never are
  p = sizes;
  let tile = group.x + group.y * groups.x;
  let tiles = sizes.tiles_tall * sizes.tiles_across;
  let first = tile / tiles * sizes.tiles_tall;
  if (first >= sizes.tiles_down) {
    return;
  }
  let tall = min(sizes.tiles_tall, sizes.tiles_down - first);
  tile_down = (first + tile % tiles % tall) * BLOCKS_DOWN;
  tile_across = tile % tiles / tall * BLOCKS_ACROSS;
  down = tile_down + thread / THREADS_ACROSS;
  across = tile_across + thread % THREADS_ACROSS;
  if (DEPTH == 0u) {
    for (var k = 0u; k < p.k; k += 4u) {
      add_products(k);
    }
  } else {
    for (var k = 0u; k < sizes.k; k += 4u * DEPTH) {
      fetch_tiles(k, thread);
      workgroupBarrier();
      for (var depth = 0u; depth < 4u * DEPTH; depth += 4u) {
        add_products(depth);
      }
      workgroupBarrier();
    }
  }
  store_sums();
}
