// A tokenizer's files in a model folder: loads `tokenizer.json` or `tokenizer.model`, writes the
// former for transformers.

import { FormatError, UnsupportedError } from "../core/errors.ts";
import { readSentencePieceModel } from "./sentencepiece_model.ts";
import { Tokenizer } from "./tokenizer.ts";
import { readTokenizerConfig, readTokenizerJson } from "./tokenizer_json.ts";
import { type Literal, METASPACE, type Vocabulary } from "./vocabulary.ts";

/** Either of these makes a folder one with a tokenizer. */
export const TOKENIZER_FILES: readonly string[] = ["tokenizer.json", "tokenizer.model"];

/**
 * Loads the tokenizer of a model folder. Where both are there, `tokenizer.json` is read, as by
 * transformers: it alone has the tokens that were added after training, such as those of chats.
 * Whether prompts begin with BOS is taken from `tokenizer_config.json`, true where that says nothing.
 * @throws {FormatError} when neither file is there or the one read is not a Llama tokenizer.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const configPath = `${folder}/tokenizer_config.json`;
  const configBytes = await readIfThere(configPath);
  const utf8 = new TextDecoder();
  const config = readTokenizerConfig(
    configBytes === null ? null : utf8.decode(configBytes),
    configPath,
  );
  const modelPath = `${folder}/tokenizer.model`, jsonPath = `${folder}/tokenizer.json`;
  const json = await readIfThere(jsonPath);
  if (json !== null) return new Tokenizer(readTokenizerJson(utf8.decode(json), jsonPath, config));
  const model = await readIfThere(modelPath);
  if (model !== null) {
    return new Tokenizer({
      ...readSentencePieceModel(model, modelPath),
      addsBos: config.addsBos,
    });
  }
  const isThere = await Deno.stat(folder).then((entry) => entry.isDirectory, () => false);
  throw new FormatError(
    `Cannot load a tokenizer from "${folder}": ` +
      (isThere
        ? "found neither tokenizer.json nor tokenizer.model"
        : "there is no such folder; expected one with tokenizer.json or tokenizer.model"),
  );
}

/** What of a saved tokenizer is not in its vocabulary. */
export interface SaveOptions {
  /** What transformers does by default with a prompt; false for models trained without BOS. */
  readonly addBos: boolean;
  /** The context length, in tokens. */
  readonly modelMaxLength: number;
}

/**
 * Writes `tokenizer.json` and `tokenizer_config.json` such that transformers' AutoTokenizer gives
 * the same ids.
 * @throws {UnsupportedError} for a vocabulary that merges characters which are no pieces; only
 * SentencePiece can.
 */
export async function saveTokenizer(
  tokenizer: Tokenizer,
  folder: string,
  options: SaveOptions,
): Promise<void> {
  const { vocabulary } = tokenizer;
  if (vocabulary.bareCharacters.length > 0) {
    throw new UnsupportedError(
      `Cannot write tokenizer.json: ${vocabulary.bareCharacters.length} characters such as ` +
        `${JSON.stringify(vocabulary.bareCharacters[0])} are merged without being pieces`,
    );
  }
  await Deno.writeTextFile(`${folder}/tokenizer.json`, tokenizerJson(vocabulary, options));
  await Deno.writeTextFile(
    `${folder}/tokenizer_config.json`,
    tokenizerConfigJson(vocabulary, options),
  );
}

function tokenizerJson(vocabulary: Vocabulary, options: SaveOptions): string {
  const { pieces, kinds, specialLiterals, addedLiterals, userLiterals, specialUserLiterals } =
    vocabulary;
  const added = (literal: Literal, special: boolean) => ({
    id: literal.id,
    content: pieces[literal.id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: literal.text !== pieces[literal.id],
    special,
  });
  const vocab = Object.fromEntries(
    pieces.map((piece, id) => [piece, id] as const).filter(([piece]) => piece !== ""),
  );
  return JSON.stringify({
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      ...[...specialLiterals, ...specialUserLiterals].map((literal) => added(literal, true)),
      ...[...addedLiterals, ...userLiterals].map((literal) => added(literal, false)),
    ].sort((a, b) => a.id - b.id),
    ...preparationJson(vocabulary),
    post_processor: postProcessorJson(vocabulary, options.addBos),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: METASPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(vocabulary.prefix === "never"
          ? []
          : [{ type: "Strip", content: " ", start: 1, stop: 0 }]),
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: vocabulary.unkId < 0 ? null : pieces[vocabulary.unkId],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: vocabulary.isUnknownFused,
      byte_fallback: kinds.includes("byte"),
      ignore_merges: false,
      vocab,
      merges: orderedMerges(vocabulary),
    },
  });
}

function preparationJson(vocabulary: Vocabulary): Record<string, unknown> {
  if (vocabulary.isPrefixSkippedAtSpace) {
    return {
      normalizer: null,
      pre_tokenizer: {
        type: "Metaspace",
        replacement: METASPACE,
        prepend_scheme: vocabulary.prefix,
        split: vocabulary.isSplitAtSpaces,
      },
    };
  }
  const replace = { type: "Replace", pattern: { String: " " }, content: METASPACE };
  const prepend = { type: "Prepend", prepend: METASPACE };
  return {
    normalizer: vocabulary.prefix === "never"
      ? replace
      : { type: "Sequence", normalizers: [prepend, replace] },
    pre_tokenizer: null,
  };
}

function postProcessorJson(vocabulary: Vocabulary, addBos: boolean): unknown {
  const bos = vocabulary.pieces[vocabulary.bosId];
  const first = { Sequence: { id: "A", type_id: 0 } };
  const second = { Sequence: { id: "B", type_id: 1 } };
  if (!addBos) {
    return {
      type: "TemplateProcessing",
      single: [first],
      pair: [first, second],
      special_tokens: {},
    };
  }
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: bos, type_id: 0 } }, first],
    pair: [
      { SpecialToken: { id: bos, type_id: 0 } },
      first,
      { SpecialToken: { id: bos, type_id: 1 } },
      second,
    ],
    special_tokens: { [bos]: { id: bos, ids: [vocabulary.bosId], tokens: [bos] } },
  };
}

/**
 * Merges by rank. Hugging Face has no equal ranks; among them the ids of the left part decide, as
 * in its own converter.
 */
function orderedMerges(vocabulary: Vocabulary): string[] {
  const { pieces, merges: { left, right, rank } } = vocabulary;
  const order = Int32Array.from(left, (_, i) => i).sort((a, b) =>
    rank[a] - rank[b] || left[a] - left[b] || right[a] - right[b]
  );
  return Array.from(order, (i) => `${pieces[left[i]]} ${pieces[right[i]]}`);
}

function tokenizerConfigJson(vocabulary: Vocabulary, options: SaveOptions): string {
  const { pieces, bosId, eosId, unkId, prefix } = vocabulary;
  const config = {
    // Not LlamaTokenizer: from version 5 on that class builds its own pre-tokenizer, which gives
    // texts that begin with a space no prefix, instead of taking the one in tokenizer.json.
    tokenizer_class: "PreTrainedTokenizerFast",
    legacy: prefix === "always",
    add_bos_token: options.addBos,
    add_eos_token: false,
    bos_token: pieces[bosId],
    eos_token: pieces[eosId],
    unk_token: unkId < 0 ? null : pieces[unkId],
    pad_token: null,
    model_max_length: options.modelMaxLength,
    clean_up_tokenization_spaces: false,
  };
  return JSON.stringify(config, null, 2) + "\n";
}

async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
