// Rows of heads, four elements at a time, where heads are multiples of four and start at multiples of 16 bytes. Joined in
// front of the attention kernels in place of attention_any.wgsl.

@group(0) @binding(3) var<storage, read> query_fours: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> key_fours: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> value_fours: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> gradient_fours: array<vec4<f32>>;

// Elements `at` to `at` + 3 of a binding, of whose head `remaining` are left.
fn query_four(at: u32, remaining: u32) -> vec4<f32> {
  return query_fours[at / 4u];
}

fn key_four(at: u32, remaining: u32) -> vec4<f32> {
  return key_fours[at / 4u];
}

fn value_four(at: u32, remaining: u32) -> vec4<f32> {
  return value_fours[at / 4u];
}

// Of the gradient of the output.
fn gradient_four(at: u32, remaining: u32) -> vec4<f32> {
  return gradient_fours[at / 4u];
}
