// The left operand of a product, four elements at a time, of any width and alignment. Joined in front of linear.wgsl or
// matvec.wgsl in place of rows_aligned.wgsl.

@group(0) @binding(3) var<storage, read> left_elements: array<f32>;

// Four elements from `first` + `further` on, counted from word `at`; 0 beyond the `remaining` elements of the row.
fn left_four(at: u32, first: u32, further: u32, remaining: u32) -> vec4<f32> {
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = left_elements[at + first + further + j];
  }
  return four;
}
