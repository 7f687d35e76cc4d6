// Products of few rows with a weight (decoding): out (M, N) = left (M, K) · weightᵀ, plus an addend. Every weight is read
// once. A thread owns four rows of the weight; LANES threads share them, each every LANES-th piece of the depth. Needs
// rows_*.wgsl, weight_*.wgsl and lane_sum*.wgsl before it.

override ROWS: u32 = 1u; // M, at most MAX_ROWS
override GROUP: u32 = 64u;

const MAX_ROWS = 8u;
const IS_LEFT_ALONG_K = true; // left is stored (M, K)
const NO_ADDEND = 0u;
const ADDEND = 1u;
const OUT_ITSELF = 2u;

// A parameter that decides between branches would make some drivers compile anew whenever it changes.
override ADDEND_KIND: u32 = NO_ADDEND;

struct Product {
  out_at: u32,
  weight_at: u32,
  left_at: u32,
  addend_at: u32,
  n: u32,
  k: u32,
  out_width: u32, // from row to row of out and addend
  out_column: u32, // where their columns start
}

@group(0) @binding(0) var<uniform> parameters: Product;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> addend: array<f32>;

// The parameters in registers: a processor that plays the graphics card would load them at every use.
var<private> p: Product;
var<private> sums: array<vec4<f32>, MAX_ROWS>; // a row of left each, a row of the weight each component

fn add_addend(at: u32) -> f32 {
  if (ADDEND_KIND == ADDEND) {
    return addend[p.addend_at + at];
  }
  if (ADDEND_KIND == OUT_ITSELF) {
    return out[p.out_at + at];
  }
  return 0.0;
}

fn finish_row(m: u32, n: u32, thread: u32) {
  let total = lane_sum(sums[m], thread);
  for (var j = thread % LANES; j < 4u; j += LANES) {
    if (n + j < p.n) {
      let at = m * p.out_width + p.out_column + n + j;
      out[p.out_at + at] = total[j] + add_addend(at);
    }
  }
}

// Adds up the lanes and stores; `n` is the first of the four outputs. Rows are written out wherever they index an array:
// what a loop indexes, compilers that do not unroll it keep in memory.
fn finish(n: u32, thread: u32) {
  finish_row(0u, n, thread);
  if (ROWS > 1u) { finish_row(1u, n, thread); }
  if (ROWS > 2u) { finish_row(2u, n, thread); }
  if (ROWS > 3u) { finish_row(3u, n, thread); }
  if (ROWS > 4u) { finish_row(4u, n, thread); }
  if (ROWS > 5u) { finish_row(5u, n, thread); }
  if (ROWS > 6u) { finish_row(6u, n, thread); }
  if (ROWS > 7u) { finish_row(7u, n, thread); }
}

fn first_output(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
  return 4u * ((group.x + group.y * groups.x) * (GROUP / LANES) + thread / LANES);
}

// The rows n to n + 3 of the weight, the last one again where there are fewer.
fn weight_rows(n: u32) -> vec4<u32> {
  return min(n + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
}

fn multiply_row(m: u32, k: u32, block: mat4x4<f32>) {
  sums[m] += left_four(p.left_at, m * p.k, k, p.k - k) * block;
}

@compute @workgroup_size(GROUP)
fn product(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_output(group, groups, thread);
  let starts = weight_rows(n) * p.k;
  for (var k = 4u * (thread % LANES); k < p.k; k += 4u * LANES) {
    let rest = p.k - k;
    let block = mat4x4<f32>(
      right_four(p.weight_at, starts.x, k, rest),
      right_four(p.weight_at, starts.y, k, rest),
      right_four(p.weight_at, starts.z, k, rest),
      right_four(p.weight_at, starts.w, k, rest),
    );
    multiply_row(0u, k, block);
    if (ROWS > 1u) { multiply_row(1u, k, block); }
    if (ROWS > 2u) { multiply_row(2u, k, block); }
    if (ROWS > 3u) { multiply_row(3u, k, block); }
    if (ROWS > 4u) { multiply_row(4u, k, block); }
    if (ROWS > 5u) { multiply_row(5u, k, block); }
    if (ROWS > 6u) { multiply_row(6u, k, block); }
    if (ROWS > 7u) { multiply_row(7u, k, block); }
  }
  finish(n, thread);
}
