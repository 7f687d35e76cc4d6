// Root mean square norm, a workgroup a row. The gradient of the weight is a sum over rows: fixed chunks of rows are added
// up into `partial_sums`, then the chunks in order. Needs workgroup_sum.wgsl before it. Formulas: lib/core/ops.ts.

struct Forward {
  out_at: u32,
  rstd_at: u32,
  x_at: u32,
  weight_at: u32,
  rows: u32,
  width: u32,
  keeps_rstd: u32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> f: Forward;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> rstd_out: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;

@compute @workgroup_size(GROUP)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = group.x + group.y * groups.x;
  if (row >= f.rows) {
    return;
  }
  let first = row * f.width;
  var squares = 0.0;
  for (var j = thread; j < f.width; j += GROUP) {
    let value = x[f.x_at + first + j];
    squares += value * value;
  }
  let rstd = 1.0 / sqrt(workgroup_sum(squares, thread) / f32(f.width) + f.eps);
  for (var j = thread; j < f.width; j += GROUP) {
    out[f.out_at + first + j] = x[f.x_at + first + j] * rstd * weight[f.weight_at + j];
  }
  if (thread == 0u && f.keeps_rstd != 0u) {
    rstd_out[f.rstd_at + row] = rstd;
  }
}

struct BackwardInput {
  dx_at: u32,
  dout_at: u32,
  x_at: u32,
  weight_at: u32,
  rstd_at: u32,
  rows: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> b: BackwardInput;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read> x_in: array<f32>;
@group(0) @binding(4) var<storage, read> weight_in: array<f32>;
@group(0) @binding(5) var<storage, read> rstd_in: array<f32>;

@compute @workgroup_size(GROUP)
fn backward_input(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = group.x + group.y * groups.x;
  if (row >= b.rows) {
    return;
  }
  let first = row * b.width;
  let rstd = rstd_in[b.rstd_at + row];
  var products = 0.0;
  for (var j = thread; j < b.width; j += GROUP) {
    let g = dout[b.dout_at + first + j] * weight_in[b.weight_at + j];
    products += g * x_in[b.x_at + first + j];
  }
  let mean = workgroup_sum(products, thread) / f32(b.width);
  for (var j = thread; j < b.width; j += GROUP) {
    let g = dout[b.dout_at + first + j] * weight_in[b.weight_at + j];
    dx[b.dx_at + first + j] += rstd * (g - x_in[b.x_at + first + j] * rstd * rstd * mean);
  }
}

struct WeightChunks {
  partial_at: u32,
  dout_at: u32,
  x_at: u32,
  rstd_at: u32,
  rows: u32,
  width: u32,
  chunk_rows: u32,
  columns: u32, // workgroups per chunk, GROUP columns each
  first_chunk: u32,
}

@group(0) @binding(0) var<uniform> w: WeightChunks;
@group(0) @binding(1) var<storage, read_write> partial_sums: array<f32>;
@group(0) @binding(2) var<storage, read> dout_rows: array<f32>;
@group(0) @binding(3) var<storage, read> x_rows: array<f32>;
@group(0) @binding(4) var<storage, read> rstd_rows: array<f32>;

@compute @workgroup_size(GROUP)
fn weight_chunks(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = group.x + group.y * groups.x;
  let chunk = index / w.columns;
  let j = index % w.columns * GROUP + thread;
  let first = chunk * w.chunk_rows;
  if (first >= w.rows || j >= w.width) {
    return;
  }
  var sum = 0.0;
  for (var row = first; row < min(first + w.chunk_rows, w.rows); row++) {
    let at = row * w.width + j;
    sum += dout_rows[w.dout_at + at] * x_rows[w.x_at + at] * rstd_rows[w.rstd_at + row];
  }
  partial_sums[w.partial_at + (w.first_chunk + chunk) * w.width + j] = sum;
}

struct WeightSum {
  dweight_at: u32,
  partial_at: u32,
  chunks: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> s: WeightSum;
@group(0) @binding(1) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(2) var<storage, read> chunk_sums: array<f32>;

@compute @workgroup_size(GROUP)
fn weight_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let j = group.x * GROUP + thread;
  if (j >= s.width) {
    return;
  }
  var sum = 0.0;
  for (var chunk = 0u; chunk < s.chunks; chunk++) {
    sum += chunk_sums[s.partial_at + chunk * s.width + j];
  }
  dweight[s.dweight_at + j] += sum;
}
