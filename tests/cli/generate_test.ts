// `tinyllama generate` as a user runs it: streaming text, JSON lines, prompts from anywhere, and what it says to mistakes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { generateCommand } from "../../lib/cli/generate.ts";
import { parsePrompts } from "../../lib/cli/prompts.ts";
import { writeTextModel } from "../generate/generating_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { tinyllama } from "./command_line.ts";

async function run(args: readonly string[], input = "") {
  const flags = ["--threads", "2", "--max-tokens", "12"];
  const outcome = await tinyllama(["generate", ...args, ...flags], { input });
  assert.equal(outcome.code, 0, outcome.error);
  return outcome;
}

function withModel(test: (folder: string) => Promise<void>) {
  return inTempFolder(async (folder) => {
    await writeTextModel(folder, { addBos: false, eosIds: [2] });
    await test(folder);
  });
}

Deno.test("text streams to stdout, the JSON line tells all of it, stdin is a prompt", async () => {
  await withModel(async (model) => {
    const plain = ["Once upon", "--model", model, "--seed", "3", "--precision", "f32"];
    const [streamed, verbose, json, piped, dashed] = await Promise.all([
      run(plain),
      run([...plain, "-v"]),
      run([...plain, "--json"]),
      run(plain.slice(1), "Once upon\n"),
      run(["-", ...plain.slice(1)], "Once upon"),
    ]);
    const line = JSON.parse(json.text);
    assert.equal(streamed.text, `${line.prompt}${line.text}\n`);
    assert.equal(piped.text, streamed.text);
    assert.equal(dashed.text, streamed.text);
    assert.equal(streamed.error, "");
    assert.match(
      verbose.error,
      /^cpu:.* f32 weights, .*; prompt 2 tokens, .*ended by length; seed 3\n$/,
    );
    assert.deepEqual(Object.keys(line), [
      ...["prompt", "text", "tokens", "finish_reason", "prompt_tokens", "completion_tokens"],
      ...["seed", "timings"],
    ]);
    assert.deepEqual(
      [line.finish_reason, line.prompt_tokens, line.completion_tokens, line.seed],
      ["length", 2, 12, 3],
    );
    assert.equal(line.tokens.length, 12);
    for (const { id, piece, logprob } of line.tokens) {
      assert.ok(Number.isInteger(id) && typeof piece === "string" && logprob <= 0);
    }
    for (const value of Object.values(line.timings)) assert.ok(Number(value) > 0);
  });
});

Deno.test("a file of prompts is answered in its order, each as if it were alone", async () => {
  await withModel(async (model) => {
    const prompts = ["Once upon", "The", "", "def f(x):\n", "Once upon"];
    const lines = prompts.map((prompt, i) => JSON.stringify({ prompt, id: { line: i }, more: 1 }));
    const input = join(model, "prompts.jsonl");
    Deno.writeTextFileSync(input, lines.join("\n\n") + "\n");
    const flags = ["--model", model, "--temperature", "0", "--precision", "f32", "--json"];
    const [batch, single, piped] = await Promise.all([
      run(["--input", input, ...flags, "--batch-size", "2"]),
      run(["The", ...flags]),
      run(["--input", "-", ...flags], `\uFEFF${Deno.readTextFileSync(input)}`),
    ]);
    const answersOf = ({ text }: { text: string }) =>
      text.trim().split("\n").map((line) => JSON.parse(line));
    const answers = answersOf(batch);
    assert.deepEqual(answers.map(({ prompt }) => prompt), prompts);
    assert.deepEqual(answers.map(({ id }) => id), prompts.map((_, line) => ({ line })));
    assert.equal(answers[1].text, JSON.parse(single.text).text);
    assert.equal(answers[4].text, answers[0].text);
    assert.deepEqual(answersOf(piped).map(({ text }) => text), answers.map(({ text }) => text));
  });
});

Deno.test("quantized weights, BOS and stop strings by flag", async () => {
  await withModel(async (model) => {
    const flags = ["The", "--model", model, "--temperature", "0", "--json"];
    const { text } = JSON.parse((await run([...flags, "--precision", "f32"])).text);
    const stop = text.slice(6, 9);
    const [stopped, withBos, small] = await Promise.all([
      run([...flags, "--precision", "f32", "--stop", "never", "--stop", stop]),
      run([...flags, "--bos"]),
      run([...flags, "--quantize", "q8_0", "-v"]),
    ]);
    const cut = JSON.parse(stopped.text);
    assert.deepEqual([cut.text, cut.finish_reason], [text.slice(0, text.indexOf(stop)), "stop"]);
    assert.equal(JSON.parse(withBos.text).prompt_tokens, 2);
    assert.match(small.error, /q8_0 weights/);
  });
});

Deno.test("mistakes are usage errors that say what was expected", async () => {
  const refuses = (args: readonly string[], message: RegExp) =>
    assert.rejects(generateCommand().parseAsync(args, { from: "user" }), {
      name: "UsageError",
      message,
    });
  await refuses(["a", "--model", "nowhere"], /Cannot use the model "nowhere": there is no such/);
  const model = ["a", "--model", "."];
  await refuses([...model, "--temperature", "warm"], /--temperature "warm": expected a number/);
  await refuses([...model, "--temperature", "-1"], /temperature -1: expected 0 or above/);
  await refuses([...model, "--top-p", "0"], /top-p 0: expected above 0 and at most 1/);
  await refuses([...model, "--top-k", "2.5"], /top-k 2.5: expected a whole number/);
  await refuses([...model, "--seed", "-4"], /seed -4: expected a whole number/);
  await refuses([...model, "--max-tokens", ""], /--max-tokens "": expected a number/);
  await withModel(async (folder) => {
    const real = ["a", "--model", folder];
    await refuses([...real, "--max-tokens", "0"], /max-tokens 0: expected a whole number above 0/);
    await refuses([...real, "--stop", ""], /Cannot stop at an empty text/);
    await refuses([...real, "--threads", "0"], /Cannot use 0 threads/);
    await refuses([...real, "--device", "gpu"], /Cannot use device "gpu"/);
    await refuses([...real, "--input", "x.jsonl"], /both from the argument and from "x.jsonl"/);
    await refuses(["--model", folder, "--input", "x.jsonl"], /"x.jsonl": there is no such file/);
    await refuses(
      ["word ".repeat(64).trim(), "--model", folder],
      /prompt of 64 tokens: the model's context is 64 tokens/,
    );
  });
});

Deno.test("a prompt that is not UTF-8 is refused", async () => {
  await withModel(async (model) => {
    const input = Uint8Array.of(0x61, 0xff, 0x0a);
    const path = join(model, "prompts.jsonl");
    Deno.writeFileSync(path, input);
    const outcomes = await Promise.all([
      tinyllama(["generate", "--model", model], { input }),
      tinyllama(["generate", "--model", model, "--input", path]),
    ]);
    assert.deepEqual(outcomes.map(({ code }) => code), [1, 1]);
    assert.match(
      outcomes[0].error,
      /^error: Cannot read prompts from standard input: it is not UTF-8/,
    );
    assert.match(
      outcomes[1].error,
      /^error: Cannot read prompts from ".*prompts.jsonl": it is not UTF-8/,
    );
  });
});

Deno.test("a line that is no prompt is named", () => {
  const refuses = (text: string, message: RegExp) =>
    assert.throws(() => parsePrompts(text, "p.jsonl"), { name: "FormatError", message });
  refuses(
    '{"prompt": "a"}\n\n{"prompt": 3}',
    /prompt at p.jsonl:3: got {"prompt": 3}, expected an/,
  );
  refuses('{"prompt": "a"', /prompt at p.jsonl:1: it is not valid JSON/);
  refuses("null", /p.jsonl:1: got null/);
  refuses("\n \n", /Cannot read prompts from "p.jsonl": it has no lines/);
  assert.deepEqual(parsePrompts('{"prompt": ""}\r\n{"prompt": "b", "id": 0}', "p"), [
    { text: "", id: undefined },
    { text: "b", id: 0 },
  ]);
});
