// Ids to bytes and text. Exact: byte pieces give their byte, U+2581 in a piece gives a space, and
// of the prefix the encoder put in front exactly one space is taken away. Not a normaliser: no
// clean-up of spaces before punctuation.

import { byteOfPiece, METASPACE, type Vocabulary } from "./vocabulary.ts";

/** How SentencePiece spells the unknown piece. */
const UNKNOWN_TEXT = " \u2047 ";

/** What a decoder does with control tokens and with the first space. */
export interface DecodeOptions {
  /** Spell control tokens out, such as `</s>`, instead of leaving them out. Default false. */
  readonly special?: boolean;
  /** The ids go on from earlier ones, so the space of their first piece is kept. Default false. */
  readonly isContinuation?: boolean;
}

/** Turns ids into text one at a time; see {@linkcode Decoder.stream}. */
export interface StreamDecoder {
  /** The text that is complete with this id: possibly empty, never half a character. */
  push(id: number): string;
  /** What is left at the end; an unfinished character becomes U+FFFD. */
  flush(): string;
}

/** The bytes of every piece, laid end to end. */
export class Decoder {
  readonly #vocabulary: Vocabulary;
  readonly #bytes: Uint8Array;
  readonly #offsets: Int32Array;

  constructor(vocabulary: Vocabulary) {
    const { pieces, kinds } = vocabulary;
    const texts = pieces.map((piece, id) => {
      // Bytes from 128 up are no text of one byte; they get theirs below.
      if (kinds[id] === "byte") return "\0";
      if (kinds[id] === "unknown") return UNKNOWN_TEXT;
      return kinds[id] === "control" ? piece : piece.replaceAll(METASPACE, " ");
    });
    this.#vocabulary = vocabulary;
    this.#bytes = new TextEncoder().encode(texts.join(""));
    this.#offsets = new Int32Array(pieces.length + 1);
    for (let id = 0; id < pieces.length; id++) {
      this.#offsets[id + 1] = this.#offsets[id] + utf8Length(texts[id]);
      if (kinds[id] === "byte") this.#bytes[this.#offsets[id]] = byteOfPiece(pieces[id]);
    }
  }

  /**
   * The bytes that ids stand for.
   * @throws {RangeError} for an id outside the vocabulary.
   */
  decodeBytes(ids: ArrayLike<number>, options: DecodeOptions = {}): Uint8Array<ArrayBuffer> {
    let length = 0;
    for (let i = 0; i < ids.length; i++) {
      this.#check(ids[i]);
      length += this.#offsets[ids[i] + 1] - this.#offsets[ids[i]];
    }
    const out = new Uint8Array(length);
    let at = 0;
    let isAtStart = this.#stripsPrefix(options);
    for (let i = 0; i < ids.length; i++) {
      const part = this.#part(ids[i], isAtStart, options.special ?? false);
      if (part === null) continue;
      out.set(part, at);
      at += part.length;
      isAtStart = false;
    }
    return out.slice(0, at);
  }

  /** A decoder for ids that arrive one by one. Its pieces together are `decode` of all ids. */
  stream(options: DecodeOptions = {}): StreamDecoder {
    const text = new TextDecoder("utf-8", { ignoreBOM: true });
    let isAtStart = this.#stripsPrefix(options);
    return {
      push: (id) => {
        this.#check(id);
        const part = this.#part(id, isAtStart, options.special ?? false);
        if (part === null) return "";
        isAtStart = false;
        return text.decode(part, { stream: true });
      },
      flush: () => text.decode(),
    };
  }

  #stripsPrefix(options: DecodeOptions): boolean {
    return this.#vocabulary.prefix !== "never" && !(options.isContinuation ?? false);
  }

  /** The bytes of one id, or null for a control token that is left out. */
  #part(id: number, isAtStart: boolean, special: boolean): Uint8Array | null {
    const kind = this.#vocabulary.kinds[id];
    if (kind === "control" && !special) return null;
    const start = this.#offsets[id];
    const isPrefixed = isAtStart && kind !== "byte" && kind !== "unknown" &&
      this.#bytes[start] === 0x20;
    return this.#bytes.subarray(isPrefixed ? start + 1 : start, this.#offsets[id + 1]);
  }

  #check(id: number): void {
    const { pieces } = this.#vocabulary;
    if (!Number.isInteger(id) || id < 0 || id >= pieces.length) {
      throw new RangeError(
        `Cannot decode token ${id}: expected an id from 0 to ${pieces.length - 1}`,
      );
    }
  }
}

/** Bytes of a text in UTF-8. A surrogate pair counts two twice, which is its four. */
function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) length += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return length;
}
