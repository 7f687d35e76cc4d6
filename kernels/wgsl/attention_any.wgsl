// Rows of heads, four elements at a time, of any width and alignment. Joined in front of the attention kernels in place of
// attention_aligned.wgsl.

@group(0) @binding(3) var<storage, read> query_elements: array<f32>;
@group(0) @binding(4) var<storage, read> key_elements: array<f32>;
@group(0) @binding(5) var<storage, read> value_elements: array<f32>;
@group(0) @binding(6) var<storage, read> gradient_elements: array<f32>;

// Elements `at` to `at` + 3 of a binding; 0 beyond the `remaining` elements of the head.
fn query_four(at: u32, remaining: u32) -> vec4<f32> {
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = query_elements[at + j];
  }
  return four;
}

fn key_four(at: u32, remaining: u32) -> vec4<f32> {
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = key_elements[at + j];
  }
  return four;
}

fn value_four(at: u32, remaining: u32) -> vec4<f32> {
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = value_elements[at + j];
  }
  return four;
}

// Of the gradient of the output.
fn gradient_four(at: u32, remaining: u32) -> vec4<f32> {
  var four: vec4<f32>;
  for (var j = 0u; j < min(4u, remaining); j++) {
    four[j] = gradient_elements[at + j];
  }
  return four;
}
