// What one thread of linear.wgsl computes: 4 x 4 elements, for small products.

const TALL = 1u; // blocks of 4 x 4 elements of a thread, down
const WIDE = 1u; // and across

var<private> sums: array<mat4x4<f32>, 1>;

// Adds what depth `k` to `k` + 3 gives.
fn add_products(k: u32) {
  add_product(0u, right_block(0u, k), left_block(0u, k));
}

fn store_sums() {
  store(0u, 0u, sums[0]);
}
