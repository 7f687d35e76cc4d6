// Reading weights of any element type as f32; the block layouts are those of lib/core/dtype.ts. Joined in front of the
// kernels that use it. `weight_words` takes binding 2, so a kernel's tensors are its output, then its weight, then the rest.
//
// A type is one of the numbers below, best given as an override constant: the branches then vanish. `at` is the word at
// which the tensor starts, an index counts elements from there, a half counts 16-bit words from the binding's start.

const F32 = 0u;
const BF16 = 1u;
const F16 = 2u;
const Q8_0 = 3u;
const Q4_0 = 4u;

const BLOCK = 32u; // elements that share a scale
const Q8_0_HALVES = 17u; // 16-bit words of a block: the scale, then 32 bytes
const Q4_0_HALVES = 9u; // the scale, then 16 bytes

@group(0) @binding(2) var<storage, read> weight_words: array<u32>;

// The 16-bit word `half`.
fn weight_half(half: u32) -> u32 {
  return (weight_words[half / 2u] >> (16u * (half % 2u))) & 0xffffu;
}

// The 16-bit words `half` and `half` + 1, the first one low.
fn weight_pair(half: u32) -> u32 {
  let low = weight_words[half / 2u];
  if (half % 2u == 0u) {
    return low;
  }
  return (low >> 16u) | (weight_words[half / 2u + 1u] << 16u);
}

// Where block `block` of a quantized tensor starts, in halves. Its scale is there, its numbers follow.
fn block_start(dtype: u32, at: u32, block: u32) -> u32 {
  return 2u * at + block * select(Q4_0_HALVES, Q8_0_HALVES, dtype == Q8_0);
}

fn block_scale(start: u32) -> f32 {
  return unpack2x16float(weight_half(start)).x;
}

// The four bytes of a word as signed numbers.
fn signed_bytes(word: u32) -> vec4<f32> {
  let bytes = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
  return vec4<f32>(bitcast<vec4<i32>>(bytes) >> vec4<u32>(24u));
}

// The low (shift 0) or high (shift 4) nibbles of the four bytes of a word, less 8.
fn centered_nibbles(word: u32, shift: u32) -> vec4<f32> {
  let nibbles = (vec4<u32>(word) >> (vec4<u32>(0u, 8u, 16u, 24u) + shift)) & vec4<u32>(15u);
  return vec4<f32>(nibbles) - 8.0;
}

// Elements `index` to `index` + 3 of block `start`, without its scale; `index` is a multiple of 4 below 32.
fn block_four(dtype: u32, start: u32, index: u32) -> vec4<f32> {
  if (dtype == Q8_0) {
    return signed_bytes(weight_pair(start + 1u + index / 2u));
  }
  return centered_nibbles(weight_pair(start + 1u + index % 16u / 2u), index / 16u * 4u);
}

// Elements `index` to `index` + 3; `index` is a multiple of 4.
fn weight_four(dtype: u32, at: u32, index: u32) -> vec4<f32> {
  switch (dtype) {
    case F32: {
      let first = at + index;
      return bitcast<vec4<f32>>(
        vec4<u32>(
          weight_words[first],
          weight_words[first + 1u],
          weight_words[first + 2u],
          weight_words[first + 3u],
        ),
      );
    }
    case BF16: {
      let low = weight_words[at + index / 2u];
      let high = weight_words[at + index / 2u + 1u];
      let words = vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u);
      return bitcast<vec4<f32>>(words);
    }
    case F16: {
      let first = at + index / 2u;
      let low = unpack2x16float(weight_words[first]);
      return vec4<f32>(low, unpack2x16float(weight_words[first + 1u]));
    }
    default: {
      let start = block_start(dtype, at, index / BLOCK);
      return block_scale(start) * block_four(dtype, start, index % BLOCK);
    }
  }
}

// Element `index`.
fn weight_element(dtype: u32, at: u32, index: u32) -> f32 {
  switch (dtype) {
    case F32: {
      return bitcast<f32>(weight_words[at + index]);
    }
    case BF16: {
      return bitcast<f32>(weight_half(2u * at + index) << 16u);
    }
    case F16: {
      return unpack2x16float(weight_half(2u * at + index)).x;
    }
    default: {
      let start = block_start(dtype, at, index / BLOCK);
      return block_scale(start) * block_four(dtype, start, (index % BLOCK) & ~3u)[index % 4u];
    }
  }
}
