// Makes what check_checkpoint.py compares: two tiny runs (tied and untied head), each with a checkpoint, and our logits of
// its last step beside it. Not a test: needs Python for the second half.
//
//   deno run -A tests/golden/check_checkpoint.ts FOLDER && python tests/golden/check_checkpoint.py FOLDER

import { join } from "node:path";
import { openBackend } from "../../lib/backend/open.ts";
import { loadModel } from "../../lib/generate/load_model.ts";
import { computeLogits } from "../../lib/generate/logits.ts";
import { llamaTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { saveTokenizer } from "../../lib/tokenizer/tokenizer_folder.ts";
import { loadRunConfig } from "../../lib/train/config.ts";
import { parseOverride } from "../../lib/train/yaml_file.ts";
import { pretrain } from "../../lib/train/pretrain.ts";
import { congruentialSamples } from "../train/training_setup.ts";

async function makeCheckpoint(output: string, tieWordEmbeddings: boolean): Promise<void> {
  const overrides = [
    "model=tiny",
    "data.sequence_length=64",
    "batch_tokens=512",
    "horizon.steps=30",
  ];
  const { config: run, yaml } = loadRunConfig(
    "configs/train/demo.yaml",
    [...overrides, `run.output=${output}`].map((text) => parseOverride(text)),
  );
  const config = { ...run, model: { ...run.model, tieWordEmbeddings } };
  using backend = await openBackend({ device: "cpu", threads: 2, matmul: "f32" });
  const samples = congruentialSamples(1000, config.data.sequenceLength);
  const tokenizer = await llamaTokenizer();
  const { checkpoint } = await pretrain({
    run: { config, yaml },
    backend,
    data: { samples: { ...samples, describe: String }, heldOut: [], fingerprint: "rule" },
    saveTokenizer: (folder) =>
      saveTokenizer(tokenizer, folder, { addBos: false, modelMaxLength: config.model.maxSeqLen }),
    start: null,
  });
  if (checkpoint === null) throw new Error("The run ended without a checkpoint");
  using loaded = await loadModel(backend, checkpoint.folder, { weights: "stored" });
  const text = "The quick brown fox jumps over the lazy dog";
  const ids = Int32Array.from(tokenizer.encode(text));
  const logits = await computeLogits(loaded.model, ids);
  Deno.writeTextFileSync(
    join(output, "ours.json"),
    JSON.stringify({ folder: checkpoint.folder, text, ids: [...ids], logits: [...logits] }),
  );
}

if (import.meta.main) {
  const [folder] = Deno.args;
  await makeCheckpoint(join(folder, "tied"), true);
  await makeCheckpoint(join(folder, "untied"), false);
}
