// Blocks of the operands of linear.wgsl in fours of elements. Needs rows_*.wgsl and weight_*.wgsl before it; joined in
// front of linear.wgsl, or blocks_texels.wgsl in its place.

// Four elements of the left operand: row `m` from depth `k` on, or depth `k` from row `m` on. Rows beyond the last are
// the last one again, depths beyond the last are 0.
fn left_line(m: u32, k: u32) -> vec4<f32> {
  if (IS_LEFT_ALONG_K) {
    let start = p.left_column + min(m, p.m - 1u) * p.left_width;
    return left_four(p.left_at, start, k, remaining(k, p.k));
  }
  let count = select(0u, remaining(m, p.m), k < p.k);
  return left_four(p.left_at, p.left_column + m, k * p.left_width, count);
}

fn right_line(n: u32, k: u32) -> vec4<f32> {
  if (IS_RIGHT_ALONG_K) {
    return right_four(p.right_at, min(n, p.n - 1u) * p.right_width, k, remaining(k, p.k));
  }
  let count = select(0u, remaining(n, p.n), k < p.k);
  return right_four(p.right_at, n, k * p.right_width, count);
}

// Blocks of the operands by their first row or column and depth, from memory.
fn fetch_left(m: u32, k: u32) -> mat4x4<f32> {
  if (IS_LEFT_ALONG_K) {
    return mat4x4<f32>(
      left_line(m, k),
      left_line(m + 1u, k),
      left_line(m + 2u, k),
      left_line(m + 3u, k),
    );
  }
  return transpose(
    mat4x4<f32>(
      left_line(m, k),
      left_line(m, k + 1u),
      left_line(m, k + 2u),
      left_line(m, k + 3u),
    ),
  );
}

fn fetch_right(n: u32, k: u32) -> mat4x4<f32> {
  if (IS_RIGHT_ALONG_K) {
    return transpose(
      mat4x4<f32>(
        right_line(n, k),
        right_line(n + 1u, k),
        right_line(n + 2u, k),
        right_line(n + 3u, k),
      ),
    );
  }
  return mat4x4<f32>(
    right_line(n, k),
    right_line(n, k + 1u),
    right_line(n, k + 2u),
    right_line(n, k + 3u),
  );
}
