// Rows of a table by token, and the gradient of that. Needs elements.wgsl before it. Formulas: lib/core/ops.ts.

override GROUP: u32 = 256u;

struct Forward {
  out_at: u32,
  table_at: u32,
  tokens_at: u32,
  count: u32,
  width: u32,
  first_row: u32, // of the table's rows bound here; other tokens are left to other dispatches
  end_row: u32,
  dtype: u32,
}

@group(0) @binding(0) var<uniform> f: Forward;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;

@compute @workgroup_size(GROUP)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= f.count) {
    return;
  }
  let row = tokens[f.tokens_at + index / f.width];
  if (row < f.first_row || row >= f.end_row) {
    return;
  }
  let element = (row - f.first_row) * f.width + index % f.width;
  out[f.out_at + index] = weight_element(f.dtype, f.table_at, element);
}

struct Backward {
  dtable_at: u32,
  dout_at: u32,
  tokens_at: u32,
  rows: u32,
  width: u32,
  first_row: u32,
  end_row: u32,
}

const MAX_POSITIONS = 4096u; // of one dispatch

@group(0) @binding(0) var<uniform> b: Backward;
@group(0) @binding(1) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read> tokens_in: array<u32>;

var<workgroup> is_repeated: atomic<u32>;
var<workgroup> matches: array<atomic<u32>, MAX_POSITIONS / 32u>; // a bit a position

// A workgroup a position. The first position of a token owns the token's row and adds up all its positions, in ascending
// order; a thread owns columns.
@compute @workgroup_size(GROUP)
fn backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = group.x + group.y * groups.x;
  if (n >= b.rows) {
    return;
  }
  let token = tokens_in[b.tokens_at + n];
  if (token < b.first_row || token >= b.end_row) {
    return;
  }
  for (var m = thread; m < b.rows; m += GROUP) {
    if (tokens_in[b.tokens_at + m] != token) {
      continue;
    }
    if (m < n) {
      atomicStore(&is_repeated, 1u);
    } else {
      atomicOr(&matches[m / 32u], 1u << (m % 32u));
    }
  }
  workgroupBarrier();
  if (atomicLoad(&is_repeated) != 0u) {
    return;
  }
  let row = b.dtable_at + (token - b.first_row) * b.width;
  for (var word = n / 32u; word <= (b.rows - 1u) / 32u; word++) {
    for (var bits = atomicLoad(&matches[word]); bits != 0u; bits &= bits - 1u) {
      let source = b.dout_at + (32u * word + firstTrailingBit(bits)) * b.width;
      for (var j = thread; j < b.width; j += GROUP) {
        dtable[row + j] += dout[source + j];
      }
    }
  }
}
