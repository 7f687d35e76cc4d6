// The product of matvec.wgsl for a few rows and weights of 16 or fewer bits an element, where a processor plays the graphics
// card. A thread owns eight rows of the weight, and unpacks them once for all rows of the left operand. Needs matvec.wgsl
// and weight_fours.wgsl before it.

// The sums of the second four of a thread's rows of the weight; `sums` has those of the first.
var<private> far_sums: array<vec4<f32>, MAX_ROWS>;

// Eight rows' words to be unpacked, and the scales of their blocks.
var<private> words: array<vec4<u32>, 8>;
var<private> scales: array<f32, 8>;

// What of the same words follows: the rest of the first of two blocks, and the second block.
var<private> rest: array<vec4<u32>, 8>;
var<private> second: array<vec4<u32>, 8>;
var<private> second_rest: array<vec4<u32>, 8>;
var<private> second_scales: array<f32, 8>;

// The low nibbles of the four bytes of a word, less 8, times `scale`. They are converted where they lie.
fn scaled_nibbles(word: u32, scale: f32) -> vec4<f32> {
  let places = vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u);
  let lying = vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) & places));
  return fma(lying, scale * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24), vec4<f32>(-8.0 * scale));
}

// The first four of the eight elements of `row` that its next words hold.
fn low_four(row: u32) -> vec4<f32> {
  let four = words[row];
  if (DTYPE == Q4_0) {
    return scaled_nibbles(four.x, scales[row]);
  }
  if (DTYPE == Q8_0) {
    return scales[row] * signed_bytes(four.x);
  }
  return four_halves(four.x, four.y);
}

fn high_four(row: u32) -> vec4<f32> {
  let four = words[row];
  if (DTYPE == Q4_0) {
    return scaled_nibbles(four.x >> 4u, scales[row]);
  }
  if (DTYPE == Q8_0) {
    return scales[row] * signed_bytes(four.y);
  }
  return four_halves(four.z, four.w);
}

// Adds what the next eight elements of all rows give: four from depth `low` on, and four from `high` on.
fn add_eight(low: u32, high: u32) {
  let near_low = mat4x4<f32>(low_four(0u), low_four(1u), low_four(2u), low_four(3u));
  let near_high = mat4x4<f32>(high_four(0u), high_four(1u), high_four(2u), high_four(3u));
  let far_low = mat4x4<f32>(low_four(4u), low_four(5u), low_four(6u), low_four(7u));
  let far_high = mat4x4<f32>(high_four(4u), high_four(5u), high_four(6u), high_four(7u));
  for (var m = 0u; m < ROWS; m++) {
    let left_low = left_four(p.left_at, m * p.k, low, 4u);
    let left_high = left_four(p.left_at, m * p.k, high, 4u);
    sums[m] += left_low * near_low + left_high * near_high;
    far_sums[m] += left_low * far_low + left_high * far_high;
  }
}

// The same of a block of 4 bits at depth `k`, and of half a block of 8 bits.
fn add_nibbles(k: u32) {
  for (var word = 0u; word < 4u; word++) {
    add_eight(k + 4u * word, k + 16u + 4u * word);
    words[0] = words[0].yzwx;
    words[1] = words[1].yzwx;
    words[2] = words[2].yzwx;
    words[3] = words[3].yzwx;
    words[4] = words[4].yzwx;
    words[5] = words[5].yzwx;
    words[6] = words[6].yzwx;
    words[7] = words[7].yzwx;
  }
}

fn add_bytes(k: u32) {
  for (var i = 0u; i < 16u; i += 8u) {
    add_eight(k + i, k + i + 4u);
    words[0] = words[0].zwxy;
    words[1] = words[1].zwxy;
    words[2] = words[2].zwxy;
    words[3] = words[3].zwxy;
    words[4] = words[4].zwxy;
    words[5] = words[5].zwxy;
    words[6] = words[6].zwxy;
    words[7] = words[7].zwxy;
  }
}

// The words after the low half of the first of five words.
fn after_half(four: vec4<u32>, next: u32) -> vec4<u32> {
  return (four >> vec4<u32>(16u)) | (vec4<u32>(four.yzw, next) << vec4<u32>(16u));
}

// Fetches two blocks of 4 bits of `row`, which are nine words from word `start` on.
fn fetch_nibbles(row: u32, start: u32) {
  let at = start / 4u;
  let first = start % 4u;
  let middle = weight_fours[at + 1u];
  let end = weight_fours[at + 2u];
  let low = words_from(weight_fours[at], middle, first);
  let high = words_from(middle, end, first);
  scales[row] = unpack2x16float(low.x).x;
  words[row] = after_half(low, high.x);
  second_scales[row] = unpack2x16float(high.x).y;
  second[row] = vec4<u32>(high.yzw, words_from(end, end, first).x);
}

// Fetches two blocks of 8 bits of `row`, which are 17 words from word `start` on.
fn fetch_bytes(row: u32, start: u32) {
  let at = start / 4u;
  let first = start % 4u;
  let second_four = weight_fours[at + 1u];
  let third_four = weight_fours[at + 2u];
  let fourth_four = weight_fours[at + 3u];
  let last = weight_fours[at + 4u];
  let a = words_from(weight_fours[at], second_four, first);
  let b = words_from(second_four, third_four, first);
  let c = words_from(third_four, fourth_four, first);
  let d = words_from(fourth_four, last, first);
  scales[row] = unpack2x16float(a.x).x;
  words[row] = after_half(a, b.x);
  rest[row] = after_half(b, c.x);
  second_scales[row] = unpack2x16float(c.x).y;
  second[row] = vec4<u32>(c.yzw, d.x);
  second_rest[row] = vec4<u32>(d.yzw, words_from(last, last, first).x);
}

// The thread's first row of the weight.
fn first_row(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
  return 2u * first_output(group, groups, thread);
}

fn finish_eight(n: u32, thread: u32) {
  finish(n, thread);
  sums = far_sums;
  finish(n + 4u, thread);
}

// 16-bit weights: rows are multiples of eight elements and start at multiples of 16 bytes.
@compute @workgroup_size(GROUP)
fn product_rows_halves(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_row(group, groups, thread);
  let near = (2u * p.weight_at + weight_rows(n) * p.k) / 8u;
  let far = (2u * p.weight_at + weight_rows(n + 4u) * p.k) / 8u;
  for (var k = 0u; k < p.k; k += 8u) {
    words[0] = weight_fours[near.x + k / 8u];
    words[1] = weight_fours[near.y + k / 8u];
    words[2] = weight_fours[near.z + k / 8u];
    words[3] = weight_fours[near.w + k / 8u];
    words[4] = weight_fours[far.x + k / 8u];
    words[5] = weight_fours[far.y + k / 8u];
    words[6] = weight_fours[far.z + k / 8u];
    words[7] = weight_fours[far.w + k / 8u];
    add_eight(k, k + 4u);
  }
  finish_eight(n, thread);
}

// Quantized weights whose rows are an even number of blocks: two blocks of any row start at a whole word.
@compute @workgroup_size(GROUP)
fn product_rows_blocks(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_row(group, groups, thread);
  let pair_words = select(Q4_0_HALVES, Q8_0_HALVES, DTYPE == Q8_0);
  let row_words = p.k / (2u * BLOCK) * pair_words;
  var near = p.weight_at + weight_rows(n) * row_words;
  var far = p.weight_at + weight_rows(n + 4u) * row_words;
  for (var k = 0u; k < p.k; k += 2u * BLOCK) {
    if (DTYPE == Q8_0) {
      fetch_bytes(0u, near.x);
      fetch_bytes(1u, near.y);
      fetch_bytes(2u, near.z);
      fetch_bytes(3u, near.w);
      fetch_bytes(4u, far.x);
      fetch_bytes(5u, far.y);
      fetch_bytes(6u, far.z);
      fetch_bytes(7u, far.w);
      add_bytes(k);
      words = rest;
      add_bytes(k + 16u);
      words = second;
      scales = second_scales;
      add_bytes(k + BLOCK);
      words = second_rest;
      add_bytes(k + BLOCK + 16u);
    } else {
      fetch_nibbles(0u, near.x);
      fetch_nibbles(1u, near.y);
      fetch_nibbles(2u, near.z);
      fetch_nibbles(3u, near.w);
      fetch_nibbles(4u, far.x);
      fetch_nibbles(5u, far.y);
      fetch_nibbles(6u, far.z);
      fetch_nibbles(7u, far.w);
      add_nibbles(k);
      words = second;
      scales = second_scales;
      add_nibbles(k + BLOCK);
    }
    near += pair_words;
    far += pair_words;
  }
  finish_eight(n, thread);
}
