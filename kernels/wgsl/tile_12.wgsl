// What one thread of linear.wgsl computes: 16 x 12 elements, for adapters whose loads cost many times a multiplication. A
// larger tile's loop would not fit into a processor's instruction cache.

const TALL = 4u; // blocks of 4 x 4 elements of a thread, down
const WIDE = 3u; // and across

var<private> sums: array<mat4x4<f32>, 12>;

// Adds what depth `k` to `k` + 3 gives.
fn add_products(k: u32) {
  let left_0 = left_block(0u, k);
  let left_1 = left_block(1u, k);
  let left_2 = left_block(2u, k);
  let left_3 = left_block(3u, k);
  let right_0 = right_block(0u, k);
  sums[0] += right_0 * left_0;
  sums[1] += right_0 * left_1;
  sums[2] += right_0 * left_2;
  sums[3] += right_0 * left_3;
  let right_1 = right_block(1u, k);
  sums[4] += right_1 * left_0;
  sums[5] += right_1 * left_1;
  sums[6] += right_1 * left_2;
  sums[7] += right_1 * left_3;
  let right_2 = right_block(2u, k);
  sums[8] += right_2 * left_0;
  sums[9] += right_2 * left_1;
  sums[10] += right_2 * left_2;
  sums[11] += right_2 * left_3;
}

fn store_sums() {
  store(0u, 0u, sums[0]);
  store(1u, 0u, sums[1]);
  store(2u, 0u, sums[2]);
  store(3u, 0u, sums[3]);
  store(0u, 1u, sums[4]);
  store(1u, 1u, sums[5]);
  store(2u, 1u, sums[6]);
  store(3u, 1u, sums[7]);
  store(0u, 2u, sums[8]);
  store(1u, 2u, sums[9]);
  store(2u, 2u, sums[10]);
  store(3u, 2u, sums[11]);
}
