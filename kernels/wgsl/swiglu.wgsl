// The gated activation of the MLP, a thread an element. Formulas: lib/core/ops.ts.

override GROUP: u32 = 256u;

// No infinity on the way, which a compiler may assume away.
fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(min(-x, 88.0)));
}

struct Forward {
  out_at: u32,
  gate_up_at: u32,
  count: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> f: Forward;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> gate_up: array<f32>;

@compute @workgroup_size(GROUP)
fn forward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= f.count) {
    return;
  }
  let at = f.gate_up_at + index + index / f.width * f.width;
  let gate = gate_up[at];
  out[f.out_at + index] = gate * sigmoid(gate) * gate_up[at + f.width];
}

// The gradients of gate and up.
fn gradient(dout: f32, gate: f32, up: f32) -> vec2<f32> {
  let s = sigmoid(gate);
  let silu = gate * s;
  return vec2<f32>(dout * up * (s + silu * (1.0 - s)), dout * silu);
}

struct Backward {
  dgate_up_at: u32,
  dout_at: u32,
  gate_up_at: u32,
  count: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> b: Backward;
@group(0) @binding(1) var<storage, read_write> dgate_up: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read> gate_up_in: array<f32>;

@compute @workgroup_size(GROUP)
fn backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= b.count) {
    return;
  }
  let at = index + index / b.width * b.width;
  let gate = gate_up_in[b.gate_up_at + at];
  let up = gate_up_in[b.gate_up_at + at + b.width];
  let d = gradient(dout[b.dout_at + index], gate, up);
  dgate_up[b.dgate_up_at + at] = d.x;
  dgate_up[b.dgate_up_at + at + b.width] = d.y;
}

// The same where the gradient replaces gate and up: one buffer takes one binding.
@compute @workgroup_size(GROUP)
fn backward_in_place(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  if (index >= b.count) {
    return;
  }
  let at = b.dgate_up_at + index + index / b.width * b.width;
  let d = gradient(dout[b.dout_at + index], dgate_up[at], dgate_up[at + b.width]);
  dgate_up[at] = d.x;
  dgate_up[at + b.width] = d.y;
}
