// The left operand of a product, four elements at a time, where rows are multiples of four and start at multiples of 16
// bytes. Joined in front of linear.wgsl or matvec.wgsl in place of rows_any.wgsl.

@group(0) @binding(3) var<storage, read> left_fours: array<vec4<f32>>;

// Four elements from `first` + `further` on, both multiples of four, counted from word `at`; 0 when `remaining` elements of
// the row are none.
fn left_four(at: u32, first: u32, further: u32, remaining: u32) -> vec4<f32> {
  return select(vec4<f32>(), left_fours[(at + first) / 4u + further / 4u], remaining > 0u);
}
