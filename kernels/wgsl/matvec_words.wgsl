// The product of matvec.wgsl for one row and weights of 16 or fewer bits an element, where a processor plays the graphics
// card. A thread owns four rows of the weight. Needs matvec.wgsl and weight_fours.wgsl before it.

// The four words that each row of the weight has read last, and where they are: most blocks start where one has ended.
var<private> held: array<vec4<u32>, 4>;
var<private> held_at: array<u32, 4>;

const NOWHERE = 0xffffffffu;

// Elements of the left operand that meet one block of the weight.
var<private> block: array<vec4<f32>, 8>;

// Eight elements of a row times those of the left operand.
fn dot_eight(four: vec4<u32>, low: vec4<f32>, high: vec4<f32>) -> f32 {
  return dot(four_halves(four.x, four.y), low) + dot(four_halves(four.z, four.w), high);
}

// The words after a scale, which is the low or the high half of the word before them.
fn after_scale(words: vec4<u32>, next: u32, is_low: bool) -> vec4<u32> {
  let shifted = vec4<u32>(words.yzw, next);
  return select(shifted, (words >> vec4<u32>(16u)) | (shifted << vec4<u32>(16u)), is_low);
}

// Nibbles of the four bytes of a word, as signed numbers: the low ones, or what is in place of the high ones.
fn signed_nibbles(word: u32, shift: u32) -> vec4<f32> {
  let nibbles = vec4<u32>(word << 24u, word << 16u, word << 8u, word) << vec4<u32>(shift);
  return vec4<f32>(bitcast<vec4<i32>>(nibbles) >> vec4<u32>(28u));
}

// The numbers of a block of 8 bits in two fours of words.
fn dot_bytes(low: vec4<u32>, high: vec4<u32>) -> f32 {
  return dot(signed_bytes(low.x), block[0]) + dot(signed_bytes(low.y), block[1]) +
    dot(signed_bytes(low.z), block[2]) + dot(signed_bytes(low.w), block[3]) +
    dot(signed_bytes(high.x), block[4]) + dot(signed_bytes(high.y), block[5]) +
    dot(signed_bytes(high.z), block[6]) + dot(signed_bytes(high.w), block[7]);
}

// The numbers of a block of 4 bits: less 8 is a flipped sign bit.
fn dot_nibbles(words: vec4<u32>) -> f32 {
  let four = words ^ vec4<u32>(0x88888888u);
  return dot(signed_nibbles(four.x, 4u), block[0]) + dot(signed_nibbles(four.x, 0u), block[4]) +
    dot(signed_nibbles(four.y, 4u), block[1]) + dot(signed_nibbles(four.y, 0u), block[5]) +
    dot(signed_nibbles(four.z, 4u), block[2]) + dot(signed_nibbles(four.z, 0u), block[6]) +
    dot(signed_nibbles(four.w, 4u), block[3]) + dot(signed_nibbles(four.w, 0u), block[7]);
}

// The words of `row` at `at`.
fn held_four(row: u32, at: u32) -> vec4<u32> {
  var four = held[row];
  if (held_at[row] != at) {
    four = weight_fours[at];
  }
  return four;
}

// The block of `row` that starts at half `start`, times the left operand's.
fn dot_block(row: u32, start: u32) -> f32 {
  let at = start / 8u;
  let first = start / 2u % 4u;
  let is_low = start % 2u == 0u;
  let near = held_four(row, at);
  let far = weight_fours[at + 1u];
  let words = words_from(near, far, first);
  let scale = unpack2x16float(select(words.x >> 16u, words.x, is_low)).x;
  if (DTYPE == Q8_0) {
    let last = weight_fours[at + 2u];
    held[row] = last;
    held_at[row] = at + 2u;
    let more = words_from(far, last, first);
    let end = words_from(last, last, first).x;
    return scale * dot_bytes(after_scale(words, more.x, is_low), after_scale(more, end, is_low));
  }
  held[row] = far;
  held_at[row] = at + 1u;
  return scale * dot_nibbles(after_scale(words, words_from(far, far, first).x, is_low));
}

fn fetch_block(k: u32) {
  block[0] = left_four(p.left_at, 0u, k, 4u);
  block[1] = left_four(p.left_at, 4u, k, 4u);
  block[2] = left_four(p.left_at, 8u, k, 4u);
  block[3] = left_four(p.left_at, 12u, k, 4u);
  block[4] = left_four(p.left_at, 16u, k, 4u);
  block[5] = left_four(p.left_at, 20u, k, 4u);
  block[6] = left_four(p.left_at, 24u, k, 4u);
  block[7] = left_four(p.left_at, 28u, k, 4u);
}

// 16-bit weights: rows are multiples of eight elements and start at multiples of 16 bytes.
@compute @workgroup_size(GROUP)
fn product_halves(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_output(group, groups, thread);
  let starts = (2u * p.weight_at + weight_rows(n) * p.k) / 8u;
  for (var k = 0u; k < p.k; k += 8u) {
    let low = left_four(p.left_at, 0u, k, 4u);
    let high = left_four(p.left_at, 4u, k, 4u);
    sums[0] += vec4<f32>(
      dot_eight(weight_fours[starts.x + k / 8u], low, high),
      dot_eight(weight_fours[starts.y + k / 8u], low, high),
      dot_eight(weight_fours[starts.z + k / 8u], low, high),
      dot_eight(weight_fours[starts.w + k / 8u], low, high),
    );
  }
  finish(n, thread);
}

// Quantized weights, whose blocks start at any half.
@compute @workgroup_size(GROUP)
fn product_blocks(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  p = parameters;
  let n = first_output(group, groups, thread);
  let halves = select(Q4_0_HALVES, Q8_0_HALVES, DTYPE == Q8_0);
  let blocks = p.k / BLOCK;
  let starts = 2u * p.weight_at + weight_rows(n) * blocks * halves;
  held_at = array<u32, 4>(NOWHERE, NOWHERE, NOWHERE, NOWHERE);
  for (var b = 0u; b < blocks; b++) {
    fetch_block(b * BLOCK);
    sums[0] += vec4<f32>(
      dot_block(0u, starts.x + b * halves),
      dot_block(1u, starts.y + b * halves),
      dot_block(2u, starts.z + b * halves),
      dot_block(3u, starts.w + b * halves),
    );
  }
  finish(n, thread);
}
