// The public API as a script outside the program uses it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { DEFAULT_CHUNK_TOKENS, prepare } from "../lib/data/prepare.ts";
import { llamaTokenizer } from "../lib/tokenizer/tokenizer.ts";
import { writeTextModel } from "./generate/generating_setup.ts";
import { inTempFolder } from "./temp_folder.ts";

const root = new URL("../", import.meta.url);

/** Runs a script that imports mod.ts, in a folder of its own, and returns the JSON it prints. */
async function runScript(folder: string, body: string): Promise<unknown> {
  const path = join(folder, "script.ts");
  Deno.writeTextFileSync(path, body.replaceAll("MOD", new URL("mod.ts", root).href));
  const config = new URL("deno.json", root).pathname;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--config", config, path],
    cwd: folder,
    stdout: "piped",
    stderr: "piped",
  });
  const { stdout, stderr, success } = await command.output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test("a script loads a folder, tokenizes, computes logits and generates", () =>
  inTempFolder(async (folder) => {
    await writeTextModel(join(folder, "model"), { addBos: true, eosIds: [2] });
    const result = await runScript(
      folder,
      `
      import { complete, computeLogits, generate, loadModel, UsageError } from "MOD";

      using model = await loadModel("model", { threads: 2, precision: "f32" });
      const ids = model.tokenizer.encode("Once upon", { addBos: true });
      const logits = await computeLogits(model.model, ids, "last");
      const options = { temperature: 0, maxTokens: 5 };
      let text = "";
      for await (const piece of generate(model, "Once upon", options)) text += piece.text;
      const [whole] = await complete(model, ["Once upon"], options);
      const refusal = await loadModel("nowhere").catch((error: unknown) => error);
      console.log(JSON.stringify({
        ids: [...ids],
        best: logits.indexOf(Math.max(...logits)),
        text,
        whole,
        isUsageError: refusal instanceof UsageError,
      }));
      `,
    );
    assert.ok(typeof result === "object" && result !== null);
    const { ids, best, text, whole, isUsageError } = Object(result);
    assert.deepEqual(ids, [1, 9038, 2501]);
    assert.equal(best, whole.tokens[0].id);
    assert.equal(text, whole.text);
    assert.equal(whole.tokens.length, 5);
    assert.equal(isUsageError, true);
  }));

Deno.test("a script trains on prepared text and generates from the run folder", () =>
  inTempFolder(async (folder) => {
    const texts = join(folder, "texts");
    const words = "the cat sat on the mat and the dog sat on the cat ".repeat(20);
    Deno.mkdirSync(texts);
    for (let i = 0; i < 12; i++) {
      Deno.writeTextFileSync(join(texts, `${i}.txt`), words.slice(i * 7));
    }
    await prepare({
      paths: [{ path: texts, source: null }],
      output: join(folder, "data"),
      force: false,
      tokenizer: await llamaTokenizer(),
      tokenizerName: "llama",
      chunkTokens: DEFAULT_CHUNK_TOKENS,
      validationShare: 0.2,
    });
    const result = await runScript(
      folder,
      `
      import { complete, loadModel, loadRunConfig, parseOverride, train } from "MOD";

      const overrides = [
        ...["run.output=run", "model=tiny", "data.path=data", "data.weights=null"],
        ...["data.sequence_length=32", "batch_tokens=256", "micro_batch_size=8", "horizon.steps=20"],
        ...["optimizer.warmup_steps=2", "evaluation.every_steps=20", "checkpoint.every_steps=20"],
        ...["threads=2"],
      ].map((text) => parseOverride(text));
      const losses: (number | null)[] = [];
      let device = "";
      const outcome = await train(loadRunConfig("demo", overrides), {
        onOpen: (name) => device = name,
        hooks: { onStep: ({ loss }) => losses.push(loss) },
      });
      using model = await loadModel("run", { threads: 2 });
      const [{ text, promptTokens }] = await complete(model, "the cat", { maxTokens: 8, seed: 1 });
      console.log(JSON.stringify({ outcome, losses, device, text, promptTokens }));
      `,
    );
    assert.ok(typeof result === "object" && result !== null);
    const { outcome, losses, device, text, promptTokens } = Object(result);
    assert.deepEqual([outcome.isFinished, outcome.step, losses.length], [true, 20, 20]);
    assert.ok(losses[19] < losses[0] - 0.5, `losses ${losses}`);
    assert.match(device, /^cpu:/);
    assert.notEqual(text, "");
    // Models trained here saw no BOS, and their folder says so.
    assert.equal(promptTokens, 2);
  }));
