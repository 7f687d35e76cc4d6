// The right operand of a product as f32, for kernels that read it as texels. Rows are multiples of four elements. Needs
// elements.wgsl and weight_any.wgsl before it.

override GROUP: u32 = 64u;

const FOURS_PER_THREAD = 8u; // a block of quantized weights

struct Unpack {
  out_at: u32,
  weight_at: u32,
  fours: u32, // in the weight
}

@group(0) @binding(0) var<uniform> u: Unpack;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(GROUP)
fn unpack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first = ((group.x + group.y * groups.x) * GROUP + thread) * FOURS_PER_THREAD;
  let end = min(first + FOURS_PER_THREAD, u.fours);
  for (var i = first; i < end; i++) {
    out[u.out_at / 4u + i] = right_four(u.weight_at, 0u, 4u * i, 4u);
  }
}
