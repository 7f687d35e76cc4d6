// Gradients of attention in two passes without atomics: a tile of queries goes through the keys, then a tile of keys
// through the queries; both compute the scores anew. Needs attention_blocks.wgsl before it. Formulas: lib/core/ops.ts.

@group(0) @binding(1) var<storage, read_write> dqkv: array<f32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> delta: array<f32>;

override THREADS: u32 = ROW_BLOCKS * KEY_BLOCKS;
override WEIGHTS: u32 = 4u * THREADS;
override TILE_ROWS: u32 = 4u * ROW_BLOCKS;

// Scores' gradients and weights of a tile; in the first pass queries are the components, in the second keys are.
var<workgroup> dscores: array<vec4<f32>, WEIGHTS>;
var<workgroup> weights: array<vec4<f32>, WEIGHTS>;

const FOUR = vec4<u32>(0u, 1u, 2u, 3u);

// Of four rows.
fn lse_indices(batch: u32, head: u32, row: u32) -> vec4<u32> {
  return vec4<u32>(
    lse_index(batch, head, row),
    lse_index(batch, head, row + 1u),
    lse_index(batch, head, row + 2u),
    lse_index(batch, head, row + 3u),
  );
}

// Weights of scores before scaling, where they are seen.
fn seen_weights(scores: vec4<f32>, row_lse: vec4<f32>, is_seen: vec4<bool>) -> vec4<f32> {
  return select(vec4<f32>(), exp(a.scale * scores - row_lse), is_seen);
}

// Whether a row is there and sees the keys.
fn sees(row: u32, keys: vec4<u32>) -> vec4<bool> {
  return (keys <= vec4<u32>(row / a.group)) & vec4<bool>(row < row_count());
}

// Stores the weights of four keys for one row, and the gradients of their scores.
fn store_weights(place: u32, scores: vec4<f32>, dweights: vec4<f32>, at: u32, is_seen: vec4<bool>) {
  let weight = seen_weights(scores, vec4<f32>(lse[a.lse_at + at]), is_seen);
  weights[place] = weight;
  dscores[place] = a.scale * weight * (dweights - delta[a.delta_at + at]);
}

// Stores a block whose columns are elements d to d + 3 of heads that start at `starts`; `count` of them are there.
fn store_block(starts: vec4<u32>, count: u32, d: u32, block: mat4x4<f32>) {
  let rows = transpose(block);
  for (var i = 0u; i < min(4u, count); i++) {
    for (var j = 0u; j < min(4u, a.width - min(d, a.width)); j++) {
      dqkv[a.out_at + starts[i] + d + j] = rows[i][j];
    }
  }
}

@compute @workgroup_size(THREADS)
fn backward_queries(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sizes = parameters; // uniform in the sense of WGSL, as control flow around barriers must be; `a` is not
  a = sizes;
  let index = group.x + group.y * groups.x;
  let tile = index % sizes.tiles;
  let head = index / sizes.tiles % sizes.key_heads;
  let batch = index / sizes.tiles / sizes.key_heads;
  if (batch >= sizes.batches) {
    return;
  }
  let row_block = thread / KEY_BLOCKS;
  let block = thread % KEY_BLOCKS;
  let row = 4u * (tile * ROW_BLOCKS + row_block);
  let queries = query_starts(batch, head, row);
  let gradients = output_starts(batch, head, row);
  let at = lse_indices(batch, head, row);
  let row_lse = vec4<f32>(
    lse[a.lse_at + at.x],
    lse[a.lse_at + at.y],
    lse[a.lse_at + at.z],
    lse[a.lse_at + at.w],
  );
  let row_delta = vec4<f32>(
    delta[a.delta_at + at.x],
    delta[a.delta_at + at.y],
    delta[a.delta_at + at.z],
    delta[a.delta_at + at.w],
  );
  let last_keys = min(row + FOUR, vec4<u32>(row_count() - 1u)) / a.group;
  let end = (min((tile + 1u) * TILE_ROWS, sizes.queries * sizes.group) - 1u) / sizes.group + 1u;
  let d = 4u * block;
  let second_d = d + 4u * KEY_BLOCKS;
  var first_out: mat4x4<f32>;
  var second_out: mat4x4<f32>;
  for (var key = 0u; key < end; key += 4u * KEY_BLOCKS) {
    let own_key = key + 4u * block;
    let own_keys = key_starts(batch, head, own_key, end);
    var scores = mat4x4<f32>();
    var dweights = mat4x4<f32>();
    for (var e = 0u; e < a.width; e += 4u) {
      scores += transpose(query_block(queries, e)) * key_block(own_keys, e);
      dweights += transpose(gradient_block(gradients, e)) * value_block(own_keys, e);
    }
    workgroupBarrier();
    let tile_weights = mat4x4<f32>(
      seen_weights(scores[0], row_lse, vec4<u32>(own_key) <= last_keys),
      seen_weights(scores[1], row_lse, vec4<u32>(own_key + 1u) <= last_keys),
      seen_weights(scores[2], row_lse, vec4<u32>(own_key + 2u) <= last_keys),
      seen_weights(scores[3], row_lse, vec4<u32>(own_key + 3u) <= last_keys),
    );
    let place = 4u * block * ROW_BLOCKS + row_block;
    dscores[place] = a.scale * tile_weights[0] * (dweights[0] - row_delta);
    dscores[place + ROW_BLOCKS] = a.scale * tile_weights[1] * (dweights[1] - row_delta);
    dscores[place + 2u * ROW_BLOCKS] = a.scale * tile_weights[2] * (dweights[2] - row_delta);
    dscores[place + 3u * ROW_BLOCKS] = a.scale * tile_weights[3] * (dweights[3] - row_delta);
    workgroupBarrier();
    for (var i = 0u; i < KEY_BLOCKS && key + 4u * i < end; i++) {
      let keys = key_starts(batch, head, key + 4u * i, end);
      let at = 4u * i * ROW_BLOCKS + row_block;
      let tile_dscores = mat4x4<f32>(
        dscores[at],
        dscores[at + ROW_BLOCKS],
        dscores[at + 2u * ROW_BLOCKS],
        dscores[at + 3u * ROW_BLOCKS],
      );
      if (d < a.width) {
        first_out += tile_dscores * transpose(key_block(keys, d));
      }
      if (second_d < a.width) {
        second_out += tile_dscores * transpose(key_block(keys, second_d));
      }
    }
  }
  let count = row_count() - min(row, row_count());
  store_block(queries, count, d, first_out);
  store_block(queries, count, second_d, second_out);
}

// Where the rows of the tile start in qkv and in the output's gradient.
var<workgroup> tile_queries: array<vec4<u32>, ROW_BLOCKS>;
var<workgroup> tile_gradients: array<vec4<u32>, ROW_BLOCKS>;

@compute @workgroup_size(THREADS)
fn backward_keys(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sizes = parameters;
  a = sizes;
  let index = group.x + group.y * groups.x;
  let tile = index % sizes.tiles;
  let head = index / sizes.tiles % sizes.key_heads;
  let batch = index / sizes.tiles / sizes.key_heads;
  if (batch >= sizes.batches) {
    return;
  }
  let rows = sizes.queries * sizes.group;
  let block = thread / ROW_BLOCKS;
  let row_block = thread % ROW_BLOCKS;
  let key = 4u * (tile * KEY_BLOCKS + block);
  let keys = key_starts(batch, head, key, a.slots);
  let key_numbers = key + vec4<u32>(0u, 1u, 2u, 3u);
  let d = 4u * row_block;
  let second_d = d + 4u * ROW_BLOCKS;
  var first_keys: mat4x4<f32>;
  var second_keys: mat4x4<f32>;
  var first_values: mat4x4<f32>;
  var second_values: mat4x4<f32>;
  for (var first = tile * 4u * KEY_BLOCKS * sizes.group; first < rows; first += TILE_ROWS) {
    let row = first + 4u * row_block;
    let queries = query_starts(batch, head, row);
    let gradients = output_starts(batch, head, row);
    var scores = mat4x4<f32>();
    var dweights = mat4x4<f32>();
    for (var e = 0u; e < a.width; e += 4u) {
      scores += transpose(key_block(keys, e)) * query_block(queries, e);
      dweights += transpose(value_block(keys, e)) * gradient_block(gradients, e);
    }
    workgroupBarrier();
    let at = lse_indices(batch, head, row);
    let place = 4u * row_block * KEY_BLOCKS + block;
    store_weights(place, scores[0], dweights[0], at.x, sees(row, key_numbers));
    store_weights(place + KEY_BLOCKS, scores[1], dweights[1], at.y, sees(row + 1u, key_numbers));
    store_weights(place + 2u * KEY_BLOCKS, scores[2], dweights[2], at.z, sees(row + 2u, key_numbers));
    store_weights(place + 3u * KEY_BLOCKS, scores[3], dweights[3], at.w, sees(row + 3u, key_numbers));
    if (block == 0u) {
      tile_queries[row_block] = queries;
      tile_gradients[row_block] = gradients;
    }
    workgroupBarrier();
    for (var i = 0u; i < ROW_BLOCKS && first + 4u * i < rows; i++) {
      let at = 4u * i * KEY_BLOCKS + block;
      let tile_weights = mat4x4<f32>(
        weights[at],
        weights[at + KEY_BLOCKS],
        weights[at + 2u * KEY_BLOCKS],
        weights[at + 3u * KEY_BLOCKS],
      );
      let tile_dscores = mat4x4<f32>(
        dscores[at],
        dscores[at + KEY_BLOCKS],
        dscores[at + 2u * KEY_BLOCKS],
        dscores[at + 3u * KEY_BLOCKS],
      );
      if (d < a.width) {
        first_keys += tile_dscores * transpose(query_block(tile_queries[i], d));
        first_values += tile_weights * transpose(gradient_block(tile_gradients[i], d));
      }
      if (second_d < a.width) {
        second_keys += tile_dscores * transpose(query_block(tile_queries[i], second_d));
        second_values += tile_weights * transpose(gradient_block(tile_gradients[i], second_d));
      }
    }
  }
  let count = a.slots - min(key, a.slots);
  store_block(a.key_first + keys, count, d, first_keys);
  store_block(a.key_first + keys, count, second_d, second_keys);
  store_block(a.value_first + keys, count, d, first_values);
  store_block(a.value_first + keys, count, second_d, second_values);
}

struct Delta {
  delta_at: u32,
  out_at: u32,
  dout_at: u32,
  rows: u32, // B T H
  queries: u32,
  heads: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> e: Delta;
@group(0) @binding(1) var<storage, read_write> delta_out: array<f32>;
@group(0) @binding(2) var<storage, read> outputs: array<f32>;
@group(0) @binding(3) var<storage, read> gradients_in: array<f32>;

override GROUP: u32 = 64u;

// delta (B, H, T) = Σ out · dOut, a thread a row.
@compute @workgroup_size(GROUP)
fn row_products(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = (group.x + group.y * groups.x) * GROUP + thread;
  if (row >= e.rows) {
    return;
  }
  var sum = 0.0;
  for (var j = row * e.width; j < (row + 1u) * e.width; j++) {
    sum += outputs[e.out_at + j] * gradients_in[e.dout_at + j];
  }
  let t = row / e.heads % e.queries;
  let n = row / e.heads / e.queries;
  delta_out[e.delta_at + (n * e.heads + row % e.heads) * e.queries + t] = sum;
}
