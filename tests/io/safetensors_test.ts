// Safetensors files: round trips, every refusal with its message, and that no mutation of a header gives anything but a
// sound file or a FormatError.

import assert from "node:assert/strict";
import { join } from "node:path";
import { FormatError } from "../../lib/core/errors.ts";
import { philox } from "../../lib/core/rng.ts";
import { SafetensorsFile, type TensorHeader, writeSafetensors } from "../../lib/io/safetensors.ts";
import { inTempFolder } from "../temp_folder.ts";
import { describeFile, fileOf, tensorsOf } from "./safetensors_bytes.ts";

const F32_OF_2 = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

function refusal(bytes: Uint8Array): string {
  const path = Deno.makeTempFileSync();
  try {
    Deno.writeFileSync(path, bytes);
    new SafetensorsFile(path)[Symbol.dispose]();
    return "opened";
  } catch (error) {
    assert.ok(error instanceof FormatError, String(error));
    assert.ok(error.message.startsWith(`Cannot read "${path}": `), error.message);
    return error.message.slice(`Cannot read "${path}": `.length);
  } finally {
    Deno.removeSync(path);
  }
}

async function* chunksOf(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(chunk);
}

Deno.test("what was written is read back: names, types, shapes, bytes, metadata", () =>
  inTempFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const headers: TensorHeader[] = [
      { name: "b.weight", dtype: "F32", shape: [2, 3] },
      { name: 'a "quoted" ünïcode', dtype: "BF16", shape: [3] },
      { name: "empty", dtype: "F16", shape: [0, 7] },
      { name: "__proto__", dtype: "I64", shape: [] },
    ];
    const bytes = Uint8Array.from({ length: 24 + 6 + 8 }, (_, i) => i);
    await writeSafetensors(path, headers, chunksOf(bytes.subarray(0, 20), bytes.subarray(20)));
    using file = new SafetensorsFile(path);
    const text = new TextDecoder().decode(Deno.readFileSync(path));
    assert.match(text, /"__metadata__":\{"format":"pt"\}/);
    assert.deepEqual(
      Array.from(file.tensors.values(), ({ name, dtype, shape }) => ({ name, dtype, shape })),
      headers,
    );
    const read = tensorsOf(file);
    assert.deepEqual(read.get("b.weight"), bytes.subarray(0, 24));
    assert.deepEqual(read.get('a "quoted" ünïcode'), bytes.subarray(24, 30));
    assert.deepEqual(read.get("__proto__"), bytes.subarray(30));
  }));

Deno.test("the data begins at a cache line, and the same tensors give the same file", () =>
  inTempFolder(async (folder) => {
    const paths = ["a", "b"].map((name) => join(folder, name));
    for (const path of paths) {
      await writeSafetensors(path, [{ name: "x", dtype: "U8", shape: [3] }], chunksOf(bytes3()));
      using file = new SafetensorsFile(path);
      assert.equal(file.tensors.get("x")?.byteOffset, 128);
    }
    assert.deepEqual(Deno.readFileSync(paths[0]), Deno.readFileSync(paths[1]));
  }));

const bytes3 = () => Uint8Array.of(1, 2, 3);

Deno.test("a writer that gives too little, too much or a name twice is refused", () =>
  inTempFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const x: TensorHeader = { name: "x", dtype: "U8", shape: [4] };
    await assert.rejects(
      writeSafetensors(path, [x], chunksOf(bytes3())),
      /got 3 bytes .* expected 4/,
    );
    await assert.rejects(writeSafetensors(path, [x], chunksOf(bytes3(), bytes3())), /got 6 bytes/);
    await assert.rejects(writeSafetensors(path, [x, x], chunksOf()), /a second tensor "x"/);
  }));

Deno.test("tensors may stand in the header in any order", () => {
  const b = { dtype: "U8", shape: [3], data_offsets: [8, 11] };
  assert.equal(refusal(fileOf({ b, a: F32_OF_2 }, 11)), "opened");
  assert.equal(
    refusal(fileOf({ b, empty: { ...b, shape: [0], data_offsets: [11, 11] }, a: F32_OF_2 }, 11)),
    "opened",
  );
});

Deno.test("names what it refuses in a file", () => {
  const huge = new Uint8Array(16);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 60n, true);
  const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4400000000\n";
  const cases: readonly (readonly [string, Uint8Array])[] = [
    ["it has 0 bytes, expected a safetensors file of 8 or more", new Uint8Array()],
    ["it has 7 bytes, expected a safetensors file of 8 or more", new Uint8Array(7)],
    [
      "its header should have 1152921504606846976 bytes, 8 follow; it is cut off or no safetensors",
      huge,
    ],
    [
      "it is a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
      new TextEncoder().encode(pointer),
    ],
    ['its header begins with "", expected "{"', new Uint8Array(8)],
    ['its header begins with "[1]", expected "{"', fileOf("[1]", 0)],
    ['its header begins with "\ufeff{}", expected "{"', fileOf("\ufeff{}", 0)],
    ["its header is not valid JSON", fileOf("{,}", 0)],
    ["its header is not valid JSON", fileOf("{}x", 0)],
    ["its header is not UTF-8 text", fileOf(Uint8Array.of(0x7b, 0xff, 0x7d), 0)],
    ["its tensors take 8 bytes, 7 follow the header; it is cut off", fileOf({ a: F32_OF_2 }, 7)],
    ["its tensors take 8 bytes, 9 follow the header", fileOf({ a: F32_OF_2 }, 9)],
    ["its tensors take 0 bytes, 1 follow the header", fileOf({}, 1)],
  ];
  for (const [message, bytes] of cases) assert.equal(refusal(bytes), message);
});

Deno.test("a header of more than 100 million bytes is refused before it is read", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.safetensors");
    Deno.writeFileSync(path, fileOf({}, 0));
    using file = Deno.openSync(path, { write: true });
    file.writeSync(new Uint8Array(BigUint64Array.of(100_000_001n).buffer));
    file.truncateSync(8 + 100_000_001);
    assert.throws(
      () => new SafetensorsFile(path),
      /has 100000001 bytes, expected at most 100000000/,
    );
  }));

Deno.test("names what it refuses in a header", () => {
  const types = "BOOL, U8, I8, F8_E4M3, F8_E5M2, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64";
  const sizes = "expected a list of whole numbers from 0 on";
  const offsets = "expected [begin, end] in bytes";
  const withA = (change: object) => ({ a: { ...F32_OF_2, ...change } });
  const text = JSON.stringify(F32_OF_2);
  const cases: readonly (readonly [string, object | string])[] = [
    ['tensor "a" has dtype "F31", expected ' + types, withA({ dtype: "F31" })],
    ['tensor "a" has dtype "toString", expected ' + types, withA({ dtype: "toString" })],
    ['tensor "a" has dtype nothing, expected ' + types, { a: { shape: [2] } }],
    ['tensor "a" has dtype null, expected ' + types, withA({ dtype: null })],
    ['tensor "a" has description [1, 2], expected an object', { a: [1, 2] }],
    ['tensor "a" has description null, expected an object', { a: null }],
    ['tensor "a" has shape [-2], ' + sizes, withA({ shape: [-2] })],
    ['tensor "a" has shape [2.5], ' + sizes, withA({ shape: [2.5] })],
    ['tensor "a" has shape [9007199254740992], ' + sizes, withA({ shape: [2 ** 53] })],
    ['tensor "a" has shape "2", ' + sizes, withA({ shape: "2" })],
    ['tensor "a" has shape an object, ' + sizes, withA({ shape: { length: 1 } })],
    ['tensor "a" has shape [..., 1], ' + sizes, withA({ shape: [[2], 1] })],
    ['tensor "a" has data_offsets [-8, 0], ' + offsets, withA({ data_offsets: [-8, 0] })],
    ['tensor "a" has data_offsets [0.5, 8.5], ' + offsets, withA({ data_offsets: [0.5, 8.5] })],
    ['tensor "a" has data_offsets [8, 0], ' + offsets, withA({ data_offsets: [8, 0] })],
    ['tensor "a" has data_offsets [8], ' + offsets, withA({ data_offsets: [8] })],
    ['tensor "a" has data_offsets [0, 4, 8], ' + offsets, withA({ data_offsets: [0, 4, 8] })],
    ['tensor "a" has data_offsets nothing, ' + offsets, withA({ data_offsets: undefined })],
    [
      'tensor "a" has data_offsets [0, 8], expected 12 bytes apart for F32 of shape [3]',
      withA({ shape: [3] }),
    ],
    [
      'tensor "a" has data_offsets [0, 8], expected 4 bytes apart for F32 of shape []',
      withA({ shape: [] }),
    ],
    [
      'tensor "a" has data_offsets [0, 8], expected 4.294967296e+30 bytes apart for F32 of shape ' +
      "[1073741824, 1000000000000, 1000000000]",
      withA({ shape: [2 ** 30, 1e12, 1e9] }),
    ],
    [
      'tensor "b" begins at byte 4 of the data, expected 8: tensors must neither overlap nor leave gaps',
      { a: F32_OF_2, b: { dtype: "U8", shape: [4], data_offsets: [4, 8] } },
    ],
    [
      'tensor "a" begins at byte 1 of the data, expected 0: tensors must neither overlap nor leave gaps',
      withA({ data_offsets: [1, 9] }),
    ],
    ['its header has the name "a" twice in one object', `{"a":${text},"b":{},"\\u0061" :${text}}`],
    [
      'its header has the name "shape" twice in one object',
      `{"a":{"dtype":"F32","shape":[3],"shape":[2],"data_offsets":[0,8]}}`,
    ],
    ["__metadata__ is null, expected an object", { __metadata__: null, a: F32_OF_2 }],
    [
      '__metadata__ has 1 under "format", expected a text',
      { __metadata__: { format: 1 }, a: F32_OF_2 },
    ],
  ];
  for (const [message, header] of cases) assert.equal(refusal(fileOf(header, 8)), message);
});

Deno.test("values nested a million deep and endless names are refused like any other", () => {
  const deep = "[".repeat(1e6) + "]".repeat(1e6);
  assert.match(refusal(fileOf(`{"a":{"dtype":${deep}}}`, 0)), /^tensor "a" has dtype \[\.\.\.\]/);
  const name = "\\n".repeat(1e6);
  const message = refusal(fileOf(`{"${name}":{"dtype":"${name}"}}`, 0));
  assert.ok(message.length < 500, `${message.length} characters`);
});

Deno.test("a missing file and a folder are refused by name", () =>
  inTempFolder((folder) => {
    const path = join(folder, "missing.safetensors");
    assert.throws(
      () => new SafetensorsFile(path),
      new FormatError(`Cannot read "${path}": there is no such file`),
    );
    assert.throws(
      () => new SafetensorsFile(folder),
      new FormatError(`Cannot read "${folder}": it is not a file`),
    );
  }));

Deno.test("reading notices a file that was cut after it was opened, and ranges outside a tensor", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.safetensors");
    Deno.writeFileSync(path, fileOf({ a: F32_OF_2 }, 8));
    using file = new SafetensorsFile(path);
    const tensor = file.tensors.get("a");
    assert.ok(tensor);
    assert.throws(() => file.read(tensor, 4, new Uint8Array(5)), RangeError);
    assert.throws(() => file.read(tensor, -1, new Uint8Array(5)), RangeError);
    Deno.truncateSync(path, tensor.byteOffset + 6);
    assert.throws(
      () => file.read(tensor, 0, new Uint8Array(8)),
      /it ends at byte \d+, expected 2 bytes more/,
    );
  }));

Deno.test("no mutated header gives anything but a sound file or a FormatError", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.safetensors");
    const header = {
      __metadata__: { format: "pt" },
      a: F32_OF_2,
      "b.weight": { dtype: "BF16", shape: [2, 3], data_offsets: [8, 20] },
      c: { dtype: "U8", shape: [4], data_offsets: [20, 24] },
    };
    const whole = fileOf(header, 24);
    const headerEnd = whole.length - 24;
    const replacements = new TextEncoder().encode('{}[]",:-.0129eE\\ub \u0000');
    const words = new Uint32Array(4);
    let sound = 0;
    for (let round = 0; round < 2000; round++) {
      philox(words, 1, 2, round, 0);
      const bytes = whole.slice();
      const changes = 1 + words[0] % 3;
      for (let change = 0; change < changes; change++) {
        philox(words, 1, 3, round, change);
        const place = words[0] % 50 === 0 ? words[1] % 8 : 8 + words[1] % (headerEnd - 8);
        bytes[place] = words[2] % 4 === 0 ? words[3] : replacements[words[3] % replacements.length];
      }
      philox(words, 1, 4, round, 0);
      Deno.writeFileSync(
        path,
        words[0] % 20 === 0 ? bytes.subarray(0, words[1] % bytes.length) : bytes,
      );
      try {
        using file = new SafetensorsFile(path);
        assert.equal(describeFile(file), 24);
        sound++;
      } catch (error) {
        assert.ok(error instanceof FormatError, `round ${round}: ${error}`);
      }
    }
    assert.ok(sound > 20 && sound < 1000, `${sound} of 2000 mutations were harmless`);
  }));

Deno.test("no value in a header's place gives anything but a sound file or a FormatError", () =>
  inTempFolder((folder) => {
    const path = join(folder, "a.safetensors");
    const a = { dtype: "F32", shape: [1, 2], data_offsets: [0, 8] };
    const b = { ...a, data_offsets: [8, 16] };
    const templates: readonly object[] = [
      ...["@", { format: "@" }].map((found) => ({ __metadata__: found, a, b })),
      ...["@", { ...a, dtype: "@" }].map((found) => ({ a: found, b })),
      ...["@", [1, "@"]].map((shape) => ({ a: { ...a, shape }, b })),
      ...["@", ["@", 8], [0, "@"]].map((found) => ({ a: { ...a, data_offsets: found }, b })),
    ];
    const values = 'null true -1 -0 0 8 1e400 1e15 9007199254740993 0.5 "F32" "" [] {} [0] [0,8] ' +
      '[8,0] [null,8] [[0],8] {"a":[]} [2] [1,2] {"dtype":"F32","shape":[2],"data_offsets":[0,8]}';
    let sound = 0;
    for (const template of templates) {
      for (const value of values.split(" ")) {
        const header = JSON.stringify(template).replace('"@"', value);
        Deno.writeFileSync(path, fileOf(header, 16));
        try {
          using file = new SafetensorsFile(path);
          assert.equal(describeFile(file), 16);
          sound++;
        } catch (error) {
          assert.ok(error instanceof FormatError, `${header}: ${error}`);
        }
      }
    }
    // An empty object and two texts as metadata; the tensor, its dtype, two shapes, its offsets, 0, -0 and 8.
    assert.equal(sound, 11);
  }));
