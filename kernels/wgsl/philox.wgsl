// Counter-based random numbers, the function of lib/core/rng.ts: Philox4x32-10 of Salmon et al. 2011, "Parallel Random
// Numbers: As Easy as 1, 2, 3".

// High 32 bits of the product.
fn multiply_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let crossed = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (crossed >> 16u);
}

fn philox(start: vec4<u32>, first_key: vec2<u32>) -> vec4<u32> {
  var counter = start;
  var key = first_key;
  for (var round = 0u; round < 10u; round++) {
    counter = vec4<u32>(
      multiply_high(0xcd9e8d57u, counter.z) ^ counter.y ^ key.x,
      0xcd9e8d57u * counter.z,
      multiply_high(0xd2511f53u, counter.x) ^ counter.w ^ key.y,
      0xd2511f53u * counter.x,
    );
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return counter;
}

// A word as a number in [0, 1) with 24 bits.
fn unit_float(word: u32) -> f32 {
  return f32(word >> 8u) / 16777216.0;
}
