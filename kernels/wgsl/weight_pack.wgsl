// Lays a weight of 16 or fewer bits an element out as matvec_packed.wgsl reads it: texels of four words, in the order in
// which a processor's lanes load them. Texel (x, y) belongs to row 8 y + x % 8 of the weight and is its (x / 8)th.
// Quantized rows are groups of four blocks: a texel of their scales in f32, then their numbers. Needs elements.wgsl.

override DTYPE: u32 = BF16;
override GROUP: u32 = 64u;

struct Pack {
  packed_at: u32, // unused: a texture starts at its start
  weight_at: u32,
  n: u32, // rows of the weight, multiples of BLOCK wide
  k: u32,
  width: u32, // of the texture
}

@group(0) @binding(0) var<uniform> p: Pack;
@group(0) @binding(1) var packed: texture_storage_2d<rgba32uint, write>;

fn scale_bits(row: u32, block: u32) -> u32 {
  let blocks = p.k / BLOCK;
  if (block >= blocks) {
    return 0u;
  }
  return bitcast<u32>(block_scale(block_start(DTYPE, p.weight_at, row * blocks + block)));
}

// Texel `index` of a row.
fn texel_of(row: u32, index: u32) -> vec4<u32> {
  if (DTYPE == BF16 || DTYPE == F16) {
    let at = p.weight_at + (row * p.k + 8u * index) / 2u;
    return vec4<u32>(
      weight_words[at],
      weight_words[at + 1u],
      weight_words[at + 2u],
      weight_words[at + 3u],
    );
  }
  let per_block = select(1u, 2u, DTYPE == Q8_0);
  let block = index / (1u + 4u * per_block) * 4u;
  let within = index % (1u + 4u * per_block);
  if (within == 0u) {
    return vec4<u32>(
      scale_bits(row, block),
      scale_bits(row, block + 1u),
      scale_bits(row, block + 2u),
      scale_bits(row, block + 3u),
    );
  }
  let blocks = p.k / BLOCK;
  let number = block + (within - 1u) / per_block;
  if (number >= blocks) {
    return vec4<u32>();
  }
  let at = block_start(DTYPE, p.weight_at, row * blocks + number) + 1u +
    (within - 1u) % per_block * 8u;
  let words = vec4<u32>(
    weight_pair(at),
    weight_pair(at + 2u),
    weight_pair(at + 4u),
    weight_pair(at + 6u),
  );
  // Bytes plus 128: without a sign they can be converted where they lie.
  return select(words, words ^ vec4<u32>(0x80808080u), DTYPE == Q8_0);
}

@compute @workgroup_size(GROUP)
fn pack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (group.x + group.y * groups.x) * GROUP + thread;
  let at = vec2<u32>(index % p.width, index / p.width);
  let row = 8u * at.y + at.x % 8u;
  if (row < p.n) {
    textureStore(packed, at, texel_of(row, at.x / 8u));
  }
}
