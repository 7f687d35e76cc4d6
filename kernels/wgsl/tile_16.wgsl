// What one thread of linear.wgsl computes: 16 x 16 elements, for adapters whose loads cost many times a multiplication. A
// larger tile's loop would not fit into what a processor keeps of decoded instructions.

const TALL = 4u; // blocks of 4 x 4 elements of a thread, down
const WIDE = 4u; // and across

var<private> sums: array<mat4x4<f32>, 16>;

// Adds what depth `k` to `k` + 3 gives.
fn add_products(k: u32) {
  let left_0 = left_block(0u, k);
  let left_1 = left_block(1u, k);
  let left_2 = left_block(2u, k);
  let left_3 = left_block(3u, k);
  let right_0 = right_block(0u, k);
  add_product(0u, right_0, left_0);
  add_product(1u, right_0, left_1);
  add_product(2u, right_0, left_2);
  add_product(3u, right_0, left_3);
  let right_1 = right_block(1u, k);
  add_product(4u, right_1, left_0);
  add_product(5u, right_1, left_1);
  add_product(6u, right_1, left_2);
  add_product(7u, right_1, left_3);
  let right_2 = right_block(2u, k);
  add_product(8u, right_2, left_0);
  add_product(9u, right_2, left_1);
  add_product(10u, right_2, left_2);
  add_product(11u, right_2, left_3);
  let right_3 = right_block(3u, k);
  add_product(12u, right_3, left_0);
  add_product(13u, right_3, left_1);
  add_product(14u, right_3, left_2);
  add_product(15u, right_3, left_3);
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
  store(0u, 3u, sums[12]);
  store(1u, 3u, sums[13]);
  store(2u, 3u, sums[14]);
  store(3u, 3u, sums[15]);
}
