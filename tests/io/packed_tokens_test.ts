// Chunk files: the exact bytes of the format, streams over many files, and what is refused.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { FormatError } from "../../lib/core/errors.ts";
import { PackedTokens, readPackedHeader } from "../../lib/io/packed_stream.ts";
import {
  packedDType,
  packedFileBytes,
  PackedWriter,
  parseHeader,
} from "../../lib/io/packed_tokens.ts";
import { tokensOf, writeCounting } from "../data/data_setup.ts";
import { inTempFolder } from "../temp_folder.ts";

/** A chunk file's bytes from its parts, written down from the format's description. */
function chunk(
  { magic = "LITPKDS", version = 1n, code = 8, count = 2n, body = [1, 0, 2, 0] },
): Uint8Array {
  const bytes = new Uint8Array(24 + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setBigUint64(7, version, true);
  bytes[15] = code;
  view.setBigUint64(16, count, true);
  bytes.set(body, 24);
  return bytes;
}

Deno.test("a chunk file has the format's bytes, in u16 and in i32", () =>
  inTempFolder((folder) => {
    const ids = Int32Array.of(1, 0x1234, 65499, 2);
    for (
      const [dtype, code, body] of [
        ["u16", 8, [1, 0, 0x34, 0x12, 0xdb, 0xff, 2, 0]],
        ["i32", 4, [1, 0, 0, 0, 0x34, 0x12, 0, 0, 0xdb, 0xff, 0, 0, 2, 0, 0, 0]],
      ] as const
    ) {
      const writer = new PackedWriter(folder, `train_${dtype}`, dtype, 100);
      writer.append(ids, ids.length);
      const [{ name, tokens, sha256 }] = writer.finish();
      const bytes = Deno.readFileSync(join(folder, name));
      assert.equal(name, `train_${dtype}_0000000000.bin`);
      assert.deepEqual(bytes, chunk({ code, count: 4n, body: [...body] }));
      assert.equal(tokens, 4);
      assert.equal(sha256, createHash("sha256").update(bytes).digest("hex"));
    }
  }));

Deno.test("a default chunk is as long as the original's, types follow its bound", () => {
  assert.equal(packedFileBytes({ dtype: "u16", tokens: 2049 * 1024 }), 4_196_376);
  assert.deepEqual([32000, 65499, 65500, 128256].map(packedDType), ["u16", "u16", "i32", "i32"]);
});

Deno.test("the rest is kept in a shorter last file, without padding; a full file waits for nothing", () =>
  inTempFolder((folder) => {
    const writer = new PackedWriter(folder, "a", "u16", 10);
    const names = () => [...Deno.readDirSync(folder)].length;
    writer.append(Int32Array.from({ length: 10 }, (_, i) => i), 10);
    assert.equal(names(), 1);
    writer.append(Int32Array.from({ length: 13 }, (_, i) => 10 + i), 13);
    assert.equal(names(), 2);
    const parts = writer.finish().map(({ name, tokens }) => ({ path: join(folder, name), tokens }));
    assert.deepEqual(parts.map(({ tokens }) => tokens), [10, 10, 3]);
    assert.deepEqual(
      parts.map(({ path }) => readPackedHeader(path).tokens),
      [10, 10, 3],
    );
    assert.deepEqual(tokensOf(parts), Array.from({ length: 23 }, (_, i) => i));
  }));

Deno.test("nothing appended, nothing written", () =>
  inTempFolder((folder) => {
    assert.deepEqual(new PackedWriter(folder, "a", "u16", 10).finish(), []);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a stream reads any range across files and keeps few of them open", () =>
  inTempFolder((folder) => {
    using stream = new PackedTokens(writeCounting(folder, "a", 1003, 10), 1003);
    assert.equal(stream.length, 1003);
    const into = new Int32Array(64);
    for (let i = 0; i < 3000; i++) {
      const first = i * 7919 % 1003;
      const count = Math.min(i % 50, 1003 - first);
      into.fill(-7);
      stream.read(first, into, 5, count);
      for (let j = 0; j < 64; j++) {
        assert.equal(into[j], j >= 5 && j < 5 + count ? first + j - 5 : -7);
      }
      assert.ok(stream.openFiles <= 32, `${stream.openFiles} open`);
    }
    assert.match(stream.describe(998), /a_0000000099\.bin" token 8$/);
    assert.throws(() => stream.read(1000, into, 0, 4), RangeError);
    assert.throws(() => stream.read(0, into, 62, 3), RangeError);
  }));

Deno.test("all integer types of the format are read", () =>
  inTempFolder((folder) => {
    const files: [number, number[]][] = [
      [1, [7, 200]],
      [2, [7, 100]],
      [3, [7, 0, 200, 0]],
      [4, [7, 0, 0, 0, 200, 0, 0, 0]],
      [5, [7, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0]],
      [8, [7, 0, 200, 0]],
    ];
    for (const [code, body] of files) {
      const path = join(folder, `${code}.bin`);
      Deno.writeFileSync(path, chunk({ code, body }));
      assert.deepEqual(tokensOf([{ path, tokens: 2 }]), [7, code === 2 ? 100 : 200]);
    }
  }));

Deno.test("headers that are not as the format says are refused, each with its reason", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.bin");
    const refusals: [Uint8Array, string][] = [
      [new Uint8Array(0), "it has 0 bytes, expected a LITPKDS file with a header of 24"],
      [chunk({}).subarray(0, 23), "it has 23 bytes, expected a LITPKDS file with a header of 24"],
      [chunk({ magic: "LITPKDX" }), 'it begins with "LITPKDX", expected "LITPKDS"'],
      [chunk({ version: 2n }), "its version is 2, expected 1"],
      [chunk({ version: 1n << 40n }), "its version is 1099511627776, expected 1"],
      [
        chunk({ code: 6 }),
        "its element type is 6, expected one of 1 (u8), 2 (i8), 3 (i16), 4 (i32), 5 (i64), 8 (u16)",
      ],
      [chunk({ count: 3n }), "it has 28 bytes, expected 30 for 3 tokens of u16; it is cut off"],
      [chunk({ count: 1n }), "it has 28 bytes, expected 26 for 1 tokens of u16"],
      [
        chunk({ count: 0xffffffffffffffffn }),
        "it has 28 bytes, expected 36893488147419103254 for 18446744073709551615 tokens of u16; " +
        "it is cut off",
      ],
    ];
    for (const [bytes, reason] of refusals) {
      Deno.writeFileSync(path, bytes);
      assert.throws(
        () => readPackedHeader(path),
        new FormatError(`Cannot read "${path}": ${reason}`),
      );
      assert.throws(() => tokensOf([{ path, tokens: 2 }]), FormatError);
    }
    Deno.removeSync(path);
    assert.throws(
      () => readPackedHeader(path),
      new FormatError(`Cannot read "${path}": there is no such file`),
    );
  }));

Deno.test("any one changed byte of a header gives a FormatError, or another type of the same size", () => {
  for (let at = 0; at < 24; at++) {
    for (let value = 0; value < 256; value++) {
      const bytes = chunk({});
      if (bytes[at] === value) continue;
      bytes[at] = value;
      try {
        const header = parseHeader(bytes.subarray(0, 24), bytes.length, "a.bin");
        assert.deepEqual([at, value, header], [15, 3, { dtype: "i16", tokens: 2 }]);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }
  }
});

Deno.test("a stream refuses ids outside the vocabulary and files of another length", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.bin");
    const refusal = (bytes: Uint8Array, tokens: number, vocabSize: number) => {
      Deno.writeFileSync(path, bytes);
      try {
        tokensOf([{ path, tokens }], vocabSize);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        return error.message.replace(path, "a.bin");
      }
      return "read";
    };
    assert.equal(refusal(chunk({}), 2, 3), "read");
    assert.equal(
      refusal(chunk({}), 2, 2),
      'Cannot read "a.bin": token 1 is 2, expected an id from 0 to 1',
    );
    assert.equal(
      refusal(chunk({ code: 3, body: [1, 0, 255, 255] }), 2, 9),
      'Cannot read "a.bin": token 1 is -1, expected an id from 0 to 8',
    );
    assert.equal(
      refusal(chunk({ code: 5, count: 1n, body: [1, 0, 0, 0, 1, 0, 0, 0] }), 1, 9),
      'Cannot read "a.bin": token 0 is 4294967297, expected an id from 0 to 8',
    );
    assert.equal(
      refusal(chunk({}), 5, 9),
      'Cannot read "a.bin": it has 2 tokens, expected 5',
    );
  }));
