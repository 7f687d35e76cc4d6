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
  add_product(0u, right_0, left_0);
  add_product(1u, right_1, left_0);
  add_product(2u, right_0, left_1);
  add_product(3u, right_1, left_1);
}

fn store_sums() {
  store(0u, 0u, sums[0]);
  store(0u, 1u, sums[1]);
  store(1u, 0u, sums[2]);
  store(1u, 1u, sums[3]);
}
