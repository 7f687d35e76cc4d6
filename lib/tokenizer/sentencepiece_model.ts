// Reads `tokenizer.model`, the protobuf message ModelProto of SentencePiece, as far as byte pair
// encoding needs it. Field numbers: sentencepiece_model.proto of google/sentencepiece. Unknown
// fields are skipped, unsupported settings refused.

import { FormatError } from "../core/errors.ts";
import {
  byteIds,
  byteOfPiece,
  type Literal,
  mergesFromScores,
  type PieceKind,
  type Vocabulary,
} from "./vocabulary.ts";

const MAX_PIECES = 1 << 20;
const BPE = 2;
const KINDS: readonly (PieceKind | undefined)[] = [
  undefined,
  "normal",
  "unknown",
  "control",
  "user-defined",
  "unused",
  "byte",
];

interface Spec {
  readonly pieces: string[];
  readonly kinds: PieceKind[];
  readonly scores: number[];
  modelType: number;
  isSuffixed: boolean;
  hasByteFallback: boolean;
  bosId: number;
  eosId: number;
  charsmapBytes: number;
  addsPrefix: boolean;
  removesSpaces: boolean;
  escapesSpaces: boolean;
}

/**
 * The vocabulary in the bytes of a SentencePiece model.
 * @throws {FormatError} when the bytes are no such model, or not BPE with the identity normalizer.
 */
export function readSentencePieceModel(bytes: Uint8Array, name: string): Vocabulary {
  const fail = (problem: string): never => {
    throw new FormatError(`Cannot load "${name}": ${problem}`);
  };
  const spec = readSpec(new Reader(bytes, fail), fail);
  const { pieces, kinds } = spec;
  check(spec, fail);
  const { merges, bareCharacters } = mergesFromScores(pieces, kinds, spec.scores);
  checkUnused(spec, fail);
  return {
    pieces,
    kinds,
    merges,
    bareCharacters,
    prefix: spec.addsPrefix ? "always" : "never",
    isPrefixSkippedAtSpace: false,
    isSplitAtSpaces: false,
    isUnknownFused: true,
    specialLiterals: literals(spec, ["control", "unknown"]),
    addedLiterals: [],
    userLiterals: literals(spec, ["user-defined"]),
    specialUserLiterals: [],
    unkId: kinds.indexOf("unknown"),
    bosId: spec.bosId,
    eosId: spec.eosId,
    addsBos: true,
  };
}

function literals(spec: Spec, kinds: readonly PieceKind[]): Literal[] {
  return spec.pieces.map((text, id) => ({ text, id })).filter(({ id }) =>
    kinds.includes(spec.kinds[id])
  );
}

function check(spec: Spec, fail: (problem: string) => never): void {
  const { pieces, kinds } = spec;
  if (pieces.length === 0) fail("it has no pieces, expected a SentencePiece model");
  if (spec.modelType !== BPE) fail(`its model type is ${spec.modelType}, expected ${BPE} (BPE)`);
  if (spec.isSuffixed) fail("it treats spaces as suffixes, expected prefixes");
  if (spec.charsmapBytes > 0) {
    fail(`its normalizer has ${spec.charsmapBytes} bytes of rules, expected the identity`);
  }
  if (spec.removesSpaces) fail("it removes extra spaces, expected remove_extra_whitespaces false");
  if (!spec.escapesSpaces) fail("it does not escape spaces, expected escape_whitespaces true");
  if (new Set(pieces).size !== pieces.length) {
    const twice = pieces.find((piece, id) => pieces.indexOf(piece) !== id);
    fail(`piece ${JSON.stringify(twice)} appears twice`);
  }
  const unknowns = kinds.filter((kind) => kind === "unknown").length;
  if (unknowns !== 1) fail(`it has ${unknowns} unknown pieces, expected one`);
  kinds.forEach((kind, id) => {
    if (kind === "byte" && byteOfPiece(pieces[id]) < 0) {
      fail(`byte piece ${id} is ${JSON.stringify(pieces[id])}, expected a name such as <0x0A>`);
    }
  });
  const bytes = byteIds(spec);
  if (spec.hasByteFallback && (bytes === null || bytes.includes(-1))) {
    fail("byte fallback is on and byte pieces are missing, expected all 256");
  }
  if (!spec.hasByteFallback && bytes !== null) {
    fail("it has byte pieces and byte fallback is off, expected both or none");
  }
  for (const [role, id] of [["BOS", spec.bosId], ["EOS", spec.eosId]] as const) {
    if (kinds[id] !== "control") {
      fail(`${role} is piece ${id} of kind ${kinds[id] ?? "none"}, expected a control piece`);
    }
  }
}

/**
 * SentencePiece merges through unused pieces and takes them apart again; nothing that trains Llamas
 * has such a model.
 */
function checkUnused(spec: Spec, fail: (problem: string) => never): void {
  const { pieces, kinds } = spec;
  const kindsIfUsed = kinds.map((kind) => kind === "unused" ? "normal" as const : kind);
  if (!kinds.includes("unused")) return;
  const { merged } = mergesFromScores(pieces, kindsIfUsed, spec.scores).merges;
  const reached = pieces.find((piece, id) =>
    kinds[id] === "unused" && (merged.includes(id) || [...piece].length === 1)
  );
  if (reached !== undefined) {
    fail(`unused piece ${JSON.stringify(reached)} can occur in a text, which is not supported`);
  }
}

function readSpec(reader: Reader, fail: (problem: string) => never): Spec {
  const spec: Spec = {
    pieces: [],
    kinds: [],
    scores: [],
    modelType: 1,
    isSuffixed: false,
    hasByteFallback: false,
    bosId: 1,
    eosId: 2,
    charsmapBytes: 0,
    addsPrefix: true,
    removesSpaces: true,
    escapesSpaces: true,
  };
  reader.fields({
    1: () => readPiece(reader.message(), spec, fail),
    2: () => readTrainerSpec(reader.message(), spec),
    3: () => readNormalizerSpec(reader.message(), spec),
  });
  return spec;
}

function readPiece(reader: Reader, spec: Spec, fail: (problem: string) => never): void {
  const id = spec.pieces.length;
  let piece = "", score = 0, type = 1;
  reader.fields({
    1: () => piece = reader.string(),
    2: () => score = reader.float(),
    3: () => type = reader.integer(),
  });
  const kind = KINDS[type];
  if (id >= MAX_PIECES) fail(`it has more than ${MAX_PIECES} pieces`);
  if (piece === "") fail(`piece ${id} is empty`);
  if (kind === undefined) return fail(`piece ${id} is of type ${type}, expected 1 to 6`);
  if (!Number.isFinite(score)) fail(`piece ${id} has score ${score}, expected a finite number`);
  spec.pieces.push(piece);
  spec.kinds.push(kind);
  spec.scores.push(score);
}

function readTrainerSpec(reader: Reader, spec: Spec): void {
  reader.fields({
    3: () => spec.modelType = reader.integer(),
    24: () => spec.isSuffixed = reader.integer() !== 0,
    35: () => spec.hasByteFallback = reader.integer() !== 0,
    41: () => spec.bosId = reader.integer(),
    42: () => spec.eosId = reader.integer(),
  });
}

function readNormalizerSpec(reader: Reader, spec: Spec): void {
  reader.fields({
    2: () => spec.charsmapBytes = reader.bytes().length,
    3: () => spec.addsPrefix = reader.integer() !== 0,
    4: () => spec.removesSpaces = reader.integer() !== 0,
    5: () => spec.escapesSpaces = reader.integer() !== 0,
  });
}

/** A cursor over one protobuf message. Every read checks the wire type and the end. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #fail: (problem: string) => never;
  #at = 0;
  #wireType = 0;
  /** The low 32 bits of the last varint; negative numbers are stored with all 64. */
  #low = 0;

  constructor(bytes: Uint8Array, fail: (problem: string) => never) {
    this.#bytes = bytes;
    this.#fail = fail;
  }

  /** Calls the handler of each field's number, which reads its value; skips fields without one. */
  fields(handlers: Readonly<Record<number, () => void>>): void {
    while (this.#at < this.#bytes.length) {
      const key = this.#varint();
      this.#wireType = key & 7;
      const handler = handlers[Math.floor(key / 8)];
      if (handler === undefined) this.#skip();
      else handler();
    }
  }

  message(): Reader {
    return new Reader(this.bytes(), this.#fail);
  }

  bytes(): Uint8Array {
    this.#expect(2);
    return this.#take(this.#varint());
  }

  string(): string {
    const bytes = this.bytes();
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.#fail(`a text in it is not valid UTF-8 near byte ${this.#at}`);
    }
  }

  float(): number {
    this.#expect(5);
    const bytes = this.#take(4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
  }

  /**
   * A varint as a signed 32-bit integer, which is how the ids and enums of the model are stored.
   */
  integer(): number {
    this.#expect(0);
    this.#varint();
    return this.#low;
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) {
      this.#fail(
        `a field has wire type ${this.#wireType}, expected ${wireType}; ` +
          "it is not a SentencePiece model",
      );
    }
  }

  #skip(): void {
    switch (this.#wireType) {
      case 0:
        this.#varint();
        return;
      case 1:
        this.#take(8);
        return;
      case 2:
        this.#take(this.#varint());
        return;
      case 5:
        this.#take(4);
        return;
      default:
        this.#fail(`a field has wire type ${this.#wireType}; it is not a SentencePiece model`);
    }
  }

  #take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) {
      this.#fail(
        `a field of ${length} bytes reaches past the end, ${
          this.#bytes.length - this.#at
        } are left`,
      );
    }
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** Up to ten bytes, least significant seven bits first; exact below 2^53. */
  #varint(): number {
    let low = 0, high = 0;
    for (let i = 0; i < 10; i++) {
      if (this.#at >= this.#bytes.length) this.#fail("it ends inside a number");
      const byte = this.#bytes[this.#at++];
      if (i < 4) low |= (byte & 0x7f) << (7 * i);
      else if (i === 4) {
        low |= (byte & 0x0f) << 28;
        high = (byte & 0x7f) >> 4;
      } else high += (byte & 0x7f) * 2 ** (7 * i - 32);
      if (byte >= 128) continue;
      this.#low = low;
      return (low >>> 0) + high * 4294967296;
    }
    return this.#fail("a number in it has more than ten bytes");
  }
}
