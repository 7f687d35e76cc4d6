// Rotary position embedding in place, a thread a pair. Formulas: lib/core/ops.ts.

override GROUP: u32 = 256u;

struct Rotation {
  qkv_at: u32,
  table_at: u32,
  positions_at: u32,
  pairs: u32,
  rotated: u32, // heads that are rotated, of
  heads: u32,
  half: u32,
  sign: f32, // of the angle
}

@group(0) @binding(0) var<uniform> r: Rotation;
@group(0) @binding(1) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;

@compute @workgroup_size(GROUP)
fn rotate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= r.pairs) {
    return;
  }
  let j = index % r.half;
  let head = index / r.half % r.rotated;
  let row = index / r.half / r.rotated;
  let angle = r.table_at + positions[r.positions_at + row] * 2u * r.half + j;
  let cosine = table[angle];
  let sine = r.sign * table[angle + r.half];
  let first = r.qkv_at + (row * r.heads + head) * 2u * r.half + j;
  let second = first + r.half;
  let x = qkv[first];
  let y = qkv[second];
  qkv[first] = x * cosine - y * sine;
  qkv[second] = y * cosine + x * sine;
}
