// The right operand of a product out of a texture, four elements at a time: f32 whose rows are multiples of four. Joined in
// front of linear.wgsl in place of weight_aligned.wgsl, after rows_texels.wgsl. Texel 0 is zero.

@group(0) @binding(2) var right_texels: texture_storage_2d<rgba32float, read>;

// Four elements from `first` + `further` on, both multiples of four, counted from word `at`; 0 when `remaining` elements of
// the row are none, which happens to depths alone.
fn right_four(at: u32, first: u32, further: u32, remaining: u32) -> vec4<f32> {
  let texel = (at + first) / 4u + further / 4u;
  let seen = select(0u, texel, IS_RIGHT_ALONG_K || remaining > 0u);
  return textureLoad(right_texels, vec2<u32>(seen % TEXELS_PER_ROW, seen / TEXELS_PER_ROW));
}
