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

// Three chains of vectors: twelve of numbers, so that a unit never waits for the result of its last instruction, and few
// enough for the 16 registers of a processor. Four steps a round hide the loop: 96 operations.
@compute @workgroup_size(GROUP)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
  let start = f32(id.x);
  let factor = vec4<f32>(m.factor);
  let rounds = m.rounds; // a processor would load it at every use
  var a = vec4<f32>(start, start + 1.0, start + 2.0, start + 3.0);
  var b = a + 4.0;
  var c = a + 8.0;
  for (var round = 0u; round < rounds; round++) {
    a = fma(a, factor, factor);
    b = fma(b, factor, factor);
    c = fma(c, factor, factor);
    a = fma(a, factor, factor);
    b = fma(b, factor, factor);
    c = fma(c, factor, factor);
    a = fma(a, factor, factor);
    b = fma(b, factor, factor);
    c = fma(c, factor, factor);
    a = fma(a, factor, factor);
    b = fma(b, factor, factor);
    c = fma(c, factor, factor);
  }
  out[id.x] = a + b + c;
}
