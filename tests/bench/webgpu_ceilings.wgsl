// What the adapter can do at most: a plain copy for memory, and multiply-adds in registers for arithmetic.

override GROUP: u32 = 256u;

struct Copy {
  out_at: u32,
  x_at: u32,
  count: u32, // of vectors
}

@group(0) @binding(0) var<uniform> c: Copy;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

@compute @workgroup_size(GROUP)
fn copy(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index < c.count) {
    out[index] = x[index];
  }
}

struct Multiply {
  out_at: u32,
  rounds: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> m: Multiply;

// Eight chains of vectors, so that a unit never waits for the result of its last instruction: 64 operations a round.
@compute @workgroup_size(GROUP)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
  let start = vec4<f32>(f32(id.x), 1.0, 2.0, 3.0);
  var a = start;
  var b = start + 1.0;
  var c = start + 2.0;
  var d = start + 3.0;
  var e = start + 4.0;
  var f = start + 5.0;
  var g = start + 6.0;
  var h = start + 7.0;
  let factor = vec4<f32>(m.factor);
  for (var round = 0u; round < m.rounds; round++) {
    a = fma(a, factor, start);
    b = fma(b, factor, start);
    c = fma(c, factor, start);
    d = fma(d, factor, start);
    e = fma(e, factor, start);
    f = fma(f, factor, start);
    g = fma(g, factor, start);
    h = fma(h, factor, start);
  }
  out[id.x] = a + b + c + d + e + f + g + h;
}
