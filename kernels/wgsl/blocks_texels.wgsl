// Blocks of the operands of linear.wgsl out of textures, where rows are multiples of four elements: a line of a texture
// holds one row or several, one after another. The first line is another's. Joined in front of linear.wgsl in place of
// blocks_fours.wgsl.

override LEFT_ROWS_PER_LINE: u32 = 1u;
override RIGHT_ROWS_PER_LINE: u32 = 1u;

@group(0) @binding(2) var right_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var left_texels: texture_storage_2d<rgba32float, read>;

fn left_texel(row: u32, x: u32) -> vec4<f32> {
  let start = row % LEFT_ROWS_PER_LINE * (p.left_width / 4u);
  return textureLoad(left_texels, vec2<u32>(start + x, 1u + row / LEFT_ROWS_PER_LINE));
}

fn right_texel(row: u32, x: u32) -> vec4<f32> {
  let start = row % RIGHT_ROWS_PER_LINE * (p.right_width / 4u);
  return textureLoad(right_texels, vec2<u32>(start + x, 1u + row / RIGHT_ROWS_PER_LINE));
}

// Blocks by their first row or column and depth, multiples of four. Rows beyond the last are never stored; depths are
// multiples of four.
fn fetch_left(m: u32, k: u32) -> mat4x4<f32> {
  let row = select(k, m, IS_LEFT_ALONG_K);
  let x = (p.left_column + select(m, k, IS_LEFT_ALONG_K)) / 4u;
  let rows = mat4x4<f32>(
    left_texel(row, x),
    left_texel(row + 1u, x),
    left_texel(row + 2u, x),
    left_texel(row + 3u, x),
  );
  if (IS_LEFT_ALONG_K) {
    return rows;
  }
  return transpose(rows);
}

fn fetch_right(n: u32, k: u32) -> mat4x4<f32> {
  let row = select(k, n, IS_RIGHT_ALONG_K);
  let x = select(n, k, IS_RIGHT_ALONG_K) / 4u;
  let rows = mat4x4<f32>(
    right_texel(row, x),
    right_texel(row + 1u, x),
    right_texel(row + 2u, x),
    right_texel(row + 3u, x),
  );
  if (IS_RIGHT_ALONG_K) {
    return transpose(rows);
  }
  return rows;
}
