// Storing the keys and values of new tokens in their slots of the cache, a thread an element.

override GROUP: u32 = 256u;

struct Append {
  keys_at: u32,
  values_at: u32,
  qkv_at: u32,
  positions_at: u32,
  count: u32,
  tokens: u32, // per sequence
  heads: u32, // of queries, keys and values together
  key_heads: u32,
  head_width: u32,
  slots: u32,
}

@group(0) @binding(0) var<uniform> a: Append;
@group(0) @binding(1) var<storage, read_write> keys: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;

@compute @workgroup_size(GROUP)
fn append(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= a.count) {
    return;
  }
  let d = index % a.head_width;
  let head = index / a.head_width % a.key_heads;
  let n = index / a.head_width / a.key_heads;
  let slot = positions[a.positions_at + n];
  if (slot >= a.slots) {
    return;
  }
  let key = (n * a.heads + a.heads - 2u * a.key_heads + head) * a.head_width + d;
  let at = ((n / a.tokens * a.key_heads + head) * a.slots + slot) * a.head_width + d;
  keys[a.keys_at + at] = qkv[a.qkv_at + key];
  values[a.values_at + at] = qkv[a.qkv_at + key + a.key_heads * a.head_width];
}
