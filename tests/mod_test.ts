// The public API as a script outside the program uses it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { writeTextModel } from "./generate/generating_setup.ts";

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

Deno.test("a script loads a folder, tokenizes, computes logits and generates", async () => {
  const folder = Deno.makeTempDirSync();
  try {
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
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
