// Streaming text: whole characters, stop strings across token borders, nothing held back for longer than needed.

import assert from "node:assert/strict";
import { TextStream } from "../../lib/generate/text_stream.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";

/** A decoder whose ids are indices into pieces of text. */
function pieces(texts: readonly string[]) {
  return { push: (id: number) => texts[id], flush: () => "" };
}

/** What each piece of text makes certain, then the rest. */
function stream(texts: readonly string[], stops: readonly string[]): string[] {
  const text = new TextStream(pieces(texts), stops);
  return [...texts.map((_, id) => text.push(id)), text.flush()];
}

Deno.test("without stop strings everything is certain at once", () => {
  assert.deepEqual(stream(["On", "ce", " up"], []), ["On", "ce", " up", ""]);
});

Deno.test("a stop string across token borders ends the text before it", () => {
  assert.deepEqual(stream(["one\n", "\nQ", "uestion"], ["\n\nQuest"]), ["one", "", "", ""]);
  assert.deepEqual(stream(["a STOP b", "c"], ["STOP"]), ["a ", "", ""]);
});

Deno.test("only what could still become a stop string is held back", () => {
  assert.deepEqual(stream(["aab", "aac", "x"], ["aaba", "aad"]), ["", "", "", ""]);
  assert.deepEqual(stream(["xaab", "c", "y"], ["aaba", "aad"]), ["x", "aabc", "y", ""]);
  assert.deepEqual(stream(["aa", "aa", "ab"], ["aaab"]), ["", "a", "a", ""]);
  assert.deepEqual(stream(["end\n"], ["\n\n"]), ["end", "\n"]);
});

Deno.test("the stop string that is complete first counts, and the earlier one of two", () => {
  assert.deepEqual(stream(["abc"], ["abcd", "bc"]), ["a", ""]);
  assert.deepEqual(stream(["xxabyycd"], ["cd", "ab"]), ["xx", ""]);
});

Deno.test("nothing follows a stop string", () => {
  const text = new TextStream(pieces(["a.", "b", "c"]), ["."]);
  assert.equal(text.push(0), "a");
  assert.equal(text.isStopped, true);
  assert.equal(text.push(1) + text.push(2) + text.flush(), "");
});

Deno.test("an empty stop string is refused", () => {
  assert.throws(() => new TextStream(pieces([]), ["a", ""]), /Cannot stop at an empty text/);
});

Deno.test("characters of several byte tokens come whole; a half one at the end is U+FFFD", async () => {
  const tokenizer = await llamaTokenizer();
  const ids = tokenizer.encode("naïve 𝄞🙂 漢");
  const text = new TextStream(tokenizer.streamDecoder(), []);
  const parts = [...Array.from(ids, (id) => text.push(id)), text.flush()];
  assert.equal(parts.join(""), "naïve 𝄞🙂 漢");
  for (const part of parts) assert.ok(part.isWellFormed() && !part.includes("\ufffd"), part);
  const half = new TextStream(tokenizer.streamDecoder(), []);
  const bytes = tokenizer.encode("𝄞");
  const cut = [...bytes.slice(0, -1)].map((id) => half.push(id)).join("") + half.flush();
  assert.equal(cut, "\ufffd");
});

Deno.test("a stop string may be a character of several tokens", async () => {
  const tokenizer = await llamaTokenizer();
  const text = new TextStream(tokenizer.streamDecoder(), ["𝄞!"]);
  const ids = tokenizer.encode("play 𝄞! more");
  assert.equal(Array.from(ids, (id) => text.push(id)).join("") + text.flush(), "play ");
});
