// The product of matvec.wgsl with a weight of 16 or fewer bits an element, where a processor plays the graphics card: its
// lanes load 16 bytes each of a texture at once, so the weight lies in one, as weight_pack.wgsl says. A lane owns every
// eighth of 128 rows of the weight, which share what it loads of the left operand. Needs matvec.wgsl before it.
//
// A loop whose count is a constant indexes arrays of that length: such drivers unroll it and keep them in registers. The
// rows of the left operand are written out, because loops around loops stay loops.

@group(0) @binding(2) var packed: texture_storage_2d<rgba32uint, read>;

const ROW_FOURS = 4u; // of a lane's rows of the weight
const LANES_TOGETHER = 8u;
const BLOCKS_TOGETHER = 4u; // their scales are a texel

override IS_QUANTIZED: bool = DTYPE == Q8_0 || DTYPE == Q4_0;
override BLOCK_TEXELS: u32 = select(select(4u, 2u, DTYPE == Q8_0), 1u, DTYPE == Q4_0);
override GROUP_TEXELS: u32 = BLOCKS_TOGETHER * BLOCK_TEXELS + select(0u, 1u, IS_QUANTIZED);
override STEPS: u32 = 4u / BLOCK_TEXELS; // of eight elements in a texel

// Of four rows each: scales of four blocks, a texel, the four elements of a step as columns, and sums.
var<private> scales: array<mat4x4<f32>, ROW_FOURS>;
var<private> words: array<array<vec4<u32>, 4>, ROW_FOURS>;
var<private> lows: array<mat4x4<f32>, ROW_FOURS>;
var<private> highs: array<mat4x4<f32>, ROW_FOURS>;
var<private> step_scales: array<vec4<f32>, ROW_FOURS>;
var<private> totals: array<array<vec4<f32>, ROW_FOURS>, MAX_ROWS>;

// The texels of four rows, of which the first lies in row `y` of the texture. Beyond the last one they are any or zero.
fn packed_four(x: u32, y: u32) -> array<vec4<u32>, 4> {
  return array<vec4<u32>, 4>(
    textureLoad(packed, vec2<u32>(x, y)),
    textureLoad(packed, vec2<u32>(x, y + 1u)),
    textureLoad(packed, vec2<u32>(x, y + 2u)),
    textureLoad(packed, vec2<u32>(x, y + 3u)),
  );
}

// Quantized numbers are converted where they lie in their word, without their offset: they come out times these powers of
// two, by which the left operand is divided instead.
fn low_places() -> vec4<f32> {
  if (DTYPE == Q4_0) {
    return vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24);
  }
  return select(vec4<f32>(1.0), vec4<f32>(1.0, 0x1p-8, 0x1p-16, 1.0), DTYPE == Q8_0);
}

fn high_places() -> vec4<f32> {
  return select(low_places(), vec4<f32>(0x1p-4, 0x1p-12, 0x1p-20, 1.0), DTYPE == Q4_0);
}

fn lying_bytes(word: u32) -> vec4<f32> {
  let four = vec4<u32>(word & 0xffu, word & 0xff00u, word & 0xff0000u, word >> 24u);
  return vec4<f32>(vec4<i32>(four));
}

// Four 16-bit elements out of two words.
fn four_halves(low: u32, high: u32) -> vec4<f32> {
  if (DTYPE == F16) {
    return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
  }
  let words = vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u);
  return bitcast<vec4<f32>>(words);
}

// The first and the last four of the eight elements of step `step` of a texel.
fn low_four(texel: vec4<u32>, step: u32) -> vec4<f32> {
  if (DTYPE == Q4_0) {
    let places = vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u);
    return vec4<f32>(vec4<i32>(vec4<u32>(texel[step]) & places));
  }
  if (DTYPE == Q8_0) {
    return lying_bytes(select(texel.x, texel.z, step == 1u));
  }
  return four_halves(texel.x, texel.y);
}

fn high_four(texel: vec4<u32>, step: u32) -> vec4<f32> {
  if (DTYPE == Q4_0) {
    let word = texel[step];
    let four = vec4<u32>(word & 0xf0u, word & 0xf000u, word & 0xf00000u, word >> 28u);
    return vec4<f32>(vec4<i32>(four));
  }
  if (DTYPE == Q8_0) {
    return lying_bytes(select(texel.y, texel.w, step == 1u));
  }
  return four_halves(texel.z, texel.w);
}

// Adds what row `m` of left gives: four elements from depth `low` on and four from `high` on.
fn add_row(m: u32, low: u32, high: u32) {
  let left_low = left_four(p.left_at, m * p.k, low, 4u);
  let left_high = left_four(p.left_at, m * p.k, high, 4u);
  let offset = select(128.0, 8.0, DTYPE == Q4_0) * dot(left_low + left_high, vec4<f32>(1.0));
  let near = left_low * low_places();
  let far = left_high * high_places();
  for (var f = 0u; f < ROW_FOURS; f++) {
    let product = near * lows[f] + far * highs[f];
    if (IS_QUANTIZED) {
      totals[m][f] += step_scales[f] * (product - offset);
    } else {
      totals[m][f] += product;
    }
  }
}

// Adds what step `step` of all rows' words gives; the words start at depth `k`, in block `block` of their group.
fn add_step(step: u32, block: u32, k: u32) {
  for (var f = 0u; f < ROW_FOURS; f++) {
    let four = words[f];
    lows[f] = mat4x4<f32>(
      low_four(four[0], step),
      low_four(four[1], step),
      low_four(four[2], step),
      low_four(four[3], step),
    );
    highs[f] = mat4x4<f32>(
      high_four(four[0], step),
      high_four(four[1], step),
      high_four(four[2], step),
      high_four(four[3], step),
    );
    step_scales[f] = vec4<f32>(
      scales[f][0][block],
      scales[f][1][block],
      scales[f][2][block],
      scales[f][3][block],
    );
  }
  let low = k + select(8u, 4u, DTYPE == Q4_0) * step;
  let high = low + select(4u, 16u, DTYPE == Q4_0);
  add_row(0u, low, high);
  if (ROWS > 1u) { add_row(1u, low, high); }
  if (ROWS > 2u) { add_row(2u, low, high); }
  if (ROWS > 3u) { add_row(3u, low, high); }
  if (ROWS > 4u) { add_row(4u, low, high); }
  if (ROWS > 5u) { add_row(5u, low, high); }
  if (ROWS > 6u) { add_row(6u, low, high); }
  if (ROWS > 7u) { add_row(7u, low, high); }
}

// All steps of a texel: for one row of left they fit into an instruction cache side by side.
fn add_texel(block: u32, k: u32) {
  if (STEPS == 1u || ROWS == 1u) {
    add_step(0u, block, k);
    if (STEPS > 1u) { add_step(1u, block, k); }
    if (STEPS > 2u) { add_step(2u, block, k); }
    if (STEPS > 3u) { add_step(3u, block, k); }
  } else {
    for (var step = 0u; step < STEPS; step++) {
      add_step(step, block, k);
    }
  }
}

fn store(m: u32, n: u32, total: f32) {
  if (n < p.n) {
    let at = m * p.out_width + p.out_column + n;
    out[p.out_at + at] = total + add_addend(at);
  }
}

fn store_row(m: u32, first: u32) {
  for (var f = 0u; f < ROW_FOURS; f++) {
    let n = first + 4u * LANES_TOGETHER * f;
    store(m, n, totals[m][f].x);
    store(m, n + LANES_TOGETHER, totals[m][f].y);
    store(m, n + 2u * LANES_TOGETHER, totals[m][f].z);
    store(m, n + 3u * LANES_TOGETHER, totals[m][f].w);
  }
}

// Rows are whole blocks; GROUP is LANES_TOGETHER.
@compute @workgroup_size(GROUP)
fn product_packed(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  p = parameters;
  let y = (group.x + group.y * groups.x) * 4u * ROW_FOURS;
  let blocks = p.k / BLOCK;
  for (var b = 0u; b < blocks; b += BLOCKS_TOGETHER) {
    var x = lane + LANES_TOGETHER * (b / BLOCKS_TOGETHER * GROUP_TEXELS);
    if (IS_QUANTIZED) {
      for (var f = 0u; f < ROW_FOURS; f++) {
        let four = packed_four(x, y + 4u * f);
        scales[f] = mat4x4<f32>(
          bitcast<vec4<f32>>(four[0]),
          bitcast<vec4<f32>>(four[1]),
          bitcast<vec4<f32>>(four[2]),
          bitcast<vec4<f32>>(four[3]),
        );
      }
      x += LANES_TOGETHER;
    }
    let texels = min(BLOCKS_TOGETHER, blocks - b) * BLOCK_TEXELS;
    for (var i = 0u; i < texels; i++) {
      for (var f = 0u; f < ROW_FOURS; f++) {
        words[f] = packed_four(x + LANES_TOGETHER * i, y + 4u * f);
      }
      add_texel(i / BLOCK_TEXELS, b * BLOCK + 8u * STEPS * i);
    }
  }
  let n = LANES_TOGETHER * y + lane;
  store_row(0u, n);
  if (ROWS > 1u) { store_row(1u, n); }
  if (ROWS > 2u) { store_row(2u, n); }
  if (ROWS > 3u) { store_row(3u, n); }
  if (ROWS > 4u) { store_row(4u, n); }
  if (ROWS > 5u) { store_row(5u, n); }
  if (ROWS > 6u) { store_row(6u, n); }
  if (ROWS > 7u) { store_row(7u, n); }
}
