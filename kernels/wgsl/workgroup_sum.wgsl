// Sum over a workgroup by a tree in workgroup memory: the plain path, for adapters without subgroup operations. Joined in
// front of the kernels that use it. GROUP must be a power of two.

override GROUP: u32 = 256u;

var<workgroup> thread_sums: array<f32, GROUP>;

// The sum of all threads' values, given to each of them. Every thread of the workgroup must call it.
fn workgroup_sum(value: f32, thread: u32) -> f32 {
  thread_sums[thread] = value;
  workgroupBarrier();
  for (var distance = GROUP / 2u; distance > 0u; distance /= 2u) {
    if (thread < distance) {
      thread_sums[thread] += thread_sums[thread + distance];
    }
    workgroupBarrier();
  }
  let sum = thread_sums[0];
  workgroupBarrier();
  return sum;
}
