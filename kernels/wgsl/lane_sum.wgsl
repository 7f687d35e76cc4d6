// Sum over the LANES threads that share rows of a weight, by a tree in workgroup memory: the plain path, for adapters
// without subgroup operations. Joined in front of matvec.wgsl. LANES must be a power of two.

override LANES: u32 = 32u;
override LANE_SUMS: u32 = 64u; // threads of a workgroup, or 1 where there is nothing to add up

var<workgroup> lane_sums: array<vec4<f32>, LANE_SUMS>;

// The sum of the values of the thread's LANES lanes, given to each. Every thread of the workgroup must call it.
fn lane_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
  if (LANES == 1u) {
    return value;
  }
  lane_sums[thread] = value;
  workgroupBarrier();
  for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
    if (thread % LANES < distance) {
      lane_sums[thread] += lane_sums[thread + distance];
    }
    workgroupBarrier();
  }
  let sum = lane_sums[thread - thread % LANES];
  workgroupBarrier();
  return sum;
}
