// `tinyllama tokenize` as a user runs it: arguments and pipes in, ids and bytes out.

import assert from "node:assert/strict";
import { tinyllama } from "./command_line.ts";

const tokenize = (args: readonly string[], input: string | Uint8Array<ArrayBuffer>) =>
  tinyllama(["tokenize", ...args], { input });

Deno.test("ids of an argument, as JSON, and the text of ids", async () => {
  const [ids, described, text, wrong] = await Promise.all([
    tokenize(["Hello world"], ""),
    tokenize(["--json", "--special", "Hello</s>"], ""),
    tokenize(["--decode", "[15043, 3186]"], ""),
    tokenize(["--decode", "15043 x"], ""),
  ]);
  assert.equal(ids.text, "15043 3186\n");
  assert.deepEqual(JSON.parse(described.text), {
    count: 2,
    ids: [15043, 2],
    pieces: ["▁Hello", "</s>"],
    text: "Hello</s>",
  });
  assert.equal(text.text, "Hello world");
  assert.match(wrong.error, /^error: Cannot decode "x": expected token ids from 0 to 31999/);
});

Deno.test("raw bytes go through a pipe and come back", async () => {
  const raw = Uint8Array.of(0x20, 0xff, 0x00, 0x0a, 0xe2, 0x96, 0x20);
  const [encoded, counted] = await Promise.all([tokenize([], raw), tokenize(["--count"], raw)]);
  const ids = encoded.text.trim().split(" ");
  assert.equal(counted.text, `${ids.length}\n`);
  const decoded = await tokenize(["--decode"], encoded.text);
  assert.deepEqual(decoded.bytes, raw);
});
