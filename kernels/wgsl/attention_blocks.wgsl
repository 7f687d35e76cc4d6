// Where the rows of attention lie, as blocks of four of them: a WGSL matrix with a row as each column. The queries of one
// key/value head are counted as rows t · group + head, so that a tile of them reads its keys once for the whole group.
// Joined in front of the attention kernels, after attention_aligned.wgsl or attention_any.wgsl.

struct Attention {
  out_at: u32,
  lse_at: u32,
  query_at: u32,
  key_at: u32,
  value_at: u32,
  other_at: u32, // positions of queries against a cache, gradient of the output in the backward pass
  delta_at: u32,
  queries: u32, // T
  group: u32, // H / K
  key_heads: u32, // K
  width: u32, // D
  query_row: u32, // elements of qkv from position to position
  key_first: u32, // where the first key is
  value_first: u32,
  key_batch: u32, // elements of keys, and of values, from sequence to sequence
  key_head: u32, // from head to head
  key_row: u32, // and from key to key
  slots: u32, // keys of a head
  tiles: u32, // of a head
  batches: u32,
  keeps_lse: u32,
  splits: u32,
  split_keys: u32, // keys of a split
  scale: f32,
}

@group(0) @binding(0) var<uniform> parameters: Attention;

// The parameters in registers: a processor that plays the graphics card would load them at every use.
var<private> a: Attention;

override ROW_BLOCKS: u32 = 8u; // blocks of four rows of a tile
override KEY_BLOCKS: u32 = 8u; // and of four keys

// A score that is not there.
const LOWEST = -3.4028234e38;

fn row_count() -> u32 {
  return a.queries * a.group;
}

// The query head of a row.
fn head_of(head: u32, row: u32) -> u32 {
  return head * a.group + row % a.group;
}

// Where row `row` of sequence `batch` and key head `head` starts in (B, T, H, D); rows beyond the last are the last one.
fn output_start(batch: u32, head: u32, row: u32) -> u32 {
  let r = min(row, row_count() - 1u);
  let n = batch * a.queries + r / a.group;
  return (n * a.group * a.key_heads + head_of(head, r)) * a.width;
}

// The same in qkv.
fn query_start(batch: u32, head: u32, row: u32) -> u32 {
  let r = min(row, row_count() - 1u);
  return (batch * a.queries + r / a.group) * a.query_row + head_of(head, r) * a.width;
}

// And in lse (B, H, T).
fn lse_index(batch: u32, head: u32, row: u32) -> u32 {
  let r = min(row, row_count() - 1u);
  return (batch * a.group * a.key_heads + head_of(head, r)) * a.queries + r / a.group;
}

fn query_starts(batch: u32, head: u32, row: u32) -> vec4<u32> {
  return vec4<u32>(
    query_start(batch, head, row),
    query_start(batch, head, row + 1u),
    query_start(batch, head, row + 2u),
    query_start(batch, head, row + 3u),
  );
}

fn output_starts(batch: u32, head: u32, row: u32) -> vec4<u32> {
  return vec4<u32>(
    output_start(batch, head, row),
    output_start(batch, head, row + 1u),
    output_start(batch, head, row + 2u),
    output_start(batch, head, row + 3u),
  );
}

// Where keys `key` to `key` + 3 start, less key_first; keys from `end` on are the one before it.
fn key_starts(batch: u32, head: u32, key: u32, end: u32) -> vec4<u32> {
  let keys = min(key + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));
  return batch * a.key_batch + head * a.key_head + keys * a.key_row;
}

// Elements `d` to `d` + 3 of four rows.
fn query_block(starts: vec4<u32>, d: u32) -> mat4x4<f32> {
  let at = a.query_at + starts + d;
  let rest = a.width - d;
  return mat4x4<f32>(
    query_four(at.x, rest),
    query_four(at.y, rest),
    query_four(at.z, rest),
    query_four(at.w, rest),
  );
}

fn key_block(starts: vec4<u32>, d: u32) -> mat4x4<f32> {
  let at = a.key_at + a.key_first + starts + d;
  let rest = a.width - d;
  return mat4x4<f32>(
    key_four(at.x, rest),
    key_four(at.y, rest),
    key_four(at.z, rest),
    key_four(at.w, rest),
  );
}

fn value_block(starts: vec4<u32>, d: u32) -> mat4x4<f32> {
  let at = a.value_at + a.value_first + starts + d;
  let rest = a.width - d;
  return mat4x4<f32>(
    value_four(at.x, rest),
    value_four(at.y, rest),
    value_four(at.z, rest),
    value_four(at.w, rest),
  );
}

fn gradient_block(starts: vec4<u32>, d: u32) -> mat4x4<f32> {
  let at = a.other_at + starts + d;
  let rest = a.width - d;
  return mat4x4<f32>(
    gradient_four(at.x, rest),
    gradient_four(at.y, rest),
    gradient_four(at.z, rest),
    gradient_four(at.w, rest),
  );
}
