// Sums in a fixed order: chunks of fixed length, a workgroup each, then the chunks by one workgroup. And the clip factor
// made of them. Needs workgroup_sum.wgsl before it. Formulas: lib/core/ops.ts.

override CHUNK: u32 = 16384u;
override SQUARES: bool = false;

struct Chunks {
  partial_at: u32,
  x_at: u32,
  count: u32,
  first_chunk: u32, // of this dispatch, among all of the sum
}

@group(0) @binding(0) var<uniform> c: Chunks;
@group(0) @binding(1) var<storage, read_write> chunk_sums: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

@compute @workgroup_size(GROUP)
fn sum_chunks(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let chunk = group.x + group.y * groups.x;
  let first = chunk * CHUNK;
  if (first >= c.count) {
    return;
  }
  var sum = 0.0;
  for (var j = first + thread; j < min(first + CHUNK, c.count); j += GROUP) {
    let value = x[c.x_at + j];
    sum += select(value, value * value, SQUARES);
  }
  let total = workgroup_sum(sum, thread);
  if (thread == 0u) {
    chunk_sums[c.partial_at + c.first_chunk + chunk] = total;
  }
}

struct Total {
  out_at: u32,
  x_at: u32,
  count: u32,
}

@group(0) @binding(0) var<uniform> t: Total;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(GROUP)
fn sum_all(@builtin(local_invocation_index) thread: u32) {
  var sum = 0.0;
  for (var j = thread; j < t.count; j += GROUP) {
    sum += x[t.x_at + j];
  }
  let total = workgroup_sum(sum, thread);
  if (thread == 0u) {
    out[t.out_at] = total;
  }
}

struct Clip {
  out_at: u32,
  squares_at: u32,
  loss_at: u32,
  count: u32,
  max_norm: f32,
}

@group(0) @binding(0) var<uniform> k: Clip;
// Only read; but it may lie in the buffer of `out`, and a buffer is bound in one way.
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

// By the bits: a compiler may take comparisons for true of all numbers that it knows.
fn is_broken(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}

@compute @workgroup_size(GROUP)
fn clip_scale(@builtin(local_invocation_index) thread: u32) {
  var sum = 0.0;
  var broken = 0.0;
  for (var j = thread; j < k.count; j += GROUP) {
    let value = x[k.squares_at + j];
    sum += value;
    broken += f32(is_broken(value));
  }
  let squares = workgroup_sum(sum, thread);
  let broken_count = workgroup_sum(broken, thread);
  if (thread != 0u) {
    return;
  }
  let has_norm = broken_count == 0.0 && !is_broken(squares);
  let norm = sqrt(squares);
  let scale = select(1.0, min(1.0, k.max_norm / (norm + 1e-6)), k.max_norm > 0.0);
  out[k.out_at] = select(0.0, scale, has_norm && !is_broken(loss[k.loss_at]));
  out[k.out_at + 1u] = select(squares, norm, has_norm);
}
