// AdamW in one pass over parameter, gradient and both moments. Formulas: lib/core/ops.ts.

override GROUP: u32 = 256u;
override PER_THREAD: u32 = 4u;

struct Update {
  param_at: u32,
  grad_at: u32,
  m_at: u32,
  v_at: u32,
  clip_at: u32,
  schedule_at: u32,
  count: u32,
  beta1: f32,
  rest1: f32, // 1 - beta1
  log_beta1: f32,
  beta2: f32,
  rest2: f32,
  log_beta2: f32,
  epsilon: f32,
  weight_decay: f32,
}

@group(0) @binding(0) var<uniform> u: Update;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read> clip: array<f32>;
@group(0) @binding(6) var<storage, read> schedule: array<f32>;

// 1 - e^x for x <= 0, to the last bits also where e^x is near 1.
fn one_less_exp(x: f32) -> f32 {
  if (x < -0.5) {
    return 1.0 - exp(x);
  }
  let inner = 1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)));
  return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * inner)));
}

@compute @workgroup_size(GROUP)
fn update(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let factor = clip[u.clip_at];
  if (factor == 0.0) {
    return;
  }
  let lr = schedule[u.schedule_at];
  let step = schedule[u.schedule_at + 1u];
  let keep = 1.0 - lr * u.weight_decay;
  let rate = lr / one_less_exp(step * u.log_beta1);
  let correction = 1.0 / one_less_exp(step * u.log_beta2);
  let first = (group.x + group.y * groups.x) * GROUP * PER_THREAD + thread;
  for (var k = 0u; k < PER_THREAD; k++) {
    let j = first + k * GROUP;
    if (j >= u.count) {
      return;
    }
    let g = grad[u.grad_at + j] * factor;
    let mean = m[u.m_at + j] * u.beta1 + g * u.rest1;
    let variance = v[u.v_at + j] * u.beta2 + g * g * u.rest2;
    m[u.m_at + j] = mean;
    v[u.v_at + j] = variance;
    let change = rate * mean / (sqrt(variance * correction) + u.epsilon);
    param[u.param_at + j] = param[u.param_at + j] * keep - change;
  }
}
