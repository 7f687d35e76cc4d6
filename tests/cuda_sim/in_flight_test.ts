// Loads that wait for each other are told from loads that do not.

import assert from "node:assert/strict";
import { hasAssembler, usesOf } from "./in_flight.ts";

/** A kernel that adds up 4 times 16 bytes, from addresses that are `next` of what was read before. */
function kernel(name: string, next: readonly string[]): string {
  const loads = [0, 1, 2, 3].map((i) => `
    ld.global.v4.u32 {%r${4 * i}, %r${4 * i + 1}, %r${4 * i + 2}, %r${4 * i + 3}}, [%rd2];
    ${next.join(`%r${4 * i}`)}`);
  const sums = Array.from({ length: 16 }, (_, i) => `add.u32 %r16, %r16, %r${i};`);
  return `.visible .entry ${name}(.param .u64 ${name}_0, .param .u64 ${name}_1) {
    .reg .b32 %r<17>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [${name}_0];
    ld.param.u64 %rd2, [${name}_1];
    mov.u32 %r16, 0;
    ${loads.join("")}
    ${sums.join("\n")}
    st.global.u32 [%rd1], %r16;
    ret;
  }`;
}

const PTX = `.version 7.0
.target sm_80
.address_size 64
${kernel("apart", ["add.u64 %rd2, %rd2, 4096;"])}
${kernel("in_turn", ["cvt.u64.u32 %rd3, ", "; add.u64 %rd2, %rd2, %rd3;"])}
`;

const reason = hasAssembler() ? "" : " (skipped: ptxas is not installed)";
Deno.test({
  name: `bytes in flight are those of loads that do not wait for each other${reason}`,
  ignore: !hasAssembler(),
  fn() {
    const path = Deno.makeTempFileSync();
    try {
      Deno.writeTextFileSync(path, PTX);
      const uses = usesOf(path);
      assert.equal(uses.get("apart")?.bytesInFlight, 64);
      assert.equal(uses.get("in_turn")?.bytesInFlight, 16);
    } finally {
      Deno.removeSync(path);
    }
  },
});
