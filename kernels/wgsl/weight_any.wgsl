// The right operand of a product, four elements at a time, of any type, width and alignment. Needs elements.wgsl before
// it; joined in front of linear.wgsl or matvec.wgsl in place of weight_aligned.wgsl.

override DTYPE: u32 = F32;
override IS_WHOLE: bool = false; // rows are multiples of four elements

// Four elements from `first` + `further` on, counted from word `at`; 0 beyond the `remaining` elements of the row.
fn right_four(at: u32, first: u32, further: u32, remaining: u32) -> vec4<f32> {
  let index = first + further;
  if (IS_WHOLE) {
    return select(vec4<f32>(), weight_four(DTYPE, at, index), remaining > 0u);
  }
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = weight_element(DTYPE, at, index + j);
  }
  return four;
}
