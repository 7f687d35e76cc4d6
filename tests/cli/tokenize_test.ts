// `tinyllama tokenize` as a user runs it: arguments and pipes in, ids and bytes out.

import assert from "node:assert/strict";

const module = new URL("../../lib/cli/tokenize.ts", import.meta.url).href;
const script = `
  import { tokenizeCommand } from "${module}";
  await tokenizeCommand().parseAsync(Deno.args, { from: "user" });
`;

async function tokenize(args: readonly string[], input: Uint8Array<ArrayBuffer>) {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", script, "--", ...args],
    cwd: new URL("../../", import.meta.url),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  await using child = command.spawn();
  const writer = child.stdin.getWriter();
  await writer.write(input);
  await writer.close();
  const { stdout, stderr } = await child.output();
  return {
    bytes: stdout,
    text: new TextDecoder().decode(stdout),
    error: new TextDecoder().decode(stderr),
  };
}

Deno.test("ids of an argument, as JSON, and the text of ids", async () => {
  const nothing = new Uint8Array();
  const [ids, described, text, wrong] = await Promise.all([
    tokenize(["Hello world"], nothing),
    tokenize(["--json", "--special", "Hello</s>"], nothing),
    tokenize(["--decode", "[15043, 3186]"], nothing),
    tokenize(["--decode", "15043 x"], nothing),
  ]);
  assert.equal(ids.text, "15043 3186\n");
  assert.deepEqual(JSON.parse(described.text), {
    count: 2,
    ids: [15043, 2],
    pieces: ["▁Hello", "</s>"],
    text: "Hello</s>",
  });
  assert.equal(text.text, "Hello world");
  assert.match(wrong.error, /UsageError: Cannot decode "x": expected token ids from 0 to 31999/);
});

Deno.test("raw bytes go through a pipe and come back", async () => {
  const raw = Uint8Array.of(0x20, 0xff, 0x00, 0x0a, 0xe2, 0x96, 0x20);
  const [encoded, counted] = await Promise.all([tokenize([], raw), tokenize(["--count"], raw)]);
  const ids = encoded.text.trim().split(" ");
  assert.equal(counted.text, `${ids.length}\n`);
  const decoded = await tokenize(["--decode"], new TextEncoder().encode(encoded.text));
  assert.deepEqual(decoded.bytes, raw);
});
