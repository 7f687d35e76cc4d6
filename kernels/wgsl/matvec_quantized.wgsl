// The product of matvec.wgsl with quantized weights: a thread takes whole blocks, whose words it reads once and whose
// scales it applies once. Needs elements.wgsl and weight_any.wgsl, then matvec.wgsl before it.

var<private> block_sums: array<vec4<f32>, MAX_ROWS>;

fn words_at(index: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(
    weight_words[index.x],
    weight_words[index.y],
    weight_words[index.z],
    weight_words[index.w],
  );
}

fn scales_of(words: vec4<u32>, is_even: vec4<bool>) -> vec4<f32> {
  let halves = select(words >> vec4<u32>(16u), words, is_even);
  return vec4<f32>(
    unpack2x16float(halves.x).x,
    unpack2x16float(halves.y).x,
    unpack2x16float(halves.z).x,
    unpack2x16float(halves.w).x,
  );
}

fn add_block_row(m: u32, k: u32, block: mat4x4<f32>) {
  block_sums[m] += left_four(p.left_at, m * p.k, k, 4u) * block;
}

fn add_block(k: u32, block: mat4x4<f32>) {
  add_block_row(0u, k, block);
  if (ROWS > 1u) { add_block_row(1u, k, block); }
  if (ROWS > 2u) { add_block_row(2u, k, block); }
  if (ROWS > 3u) { add_block_row(3u, k, block); }
  if (ROWS > 4u) { add_block_row(4u, k, block); }
  if (ROWS > 5u) { add_block_row(5u, k, block); }
  if (ROWS > 6u) { add_block_row(6u, k, block); }
  if (ROWS > 7u) { add_block_row(7u, k, block); }
}

// What a block has given, times its scales; the next one begins at 0.
fn close_row(m: u32, scales: vec4<f32>) {
  sums[m] += block_sums[m] * scales;
  block_sums[m] = vec4<f32>();
}

fn close_block(scales: vec4<f32>) {
  close_row(0u, scales);
  if (ROWS > 1u) { close_row(1u, scales); }
  if (ROWS > 2u) { close_row(2u, scales); }
  if (ROWS > 3u) { close_row(3u, scales); }
  if (ROWS > 4u) { close_row(4u, scales); }
  if (ROWS > 5u) { close_row(5u, scales); }
  if (ROWS > 6u) { close_row(6u, scales); }
  if (ROWS > 7u) { close_row(7u, scales); }
}

@compute @workgroup_size(GROUP)
fn product_quantized(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_output(group, groups, thread);
  let blocks = p.k / BLOCK;
  let halves = select(Q4_0_HALVES, Q8_0_HALVES, DTYPE == Q8_0);
  let starts = 2u * p.weight_at + weight_rows(n) * blocks * halves;
  for (var block = thread % LANES; block < blocks; block += LANES) {
    let start = starts + block * halves;
    let is_even = start % vec4<u32>(2u) == vec4<u32>(0u);
    let index = start / 2u;
    var previous = words_at(index);
    let scales = scales_of(previous, is_even);
    for (var word = 0u; word < halves / 2u; word++) {
      let next = words_at(index + word + 1u);
      let words = select(next, (previous >> vec4<u32>(16u)) | (next << vec4<u32>(16u)), is_even);
      previous = next;
      let k = block * BLOCK + 4u * word;
      if (DTYPE == Q8_0) {
        add_block(
          k,
          mat4x4<f32>(
            signed_bytes(words.x),
            signed_bytes(words.y),
            signed_bytes(words.z),
            signed_bytes(words.w),
          ),
        );
      } else {
        for (var half = 0u; half < 2u; half++) {
          add_block(
            k + 16u * half,
            mat4x4<f32>(
              centered_nibbles(words.x, 4u * half),
              centered_nibbles(words.y, 4u * half),
              centered_nibbles(words.z, 4u * half),
              centered_nibbles(words.w, 4u * half),
            ),
          );
        }
      }
    }
    close_block(scales);
  }
  finish(n, thread);
}
