// Storing four elements of a product at a time, with its addend, at any width and alignment. Joined in front of
// linear.wgsl in place of out_aligned.wgsl.

const NO_ADDEND = 0u;
const ADDEND = 1u;
const OUT_ITSELF = 2u;

@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> addend: array<f32>;

// Stores elements `index` to `index` + 3, of whose row `remaining` are left.
fn store_four(index: u32, remaining: u32, values: vec4<f32>, addend_kind: u32) {
  for (var j = 0u; j < min(4u, remaining); j++) {
    var sum = values[j];
    if (addend_kind == ADDEND) {
      sum += addend[p.addend_at + index + j];
    } else if (addend_kind == OUT_ITSELF) {
      sum += out[p.out_at + index + j];
    }
    out[p.out_at + index + j] = sum;
  }
}
