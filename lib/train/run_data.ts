// The data of a run: a folder of `tinyllama prepare` or `adopt`, checked against the run's model, as training samples and
// held-out text.

import { basename } from "node:path";
import { FormatError, UsageError } from "../core/errors.ts";
import { HeldOutTokens } from "../data/held_out.ts";
import { SampleLoader } from "../data/loader.ts";
import {
  type Manifest,
  type ManifestSplit,
  partsOf,
  readManifest,
  trainingFingerprint,
} from "../data/manifest.ts";
import { sourceShares } from "../data/mixture.ts";
import { sizeIfThere } from "../io/if_there.ts";
import { PackedTokens } from "../io/packed_stream.ts";
import { packedFileBytes } from "../io/packed_tokens.ts";
import { loadTokenizer, saveTokenizer } from "../tokenizer/tokenizer_folder.ts";
import type { RunConfig } from "./config.ts";
import type { PretrainData, SaveTokenizer } from "./pretrain.ts";

/** Data and tokenizer of a run. Disposing closes the files. */
export interface RunData extends Disposable {
  readonly data: PretrainData;
  readonly saveTokenizer: SaveTokenizer;
}

/**
 * Opens the folder `config.data.path`.
 * @throws {FormatError} when it was not prepared, or a file is missing or has another size than its manifest says.
 * @throws {UsageError} when it does not fit the model, the weights or the sequence length.
 */
export async function openRunData(
  config: Pick<RunConfig, "data" | "model" | "seed">,
): Promise<RunData> {
  const { path: folder, sequenceLength, weights } = config.data;
  const manifest = readManifest(folder);
  const tokenizer = await loadTokenizer(folder);
  if (tokenizer.fingerprint() !== manifest.tokenizer.sha256) {
    throw new FormatError(
      `Cannot open the data in "${folder}": its tokens were made with the tokenizer ` +
        `"${manifest.tokenizer.name}", the one that lies beside them is another`,
    );
  }
  checkModel(manifest, config);
  const sources = manifest.sources.map(({ name, train }) => ({ name, tokens: train.tokens }));
  const shares = sourceShares(sources, weights);
  using opened = new DisposableStack();
  const open = (split: ManifestSplit) => {
    checkSizes(folder, manifest, split);
    return opened.use(new PackedTokens(partsOf(folder, split), manifest.tokenizer.vocab_size));
  };
  const samples = new SampleLoader(
    manifest.sources.map(({ name, train }, i) => ({
      name,
      tokens: open(train),
      share: shares[i],
    })),
    sequenceLength,
    config.seed,
  );
  const heldOut = manifest.sources.filter(({ validation }) => validation.tokens > 1)
    .map(({ name, validation }) => new HeldOutTokens(name, open(validation), sequenceLength));
  const files = opened.move();
  return {
    data: { samples, heldOut, fingerprint: trainingFingerprint(manifest) },
    saveTokenizer: (checkpoint) =>
      saveTokenizer(tokenizer, checkpoint, {
        addBos: false,
        modelMaxLength: config.model.maxSeqLen,
      }),
    [Symbol.dispose]: () => files.dispose(),
  };
}

function checkModel(
  { tokenizer }: Manifest,
  { data, model }: Pick<RunConfig, "data" | "model">,
): void {
  const { name, vocab_size: vocabSize, eos_id: eosId } = tokenizer;
  if (model.vocabSize < vocabSize) {
    throw new UsageError(
      `Cannot train on "${data.path}": model.vocab_size is ${model.vocabSize}, expected at least ` +
        `the ${vocabSize} of its tokenizer "${name}"`,
    );
  }
  if (!model.eosIds.includes(eosId)) {
    throw new UsageError(
      `Cannot train on "${data.path}": model.eos_token_id is ${
        model.eosIds.join(", ")
      }, expected ` +
        `${eosId}, which ends its documents`,
    );
  }
}

/** Finds files that are missing or cut off before the run begins and not when it comes to them. */
function checkSizes(folder: string, { dtype }: Manifest, split: ManifestSplit): void {
  for (const { path, tokens, padding = 0 } of partsOf(folder, split)) {
    const found = sizeIfThere(path);
    const wanted = packedFileBytes({ dtype, tokens: tokens + padding });
    if (found === wanted) continue;
    throw new FormatError(
      `Cannot open the data in "${folder}": "${basename(path)}" ` +
        (found === null ? "is missing" : `has ${found} bytes, expected ${wanted}`),
    );
  }
}
