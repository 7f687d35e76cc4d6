// Sum over the LANES threads that share rows of a weight, by subgroup operations. Joined in front of matvec.wgsl in place
// of lane_sum.wgsl where every subgroup of the adapter has at least LANES threads.

override LANES: u32 = 32u;

// The sum of the values of the thread's LANES lanes, given to each.
fn lane_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
  var sum = value;
  for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
    sum += subgroupShuffleXor(sum, distance);
  }
  return sum;
}
