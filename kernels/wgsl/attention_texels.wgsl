// Rows of heads out of textures, four elements at a time, where heads are multiples of four. Joined in front of the
// attention kernels in place of attention_aligned.wgsl.

override TEXELS_PER_ROW: u32 = 1024u;

@group(0) @binding(3) var query_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var key_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(5) var value_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(6) var gradient_texels: texture_storage_2d<rgba32float, read>;

fn texel_at(at: u32) -> vec2<u32> {
  return vec2<u32>(at / 4u % TEXELS_PER_ROW, at / 4u / TEXELS_PER_ROW);
}

// Elements `at` to `at` + 3 of a binding, of whose head `remaining` are left.
fn query_four(at: u32, remaining: u32) -> vec4<f32> {
  return textureLoad(query_texels, texel_at(at));
}

fn key_four(at: u32, remaining: u32) -> vec4<f32> {
  return textureLoad(key_texels, texel_at(at));
}

fn value_four(at: u32, remaining: u32) -> vec4<f32> {
  return textureLoad(value_texels, texel_at(at));
}

// Of the gradient of the output.
fn gradient_four(at: u32, remaining: u32) -> vec4<f32> {
  return textureLoad(gradient_texels, texel_at(at));
}
