// Reads Hugging Face's `tokenizer.json` where it describes a Llama tokenizer: BPE over characters
// with byte fallback and U+2581 for spaces. Other kinds (byte-level BPE, WordPiece, Unigram) are
// refused. Layout: huggingface/tokenizers.

import { FormatError } from "../core/errors.ts";
import { PieceIndex } from "./piece_index.ts";
import {
  byteIds,
  byteOfPiece,
  type Literal,
  type Merges,
  mergesFromRows,
  METASPACE,
  type PieceKind,
  type Vocabulary,
} from "./vocabulary.ts";

const MAX_PIECES = 1 << 20;

type Json = Readonly<Record<string, unknown>>;
type Preparation = Pick<
  Vocabulary,
  "prefix" | "isPrefixSkippedAtSpace" | "isSplitAtSpaces"
>;
type Fail = (problem: string) => never;

/**
 * What `tokenizer_config.json` adds: the names of BOS and EOS, and whether a prompt begins with
 * BOS.
 */
export interface TokenizerConfig {
  readonly bosToken: string;
  readonly eosToken: string;
  readonly addsBos: boolean;
}

/**
 * The vocabulary in the text of a `tokenizer.json`. Added tokens that are normalized with a prefix match only behind a
 * space or at the start, special ones too: so do Hugging Face tokenizers, which look for them in the normalized text.
 * @throws {FormatError} when it is not JSON, not a Llama tokenizer, or has a setting that would
 * change ids.
 */
export function readTokenizerJson(text: string, name: string, config: TokenizerConfig): Vocabulary {
  const fail: Fail = (problem) => {
    throw new FormatError(`Cannot load "${name}": ${problem}`);
  };
  const root = parseObject(text, fail);
  const model = objectAt(root, "model", fail);
  checkModel(model, root, fail);
  const preparation = readPreparation(root, fail);
  const pieces = readPieces(objectAt(model, "vocab", fail), fail);
  const merges = readMerges(model["merges"], pieces, fail);
  const hasByteFallback = model["byte_fallback"] === true;
  const kinds = pieces.map((piece): PieceKind => {
    if (piece === "") return "unused";
    return hasByteFallback && byteOfPiece(piece) >= 0 ? "byte" : "normal";
  });
  const hasPrefixInText = preparation.prefix === "always" && !preparation.isPrefixSkippedAtSpace;
  const added = readAddedTokens(root["added_tokens"], pieces, kinds, hasPrefixInText, fail);
  const unkToken = model["unk_token"] ?? null;
  const unkId = typeof unkToken === "string" ? pieces.indexOf(unkToken) : -1;
  if (unkId >= 0) kinds[unkId] = "unknown";
  const bytes = byteIds({ pieces, kinds });
  if (hasByteFallback && (bytes === null || bytes.includes(-1))) {
    fail("byte_fallback is on and byte pieces are missing, expected all 256");
  }
  if (!hasByteFallback && unkId < 0) fail("it has neither byte_fallback nor an unk_token");
  for (const column of [merges.left, merges.right]) {
    const merging = column.find((id) => kinds[id] === "byte");
    if (merging !== undefined) fail(`byte piece ${pieces[merging]} takes part in a merge`);
  }
  return {
    pieces,
    kinds,
    merges,
    bareCharacters: [],
    ...preparation,
    isUnknownFused: model["fuse_unk"] === true,
    ...added,
    unkId,
    bosId: idOfToken(config.bosToken, "bos_token", pieces, fail),
    eosId: idOfToken(config.eosToken, "eos_token", pieces, fail),
    addsBos: config.addsBos,
  };
}

/**
 * Reads the text of a `tokenizer_config.json`; null means there is no such file and gives Llama's
 * values.
 * @throws {FormatError} when it is not JSON or the settings have other types.
 */
export function readTokenizerConfig(text: string | null, name: string): TokenizerConfig {
  const fail: Fail = (problem) => {
    throw new FormatError(`Cannot load "${name}": ${problem}`);
  };
  const config = text === null ? {} : parseObject(text, fail);
  const addsBos = config["add_bos_token"] ?? true;
  if (typeof addsBos !== "boolean") {
    fail(`add_bos_token is ${describe(addsBos)}, expected true or false`);
  }
  const token = (key: string, otherwise: string): string => {
    const value = config[key] ?? otherwise;
    const content = isObject(value) ? value["content"] : value;
    return typeof content === "string" ? content : fail(`${key} is not a token, expected a string`);
  };
  return {
    bosToken: token("bos_token", "<s>"),
    eosToken: token("eos_token", "</s>"),
    addsBos: addsBos === true,
  };
}

function idOfToken(token: string, role: string, pieces: readonly string[], fail: Fail): number {
  const id = pieces.indexOf(token);
  return id >= 0 ? id : fail(`${role} ${JSON.stringify(token)} is not in the vocabulary`);
}

function checkModel(model: Json, root: Json, fail: Fail): void {
  // Files of old versions leave the type out.
  const type = model["type"] ?? "BPE";
  if (type !== "BPE") fail(`its model is ${describe(type)}, expected "BPE" over characters`);
  for (const part of ["pre_tokenizer", "decoder"]) {
    if (JSON.stringify(root[part] ?? null).includes('"ByteLevel"')) {
      fail("it is a byte-level BPE (GPT-2's kind), expected Llama's BPE with byte_fallback");
    }
  }
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if ((model[key] ?? "") !== "") fail(`model.${key} is ${describe(model[key])}, expected null`);
  }
  if ((model["dropout"] ?? 0) !== 0) {
    fail(`model.dropout is ${describe(model["dropout"])}, expected null`);
  }
  if (model["ignore_merges"] === true) fail("model.ignore_merges is true, expected false");
}

/**
 * Accepts the normalizer Prepend + Replace of older files and the pre-tokenizer Metaspace of newer
 * ones.
 */
function readPreparation(root: Json, fail: Fail): Preparation {
  const normalizer = root["normalizer"] ?? null, preTokenizer = root["pre_tokenizer"] ?? null;
  const steps = isObject(normalizer) && normalizer["type"] === "Sequence"
    ? arrayAt(normalizer, "normalizers", fail)
    : normalizer === null
    ? []
    : [normalizer];
  let isPrefixed = false, isReplaced = false;
  for (const step of steps) {
    if (!isObject(step)) return fail(`a normalizer is ${describe(step)}, expected an object`);
    const pattern = step["pattern"];
    if (step["type"] === "Prepend" && step["prepend"] === METASPACE) isPrefixed = true;
    else if (
      step["type"] === "Replace" && isObject(pattern) && pattern["String"] === " " &&
      step["content"] === METASPACE
    ) isReplaced = true;
    else {
      fail(`its normalizer does ${describe(step)}, expected Prepend "▁" and Replace " " by "▁"`);
    }
  }
  if (preTokenizer === null) {
    if (!isReplaced) fail(`neither normalizer nor pre_tokenizer turns spaces into "▁"`);
    return {
      prefix: isPrefixed ? "always" : "never",
      isPrefixSkippedAtSpace: false,
      isSplitAtSpaces: false,
    };
  }
  if (
    !isObject(preTokenizer) || preTokenizer["type"] !== "Metaspace" ||
    preTokenizer["replacement"] !== METASPACE
  ) {
    return fail(`its pre_tokenizer is ${describe(preTokenizer)}, expected Metaspace with "▁"`);
  }
  if (isPrefixed) fail("both its normalizer and its pre_tokenizer add a prefix");
  const scheme = preTokenizer["prepend_scheme"] ??
    (preTokenizer["add_prefix_space"] === false ? "never" : "always");
  if (scheme !== "always" && scheme !== "first" && scheme !== "never") {
    return fail(`prepend_scheme is ${describe(scheme)}, expected always, first or never`);
  }
  return {
    prefix: scheme,
    isPrefixSkippedAtSpace: true,
    isSplitAtSpaces: preTokenizer["split"] !== false,
  };
}

function readPieces(vocab: Json, fail: Fail): string[] {
  const names = Object.keys(vocab);
  const pieces = new Array<string>(names.length).fill("");
  for (const piece of names) placePiece(pieces, piece, vocab[piece], fail);
  fillHoles(pieces);
  return pieces;
}

/** Ids that nothing names get the empty piece. */
function fillHoles(pieces: string[]): void {
  for (let id = 0; id < pieces.length; id++) pieces[id] ??= "";
}

function placePiece(pieces: string[], piece: string, id: unknown, fail: Fail): number {
  if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= MAX_PIECES) {
    return fail(
      `piece ${JSON.stringify(piece)} has id ${describe(id)}, expected 0 to ${MAX_PIECES - 1}`,
    );
  }
  if ((pieces[id] ?? "") !== "" && pieces[id] !== piece) {
    fail(`pieces ${JSON.stringify(pieces[id])} and ${JSON.stringify(piece)} both have id ${id}`);
  }
  if (!piece.isWellFormed()) fail(`piece ${id} is not valid Unicode`);
  pieces[id] = piece;
  return id;
}

function readMerges(list: unknown, pieces: readonly string[], fail: Fail): Merges {
  if (!Array.isArray(list)) return fail(`model.merges is ${describe(list)}, expected a list`);
  if (list.length > 2 * MAX_PIECES) fail(`it has ${list.length} merges, too many`);
  const index = new PieceIndex(pieces.length);
  pieces.forEach((piece, id) => {
    if (piece !== "") index.add(piece, id);
  });
  const rows: number[] = [];
  list.forEach((merge: unknown, rank) => {
    const [first, second] = partsOf(merge) ??
      fail(`merge ${rank} is ${describe(merge)}, expected two pieces`);
    const text = first + second, cut = first.length;
    const left = index.find(text, 0, cut), right = index.find(text, cut, text.length);
    const merged = index.find(text, 0, text.length);
    if (left < 0 || right < 0 || merged < 0) {
      return fail(`merge ${rank}, ${describe(merge)}, names a piece that is not in the vocabulary`);
    }
    rows.push(left, right, merged, rank);
  });
  return mergesFromRows(rows);
}

/** The two pieces of a merge, written as "a b" or as ["a", "b"]; null for anything else. */
function partsOf(merge: unknown): readonly [string, string] | null {
  if (typeof merge === "string") {
    const space = merge.indexOf(" ");
    if (space < 0 || merge.includes(" ", space + 1)) return null;
    return [merge.slice(0, space), merge.slice(space + 1)];
  }
  if (!Array.isArray(merge) || merge.length !== 2) return null;
  const [first, second]: unknown[] = merge;
  return typeof first === "string" && typeof second === "string" ? [first, second] : null;
}

/**
 * Adds the added tokens to pieces and kinds, and sorts them. A normalizer that puts a prefix in front of the text does so
 * to normalized tokens as well: they then take the space before them along, and the text goes on behind them.
 */
function readAddedTokens(
  list: unknown,
  pieces: string[],
  kinds: PieceKind[],
  hasPrefixInText: boolean,
  fail: Fail,
): Pick<
  Vocabulary,
  "specialLiterals" | "addedLiterals" | "userLiterals" | "specialUserLiterals"
> {
  const specialLiterals: Literal[] = [],
    addedLiterals: Literal[] = [],
    userLiterals: Literal[] = [],
    specialUserLiterals: Literal[] = [];
  if (list !== undefined && list !== null && !Array.isArray(list)) {
    return fail(`added_tokens is ${describe(list)}, expected a list`);
  }
  for (const token of list ?? []) {
    const text = isObject(token) ? token["content"] : undefined;
    if (!isObject(token) || typeof text !== "string" || text === "") {
      return fail(`added token ${describe(token)} has no content`);
    }
    for (const flag of ["single_word", "lstrip", "rstrip"]) {
      if (token[flag] === true) {
        fail(`added token ${JSON.stringify(text)} has ${flag}, which is not supported`);
      }
    }
    const id = placePiece(pieces, text, token["id"], fail);
    const isSpecial = token["special"] === true;
    kinds[id] = isSpecial ? "control" : "user-defined";
    if (token["normalized"] === true && hasPrefixInText) {
      (isSpecial ? specialUserLiterals : userLiterals).push({ text: METASPACE + text, id });
    } else {
      (isSpecial ? specialLiterals : addedLiterals).push({ text, id });
    }
  }
  fillHoles(pieces);
  for (let id = 0; id < pieces.length; id++) kinds[id] ??= "unused";
  return { specialLiterals, addedLiterals, userLiterals, specialUserLiterals };
}

function parseObject(text: string, fail: Fail): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return fail(`it is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  return isObject(value) ? value : fail(`it holds ${describe(value)}, expected an object`);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectAt(parent: Json, key: string, fail: Fail): Json {
  const value = parent[key];
  return isObject(value) ? value : fail(`${key} is ${describe(value)}, expected an object`);
}

function arrayAt(parent: Json, key: string, fail: Fail): readonly unknown[] {
  const value = parent[key];
  return Array.isArray(value) ? value : fail(`${key} is ${describe(value)}, expected a list`);
}

/** A JSON value, short enough for a message. */
function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
