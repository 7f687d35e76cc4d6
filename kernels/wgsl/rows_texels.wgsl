// The left operand of a product out of a texture, four elements at a time, where rows are multiples of four. Joined in
// front of matvec.wgsl in place of rows_aligned.wgsl. Texel 0 is zero.

override TEXELS_PER_ROW: u32 = 1024u;

@group(0) @binding(3) var left_texels: texture_storage_2d<rgba32float, read>;

// Four elements from `first` + `further` on, both multiples of four, counted from word `at`; 0 when `remaining` elements of
// the row are none, which happens to depths alone.
fn left_four(at: u32, first: u32, further: u32, remaining: u32) -> vec4<f32> {
  let texel = (at + first) / 4u + further / 4u;
  let seen = select(0u, texel, IS_LEFT_ALONG_K || remaining > 0u);
  return textureLoad(left_texels, vec2<u32>(seen % TEXELS_PER_ROW, seen / TEXELS_PER_ROW));
}
