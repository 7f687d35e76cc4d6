// Storing four elements of a product at a time, with its addend, where rows of the output are multiples of four and start
// at multiples of 16 bytes. Joined in front of linear.wgsl in place of out_any.wgsl.

const NO_ADDEND = 0u;
const ADDEND = 1u;
const OUT_ITSELF = 2u;

@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> addend: array<vec4<f32>>;

// Stores elements `index` to `index` + 3, of whose row `remaining` are left.
fn store_four(index: u32, remaining: u32, values: vec4<f32>, addend_kind: u32) {
  if (remaining == 0u) {
    return;
  }
  var sum = values;
  if (addend_kind == ADDEND) {
    sum += addend[(p.addend_at + index) / 4u];
  } else if (addend_kind == OUT_ITSELF) {
    sum += out[(p.out_at + index) / 4u];
  }
  out[(p.out_at + index) / 4u] = sum;
}
