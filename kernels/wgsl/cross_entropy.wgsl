// Losses of rows of logits and their gradient in place, a workgroup a row: one pass for the maximum and the sum of
// exponentials together (online softmax), a second one for the gradient. Formulas: lib/core/ops.ts.

override GROUP: u32 = 256u; // a power of two
override GRADIENT: bool = false;

const LOWEST = -3.4028234e38;

struct Rows {
  losses_at: u32,
  logits_at: u32,
  targets_at: u32,
  rows: u32,
  width: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> r: Rows;
@group(0) @binding(1) var<storage, read_write> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<i32>;

var<workgroup> peaks: array<f32, GROUP>;
var<workgroup> sums: array<f32, GROUP>;

@compute @workgroup_size(GROUP)
fn cross_entropy(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = group.x + group.y * groups.x;
  if (row >= r.rows) {
    return;
  }
  let label = targets[r.targets_at + row];
  let first = r.logits_at + row * r.width;
  if (label < 0) {
    ignore(row, first, thread);
    return;
  }
  var peak = LOWEST;
  var sum = 0.0;
  for (var j = thread; j < r.width; j += GROUP) {
    let above = logits[first + j] - peak;
    let factor = exp(-abs(above));
    if (above > 0.0) {
      peak = logits[first + j];
      sum = sum * factor + 1.0;
    } else {
      sum += factor;
    }
  }
  peaks[thread] = peak;
  sums[thread] = sum;
  workgroupBarrier();
  for (var distance = GROUP / 2u; distance > 0u; distance /= 2u) {
    if (thread < distance) {
      let highest = max(peaks[thread], peaks[thread + distance]);
      sums[thread] = sums[thread] * exp(peaks[thread] - highest) +
        sums[thread + distance] * exp(peaks[thread + distance] - highest);
      peaks[thread] = highest;
    }
    workgroupBarrier();
  }
  peak = peaks[0];
  sum = sums[0];
  if (thread == u32(label) % GROUP) { // no other thread overwrites the label's logit below
    losses[r.losses_at + row] = log(sum) + (peak - logits[first + u32(label)]);
  }
  if (GRADIENT) {
    for (var j = thread; j < r.width; j += GROUP) {
      let probability = exp(logits[first + j] - peak) / sum;
      logits[first + j] = r.scale * (probability - f32(j == u32(label)));
    }
  }
}

fn ignore(row: u32, first: u32, thread: u32) {
  if (thread == 0u) {
    losses[r.losses_at + row] = 0.0;
  }
  if (GRADIENT) {
    for (var j = thread; j < r.width; j += GROUP) {
      logits[first + j] = 0.0;
    }
  }
}
