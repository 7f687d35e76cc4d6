// Weights of 16 or fewer bits an element, four words at a time, where a processor plays the graphics card: these cost it as
// much as two single words. Needs elements.wgsl and weight_any.wgsl; joined in front of matvec_words.wgsl or
// matvec_rows.wgsl.

@group(0) @binding(2) var<storage, read> weight_fours: array<vec4<u32>>;

// Four 16-bit elements out of two words.
fn four_halves(low: u32, high: u32) -> vec4<f32> {
  if (DTYPE == F16) {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
  }
  let words = vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u);
  return bitcast<vec4<f32>>(words);
}

// Four words from word `first` (0 to 3) on of the eight words of `low` and `high`.
fn words_from(low: vec4<u32>, high: vec4<u32>, first: u32) -> vec4<u32> {
  let is_far = (first & 2u) != 0u;
  let four = select(low, vec4<u32>(low.zw, high.xy), is_far);
  let next = select(high.x, high.z, is_far);
  return select(four, vec4<u32>(four.yzw, next), (first & 1u) != 0u);
}
