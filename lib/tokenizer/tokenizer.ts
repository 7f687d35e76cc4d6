// Text to ids and back: a vocabulary with its encoder and decoder. Prefix, literals, BOS and EOS
// are put in here.

import { createHash } from "node:crypto";
import { type DecodeOptions, Decoder, type StreamDecoder } from "./decoder.ts";
import { Encoder } from "./encoder.ts";
import { llamaVocabulary } from "./llama_vocabulary.ts";
import { LiteralSet } from "./literals.ts";
import { PairTable } from "./pair_table.ts";
import { type Literal, METASPACE, type Vocabulary } from "./vocabulary.ts";

const SPACE = 0x20;
/** Scratch memory for texts up to this many bytes is kept between calls. */
const KEPT_BYTES = 1 << 22;
/** Ids beyond one per byte: the prefix, BOS and EOS. */
const EXTRA_IDS = 3;

/** What `encode` adds and recognises; all default to false. */
export interface EncodeOptions {
  readonly addBos?: boolean;
  readonly addEos?: boolean;
  /**
   * Control tokens spelled out in the text, such as `</s>`, become their ids; otherwise they are
   * plain text.
   */
  readonly parseSpecial?: boolean;
  /**
   * U+2581 in the text becomes byte pieces, so that every text survives the round trip. Otherwise
   * it is a space, as in SentencePiece and Hugging Face tokenizers, and decodes to one.
   */
  readonly keepsMetaspace?: boolean;
}

/**
 * Encodes and decodes with one vocabulary. Owns caches and scratch memory: one tokenizer serves one
 * thread.
 */
export class Tokenizer {
  readonly vocabulary: Vocabulary;
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly #pairs: PairTable;
  readonly #encoder: Encoder;
  readonly #decoder: Decoder;
  readonly #outerLiterals: LiteralSet;
  readonly #outerAndSpecialLiterals: LiteralSet;
  readonly #userLiterals: LiteralSet;
  readonly #userAndSpecialLiterals: LiteralSet;
  readonly #utf8 = new TextEncoder();
  #keepingEncoder: Encoder | null = null;
  #text = new Uint8Array(1 << 12);
  #ids = new Int32Array(1 << 12);

  constructor(vocabulary: Vocabulary) {
    this.vocabulary = vocabulary;
    this.vocabSize = vocabulary.pieces.length;
    this.bosId = vocabulary.bosId;
    this.eosId = vocabulary.eosId;
    this.#pairs = new PairTable(vocabulary.merges);
    this.#encoder = new Encoder(vocabulary, this.#pairs, false);
    this.#decoder = new Decoder(vocabulary);
    this.#outerLiterals = new LiteralSet(vocabulary.addedLiterals);
    this.#outerAndSpecialLiterals = new LiteralSet([
      ...vocabulary.addedLiterals,
      ...vocabulary.specialLiterals,
    ]);
    const { userLiterals, specialUserLiterals } = vocabulary;
    this.#userLiterals = withSpaces(userLiterals);
    this.#userAndSpecialLiterals = withSpaces([...userLiterals, ...specialUserLiterals]);
  }

  /** Steps of the merge loop so far: what encoding cost, independent of the machine. */
  get steps(): number {
    return this.#encoder.steps;
  }

  /**
   * The ids of a text. Bytes need not be valid UTF-8: what is not becomes byte pieces. A string's
   * lone surrogates become U+FFFD, as everywhere in the web platform.
   */
  encode(text: string | Uint8Array, options: EncodeOptions = {}): Int32Array<ArrayBuffer> {
    const length = this.#take(text);
    if (this.#ids.length < length + EXTRA_IDS) this.#ids = new Int32Array(length + EXTRA_IDS);
    const ids = this.#ids.slice(0, this.#encodeTaken(length, this.#ids, 0, options));
    this.#shrink();
    return ids;
  }

  /**
   * As `encode`, into `ids` from `at` on, without allocating; returns the position after the last
   * id.
   * @throws {RangeError} unless `ids` has room for one id a byte and three more.
   */
  encodeInto(
    text: string | Uint8Array,
    ids: Int32Array,
    at: number,
    options: EncodeOptions = {},
  ): number {
    const length = this.#take(text);
    if (ids.length - at < length + EXTRA_IDS) {
      throw new RangeError(
        `Cannot encode ${length} bytes into ${ids.length - at} ids: expected room for ${
          length + EXTRA_IDS
        }`,
      );
    }
    const end = this.#encodeTaken(length, ids, at, options);
    this.#shrink();
    return end;
  }

  /**
   * The text of ids; bytes that are not UTF-8 become U+FFFD. Throws RangeError for an id outside
   * the vocabulary.
   */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.decodeBytes(ids, options));
  }

  /**
   * The bytes of ids: exactly those that were encoded. Throws RangeError for an id outside the
   * vocabulary.
   */
  decodeBytes(ids: ArrayLike<number>, options: DecodeOptions = {}): Uint8Array<ArrayBuffer> {
    return this.#decoder.decodeBytes(ids, options);
  }

  /** Decodes ids that arrive one by one, never splitting a character. */
  streamDecoder(options: DecodeOptions = {}): StreamDecoder {
    return this.#decoder.stream(options);
  }

  /**
   * SHA-256 in hex of all pieces and their kinds: equal for the same vocabulary from different
   * files.
   */
  fingerprint(): string {
    const { pieces, kinds } = this.vocabulary;
    const rows = pieces.map((piece, id) => JSON.stringify([piece, kinds[id]]));
    return createHash("sha256").update(rows.join("\n")).digest("hex");
  }

  /** Copies a text behind a space, which is there to be its prefix. Returns its length in bytes. */
  #take(text: string | Uint8Array): number {
    const room = typeof text === "string" ? text.length * 3 : text.length;
    if (this.#text.length < room + 1) this.#text = new Uint8Array(room + 1);
    this.#text[0] = SPACE;
    if (typeof text === "string") {
      return this.#utf8.encodeInto(text, this.#text.subarray(1)).written;
    }
    this.#text.set(text, 1);
    return text.length;
  }

  #shrink(): void {
    if (this.#text.length > KEPT_BYTES) this.#text = new Uint8Array(KEPT_BYTES);
    if (this.#ids.length > KEPT_BYTES) this.#ids = new Int32Array(KEPT_BYTES);
  }

  /**
   * Encodes what `#take` took: cuts at literals that restart the text, puts prefixes in front of
   * the rest.
   */
  #encodeTaken(length: number, ids: Int32Array, start: number, options: EncodeOptions): number {
    const { parseSpecial } = options;
    const literals = parseSpecial ? this.#outerAndSpecialLiterals : this.#outerLiterals;
    const inner = parseSpecial ? this.#userAndSpecialLiterals : this.#userLiterals;
    const encoder = options.keepsMetaspace ? this.#encoderThatKeeps() : this.#encoder;
    const end = length + 1;
    let at = start;
    if (options.addBos) ids[at++] = this.bosId;
    for (let from = 1; from < end;) {
      const literal = literals.isEmpty ? null : literals.find(this.#text, from, end);
      const to = literal === null ? end : literal.start;
      if (to > from) at = this.#encodeStretch(encoder, inner, from, to, ids, at);
      if (literal === null) break;
      ids[at++] = literal.id;
      from = literal.end;
    }
    if (options.addEos) ids[at++] = this.eosId;
    return at;
  }

  /** One stretch between such literals, with its prefix; the literals `inner` inside it stay whole. */
  #encodeStretch(
    encoder: Encoder,
    inner: LiteralSet,
    start: number,
    end: number,
    ids: Int32Array,
    at: number,
  ): number {
    const text = this.#text;
    let from = start;
    if (this.#hasPrefix(start, end)) {
      // The byte before belongs to nothing any more: it is the one kept free or the end of the
      // literal just passed.
      text[--from] = SPACE;
    }
    if (inner.isEmpty) return encoder.encode(text, from, end, ids, at);
    const last = encoder === this.#keepingEncoder ? end : foldMetaspaces(text, from, end);
    while (from < last) {
      const literal = inner.find(text, from, last);
      at = encoder.encode(text, from, literal === null ? last : literal.start, ids, at);
      if (literal === null) break;
      ids[at++] = literal.id;
      from = literal.end;
    }
    return at;
  }

  #hasPrefix(start: number, end: number): boolean {
    const { prefix, isPrefixSkippedAtSpace } = this.vocabulary;
    if (prefix === "never" || (prefix === "first" && start > 1)) return false;
    if (!isPrefixSkippedAtSpace) return true;
    return this.#text[start] !== SPACE && !isMetaspace(this.#text, start, end);
  }

  #encoderThatKeeps(): Encoder {
    this.#keepingEncoder ??= new Encoder(this.vocabulary, this.#pairs, true);
    return this.#keepingEncoder;
  }
}

/** Literals as they stand in a text whose spaces are spaces. */
function withSpaces(literals: readonly Literal[]): LiteralSet {
  return new LiteralSet(
    literals.map(({ text, id }) => ({ text: text.replaceAll(METASPACE, " "), id })),
  );
}

/** Puts a space in place of every U+2581 from `start` to `end`; returns the new end. */
function foldMetaspaces(bytes: Uint8Array, start: number, end: number): number {
  let to = start;
  for (let from = start; from < end; to++) {
    const isFolded = isMetaspace(bytes, from, end);
    bytes[to] = isFolded ? SPACE : bytes[from];
    from += isFolded ? 3 : 1;
  }
  return to;
}

function isMetaspace(bytes: Uint8Array, at: number, end: number): boolean {
  return at + 3 <= end && bytes[at] === 0xe2 && bytes[at + 1] === 0x96 && bytes[at + 2] === 0x81;
}

/** The tokenizer of Llama 2 and TinyLlama, which needs no file. */
export async function llamaTokenizer(): Promise<Tokenizer> {
  return new Tokenizer(await llamaVocabulary());
}
