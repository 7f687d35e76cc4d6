// The left operand of a product, four elements at a time, where rows are multiples of four and start at multiples of 16
// bytes. Joined in front of linear.wgsl or matvec.wgsl in place of rows_any.wgsl.

@group(0) @binding(3) var<storage, read> left_fours: array<vec4<f32>>;

// Elements `index` to `index` + 3 from word `at` on; 0 when `remaining` elements of the row are none.
fn left_four(at: u32, index: u32, remaining: u32) -> vec4<f32> {
  return select(vec4<f32>(), left_fours[(at + index) / 4u], remaining > 0u);
}
