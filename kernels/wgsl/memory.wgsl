// Setting all words of a tensor.

override GROUP: u32 = 256u;
override PER_THREAD: u32 = 4u;

struct Fill {
  words_at: u32,
  count: u32,
  value: u32,
}

@group(0) @binding(0) var<uniform> f: Fill;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(GROUP)
fn fill(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first = (group.x + group.y * groups.x) * GROUP * PER_THREAD + thread;
  for (var k = 0u; k < PER_THREAD; k++) {
    if (first + k * GROUP < f.count) {
      words[f.words_at + first + k * GROUP] = f.value;
    }
  }
}
