// Attention with online softmax (Dao 2023), within sequences and against the key/value cache: a workgroup takes a tile of
// queries and goes through the keys, a thread has a block of 4 x 4 scores and two of the output. Needs attention_blocks.wgsl
// before it. Formulas: lib/core/ops.ts.
//
// Blocks here have the queries as components: of scores a key is a column, of the output an element of the head is.
// Their columns are named one by one: Deno's compiler leaves loops to the driver, and where that does not unroll them a
// matrix with an index that is no constant lies in memory.

override IS_CACHED: bool = false; // queries see keys up to their position, otherwise up to their own index
override IS_SPLIT: bool = false; // the keys are split among workgroups, which leave their parts to `combine`

@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read> positions: array<u32>;

override THREADS: u32 = ROW_BLOCKS * KEY_BLOCKS;
override WEIGHTS: u32 = 4u * THREADS;

// One vector of four queries a thread, and the weights of a tile by key.
var<workgroup> row_values: array<vec4<f32>, THREADS>;
var<workgroup> weights: array<vec4<f32>, WEIGHTS>;
var<workgroup> key_end: u32;

fn last_key(batch: u32, row: u32) -> u32 {
  let t = min(row, row_count() - 1u) / a.group;
  if (IS_CACHED) {
    return min(positions[a.other_at + batch * a.queries + t], a.slots - 1u);
  }
  return t;
}

// One more than the last key that any row of the tile sees.
fn find_key_end(batch: u32, tile: u32) -> u32 {
  let first = tile * 4u * ROW_BLOCKS;
  let last = min(first + 4u * ROW_BLOCKS, row_count()) - 1u;
  var end = last_key(batch, last);
  if (IS_CACHED) {
    for (var row = first; row < last; row += a.group) {
      end = max(end, last_key(batch, row));
    }
  }
  return end + 1u;
}

fn tile_scores(queries: vec4<u32>, keys: vec4<u32>) -> mat4x4<f32> {
  var scores: mat4x4<f32>;
  for (var d = 0u; d < a.width; d += 4u) {
    scores += transpose(query_block(queries, d)) * key_block(keys, d);
  }
  return scores;
}

fn highest_in_tile(own: vec4<f32>, block: u32, start: vec4<f32>, thread: u32) -> vec4<f32> {
  row_values[thread] = own;
  workgroupBarrier();
  var highest = start;
  for (var i = 0u; i < KEY_BLOCKS; i++) {
    highest = max(highest, row_values[block * KEY_BLOCKS + i]);
  }
  return highest;
}

fn sum_over_tile(own: vec4<f32>, block: u32, thread: u32) -> vec4<f32> {
  workgroupBarrier();
  row_values[thread] = own;
  workgroupBarrier();
  var sum = vec4<f32>();
  for (var i = 0u; i < KEY_BLOCKS; i++) {
    sum += row_values[block * KEY_BLOCKS + i];
  }
  return sum;
}

fn weights_block(row_block: u32, key_block: u32) -> mat4x4<f32> {
  let at = 4u * key_block * ROW_BLOCKS + row_block;
  return mat4x4<f32>(
    weights[at],
    weights[at + ROW_BLOCKS],
    weights[at + 2u * ROW_BLOCKS],
    weights[at + 3u * ROW_BLOCKS],
  );
}

// Scores of a key with four queries, where they see it.
fn seen_scores(scores: vec4<f32>, key: u32, last_keys: vec4<u32>) -> vec4<f32> {
  return select(vec4<f32>(LOWEST), scores, vec4<u32>(key) <= last_keys);
}

// And their weights.
fn seen_weights(scores: vec4<f32>, highest: vec4<f32>, key: u32, last_keys: vec4<u32>) -> vec4<f32> {
  return select(vec4<f32>(), exp(scores - highest), vec4<u32>(key) <= last_keys);
}

// A block with its queries scaled.
fn scaled(block: mat4x4<f32>, factor: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(block[0] * factor, block[1] * factor, block[2] * factor, block[3] * factor);
}

fn divided(block: mat4x4<f32>, total: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(block[0] / total, block[1] / total, block[2] / total, block[3] / total);
}

// Stores a block of the output, whose columns are elements d to d + 3 of the head.
fn store_block(starts: vec4<u32>, row: u32, d: u32, block: mat4x4<f32>) {
  let rows = transpose(block);
  for (var i = 0u; i < min(4u, row_count() - min(row, row_count())); i++) {
    for (var j = 0u; j < min(4u, a.width - min(d, a.width)); j++) {
      out[a.out_at + starts[i] + d + j] = rows[i][j];
    }
  }
}

@compute @workgroup_size(THREADS)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sizes = parameters; // uniform in the sense of WGSL, as control flow around barriers must be; `a` is not
  a = sizes;
  let index = group.x + group.y * groups.x;
  let split = index % sizes.splits;
  let tile = index / sizes.splits % sizes.tiles;
  let head = index / sizes.splits / sizes.tiles % sizes.key_heads;
  let batch = index / sizes.splits / sizes.tiles / sizes.key_heads;
  if (batch >= sizes.batches) {
    return;
  }
  let row_block = thread / KEY_BLOCKS;
  let block = thread % KEY_BLOCKS;
  let row = 4u * (tile * ROW_BLOCKS + row_block);
  let queries = query_starts(batch, head, row);
  let last_keys = vec4<u32>(
    last_key(batch, row),
    last_key(batch, row + 1u),
    last_key(batch, row + 2u),
    last_key(batch, row + 3u),
  );
  if (thread == 0u) {
    key_end = min(find_key_end(batch, tile), (split + 1u) * a.split_keys);
  }
  let end = workgroupUniformLoad(&key_end);
  let seen_keys = min(last_keys, vec4<u32>(end - 1u));
  let d = 4u * block;
  let second_d = d + 4u * KEY_BLOCKS;
  var highest = vec4<f32>(LOWEST);
  var sum: vec4<f32>;
  var first_out: mat4x4<f32>;
  var second_out: mat4x4<f32>;
  for (var key = split * sizes.split_keys; key < end; key += 4u * KEY_BLOCKS) {
    let own_key = key + 4u * block;
    let products = a.scale * tile_scores(queries, key_starts(batch, head, own_key, end));
    let scores = mat4x4<f32>(
      seen_scores(products[0], own_key, seen_keys),
      seen_scores(products[1], own_key + 1u, seen_keys),
      seen_scores(products[2], own_key + 2u, seen_keys),
      seen_scores(products[3], own_key + 3u, seen_keys),
    );
    let block_highest = max(max(scores[0], scores[1]), max(scores[2], scores[3]));
    let new_highest = highest_in_tile(block_highest, row_block, highest, thread);
    let factor = exp(highest - new_highest);
    highest = new_highest;
    let first_weights = seen_weights(scores[0], highest, own_key, seen_keys);
    let second_weights = seen_weights(scores[1], highest, own_key + 1u, seen_keys);
    let third_weights = seen_weights(scores[2], highest, own_key + 2u, seen_keys);
    let fourth_weights = seen_weights(scores[3], highest, own_key + 3u, seen_keys);
    let place = 4u * block * ROW_BLOCKS + row_block;
    weights[place] = first_weights;
    weights[place + ROW_BLOCKS] = second_weights;
    weights[place + 2u * ROW_BLOCKS] = third_weights;
    weights[place + 3u * ROW_BLOCKS] = fourth_weights;
    sum = sum * factor + first_weights + second_weights + third_weights + fourth_weights;
    workgroupBarrier();
    first_out = scaled(first_out, factor);
    second_out = scaled(second_out, factor);
    for (var i = 0u; i < KEY_BLOCKS && key + 4u * i < end; i++) {
      let keys = key_starts(batch, head, key + 4u * i, end);
      let tile_weights = weights_block(row_block, i);
      if (d < a.width) {
        first_out += tile_weights * transpose(value_block(keys, d));
      }
      if (second_d < a.width) {
        second_out += tile_weights * transpose(value_block(keys, second_d));
      }
    }
  }
  let total = sum_over_tile(sum, row_block, thread);
  if (IS_SPLIT) {
    store_part(batch, head, row, split, d, first_out, second_out, highest, total);
    return;
  }
  let starts = output_starts(batch, head, row);
  store_block(starts, row, d, divided(first_out, total));
  store_block(starts, row, second_d, divided(second_out, total));
  if (block == 0u && a.keeps_lse != 0u) {
    for (var i = 0u; i < min(4u, row_count() - min(row, row_count())); i++) {
      lse[a.lse_at + lse_index(batch, head, row + i)] = highest[i] + log(total[i]);
    }
  }
}

// Parts of splits: for each row and split the output before division, then the highest score and the sum of weights.
fn part_start(batch: u32, head: u32, row: u32, split: u32) -> u32 {
  let r = min(row, row_count() - 1u);
  return (((batch * a.key_heads + head) * row_count() + r) * a.splits + split) * (a.width + 2u);
}

fn store_part(
  batch: u32,
  head: u32,
  row: u32,
  split: u32,
  d: u32,
  first_out: mat4x4<f32>,
  second_out: mat4x4<f32>,
  highest: vec4<f32>,
  total: vec4<f32>,
) {
  let starts = vec4<u32>(
    part_start(batch, head, row, split),
    part_start(batch, head, row + 1u, split),
    part_start(batch, head, row + 2u, split),
    part_start(batch, head, row + 3u, split),
  );
  store_block(starts, row, d, first_out);
  store_block(starts, row, d + 4u * KEY_BLOCKS, second_out);
  if (d == 0u) {
    for (var i = 0u; i < min(4u, row_count() - min(row, row_count())); i++) {
      out[a.out_at + starts[i] + a.width] = highest[i];
      out[a.out_at + starts[i] + a.width + 1u] = total[i];
    }
  }
}

@group(0) @binding(2) var<storage, read> parts: array<f32>;

override GROUP: u32 = 64u;

// Joins the parts, a thread an element of the output. Its `lse` tensor is the parts.
@compute @workgroup_size(GROUP)
fn combine(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  a = parameters;
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  let d = index % a.width;
  let row = index / a.width % row_count();
  let head = index / a.width / row_count() % a.key_heads;
  let batch = index / a.width / row_count() / a.key_heads;
  if (batch >= a.batches) {
    return;
  }
  let first = a.lse_at + part_start(batch, head, row, 0u);
  let stride = a.width + 2u;
  var highest = LOWEST;
  for (var split = 0u; split < a.splits; split++) {
    highest = max(highest, parts[first + split * stride + a.width]);
  }
  var sum = 0.0;
  var total = 0.0;
  for (var split = 0u; split < a.splits; split++) {
    let at = first + split * stride;
    let factor = exp(parts[at + a.width] - highest);
    sum += factor * parts[at + d];
    total += factor * parts[at + a.width + 1u];
  }
  out[a.out_at + output_start(batch, head, row) + d] = sum / total;
}
