// Conversion between element types, and llama.cpp's q8_0 and q4_0 blocks, byte for byte as its reference code has them.
// All rounding is done on integers or guarded: shaders may divide inexactly, flush subnormal numbers and fuse products
// with sums. Needs elements.wgsl before it.

override GROUP: u32 = 256u;

struct Convert {
  dst_at: u32,
  src_at: u32,
  count: u32, // elements
  dst_type: u32,
  src_type: u32,
}

@group(0) @binding(0) var<uniform> c: Convert;
@group(0) @binding(1) var<storage, read_write> dst: array<u32>;

// 2^-24: the unit of subnormal f16 numbers.
const F16_UNIT = 5.9604644775390625e-8;
const INFINITY = 0x7f800000u;

// The bits of element `index` as an f32.
fn source_bits(index: u32) -> u32 {
  switch (c.src_type) {
    case F32: {
      return weight_words[c.src_at + index];
    }
    case BF16: {
      return weight_half(2u * c.src_at + index) << 16u;
    }
    case F16: {
      return widened(weight_half(2u * c.src_at + index));
    }
    default: {
      return bitcast<u32>(weight_element(c.src_type, c.src_at, index));
    }
  }
}

// An f16 as an f32.
fn widened(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let magnitude = half & 0x7fffu;
  if (magnitude < 0x400u) {
    return sign | bitcast<u32>(f32(magnitude) * F16_UNIT);
  }
  let exponents = select(112u, 224u, magnitude >= 0x7c00u) << 23u;
  return sign | ((magnitude << 13u) + exponents);
}

// `bits` without its last `shift` bits, rounded to nearest even.
fn rounded(bits: u32, shift: u32) -> u32 {
  let odd = (bits >> shift) & 1u;
  return (bits + (1u << (shift - 1u)) - 1u + odd) >> shift;
}

fn to_bf16(bits: u32) -> u32 {
  return select(rounded(bits, 16u), 0x7fc0u, (bits & 0x7fffffffu) > INFINITY);
}

fn to_f16(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > INFINITY) {
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x477ff000u) { // 65520, half a unit above the largest
    return sign | 0x7c00u;
  }
  if (magnitude >= 0x38800000u) { // 2^-14, the least normal
    return sign | (rounded(magnitude, 13u) - (112u << 10u));
  }
  if (magnitude <= 0x33000000u) { // 2^-25, half the least number
    return sign;
  }
  return sign | rounded((magnitude & 0x7fffffu) | 0x800000u, 126u - (magnitude >> 23u));
}

fn to_half(bits: u32) -> u32 {
  if (c.dst_type == BF16) {
    return to_bf16(bits);
  }
  return to_f16(bits);
}

// A thread a word: an f32, or two halves of which the second may belong to what lies behind the tensor.
@compute @workgroup_size(GROUP)
fn convert(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let word = (group.x + group.y * groups.x) * GROUP + thread;
  if (c.dst_type == F32) {
    if (word < c.count) {
      dst[c.dst_at + word] = source_bits(word);
    }
    return;
  }
  let first = 2u * word;
  if (first >= c.count) {
    return;
  }
  let low = to_half(source_bits(first));
  var high = dst[c.dst_at + word] >> 16u;
  if (first + 1u < c.count) {
    high = to_half(source_bits(first + 1u));
  }
  dst[c.dst_at + word] = low | (high << 16u);
}

// a / b of positive normal numbers, rounded to nearest even, by long division; 0 where that is subnormal.
fn quotient(a: f32, b: f32) -> f32 {
  let divisor = (bitcast<u32>(b) & 0x7fffffu) | 0x800000u;
  var rest = (bitcast<u32>(a) & 0x7fffffu) | 0x800000u;
  var exponent = i32(bitcast<u32>(a) >> 23u) - i32(bitcast<u32>(b) >> 23u) + 127;
  if (rest < divisor) {
    rest <<= 1u;
    exponent--;
  }
  var bits = 0u; // 24, and one to round by
  for (var k = 0u; k < 25u; k++) {
    bits <<= 1u;
    if (rest >= divisor) {
      rest -= divisor;
      bits |= 1u;
    }
    rest <<= 1u;
  }
  if (exponent <= 0) {
    return 0.0;
  }
  let goes_up = (bits & 1u) != 0u && (rest != 0u || (bits & 2u) != 0u);
  return bitcast<f32>((u32(exponent) << 23u) + ((bits >> 1u) - 0x800000u) + u32(goes_up));
}

var<private> values: array<f32, BLOCK>;
// Two blocks, as 16-bit words.
var<private> halves: array<u32, 34>;

fn load_block(block: u32) {
  for (var j = 0u; j < BLOCK; j++) {
    values[j] = bitcast<f32>(source_bits(block * BLOCK + j));
  }
}

// The nearest integer, halves away from zero, as a byte. The bounds keep the product apart from what follows.
fn byte_of(x: f32, inverse: f32) -> u32 {
  let scaled = clamp(x * inverse, -127.0, 127.0);
  let whole = trunc(scaled);
  let rest = scaled - whole;
  return u32(i32(whole) + i32(rest >= 0.5) - i32(rest <= -0.5)) & 0xffu;
}

// q = x / d with d = max |x| / 127.
fn encode_q8_0(first: u32) {
  var peak = 0.0;
  for (var j = 0u; j < BLOCK; j++) {
    peak = max(peak, abs(values[j]));
  }
  let d = select(0.0, quotient(peak, 127.0), peak > 0.0);
  let inverse = select(0.0, quotient(1.0, d), d > 0.0);
  halves[first] = to_f16(bitcast<u32>(d));
  for (var j = 0u; j < BLOCK; j += 2u) {
    let pair = byte_of(values[j], inverse) | (byte_of(values[j + 1u], inverse) << 8u);
    halves[first + 1u + j / 2u] = pair;
  }
}

fn nibble_of(x: f32, inverse: f32) -> u32 {
  return u32(clamp(x * inverse, -8.0, 7.0) + 8.5);
}

// q = x / d + 8 with d = (the first x of greatest magnitude) / -8.
fn encode_q4_0(first: u32) {
  const HALF = BLOCK / 2u;
  var extreme = 0.0;
  for (var j = 0u; j < BLOCK; j++) {
    if (abs(values[j]) > abs(extreme)) {
      extreme = values[j];
    }
  }
  let d = extreme * -0.125;
  let size = select(0.0, quotient(1.0, abs(d)), d != 0.0);
  let inverse = select(size, -size, d < 0.0);
  halves[first] = to_f16(bitcast<u32>(d));
  for (var j = 0u; j < HALF; j += 2u) {
    let low = nibble_of(values[j], inverse) | (nibble_of(values[j + HALF], inverse) << 4u);
    let high = nibble_of(values[j + 1u], inverse) | (nibble_of(values[j + 1u + HALF], inverse) << 4u);
    halves[first + 1u + j / 2u] = low | (high << 8u);
  }
}

// A thread two blocks, which are whole words together; the last block may be alone and end within a word.
@compute @workgroup_size(GROUP)
fn quantize(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let pair = (group.x + group.y * groups.x) * GROUP + thread;
  let end = min(c.count / BLOCK, 2u * pair + 2u);
  let length = select(Q4_0_HALVES, Q8_0_HALVES, c.dst_type == Q8_0);
  var filled = 0u;
  for (var block = 2u * pair; block < end; block++) {
    load_block(block);
    if (c.dst_type == Q8_0) {
      encode_q8_0(filled);
    } else {
      encode_q4_0(filled);
    }
    filled += length;
  }
  let at = c.dst_at + pair * length;
  for (var k = 0u; 2u * k + 1u < filled; k++) {
    dst[at + k] = halves[2u * k] | (halves[2u * k + 1u] << 16u);
  }
  if (filled % 2u == 1u) {
    dst[at + filled / 2u] = (dst[at + filled / 2u] & 0xffff0000u) | halves[filled - 1u];
  }
}
