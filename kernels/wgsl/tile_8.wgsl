// What one thread of linear.wgsl computes: 8 x 8 elements.

const TALL = 2u; // blocks of 4 x 4 elements of a thread, down
const WIDE = 2u; // and across

var<private> sums: array<mat4x4<f32>, 4>;

// Adds what depth `k` to `k` + 3 gives.
fn add_products(k: u32) {
  let left_0 = left_block(0u, k);
  let left_1 = left_block(1u, k);
  let right_0 = right_block(0u, k);
  let right_1 = right_block(1u, k);
  sums[0] += right_0 * left_0;
  sums[1] += right_1 * left_0;
  sums[2] += right_0 * left_1;
  sums[3] += right_1 * left_1;
}

fn store_sums() {
  store(0u, 0u, sums[0]);
  store(0u, 1u, sums[1]);
  store(1u, 0u, sums[2]);
  store(1u, 1u, sums[3]);
}
