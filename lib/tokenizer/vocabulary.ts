// What a tokenizer knows, whatever file it came from: pieces, their kinds, the merges between them
// and how text is prepared. Plain data; encoder.ts and decoder.ts turn it into tables. The rules
// are those of SentencePiece's BPE.

import { PieceIndex } from "./piece_index.ts";

/** The character that stands for a space inside pieces, U+2581. */
export const METASPACE = "\u2581";

/** What a piece is for. The names follow SentencePiece's piece types. */
export type PieceKind = "normal" | "unknown" | "control" | "user-defined" | "unused" | "byte";

/**
 * The merges as columns of equal length: `left[i]` followed by `right[i]` becomes `merged[i]`. A
 * lower rank is merged first; equal ranks are merged from left to right. Ids at and above the
 * number of pieces mean `Vocabulary.bareCharacters`.
 */
export interface Merges {
  readonly left: Int32Array;
  readonly right: Int32Array;
  readonly merged: Int32Array;
  readonly rank: Int32Array;
}

/** A piece that is cut out of the text before anything is merged. */
export interface Literal {
  readonly text: string;
  readonly id: number;
}

/** Everything that decides ids; immutable. */
export interface Vocabulary {
  /** Pieces by id, with U+2581 for spaces. */
  readonly pieces: readonly string[];
  readonly kinds: readonly PieceKind[];
  readonly merges: Merges;
  /** Characters that take part in merges without being pieces themselves. */
  readonly bareCharacters: readonly string[];
  /**
   * Where a space is put in front: at the start of the text, there and after every literal, or
   * nowhere.
   */
  readonly prefix: "never" | "first" | "always";
  /** True when text that begins with a space gets no prefix (Hugging Face's Metaspace). */
  readonly isPrefixSkippedAtSpace: boolean;
  /**
   * True when merges never reach across the left edge of a space (Hugging Face's Metaspace with
   * `split`).
   */
  readonly isSplitAtSpaces: boolean;
  /** True when consecutive unknown characters give one unknown id. */
  readonly isUnknownFused: boolean;
  /** Recognised only on request: control tokens. */
  readonly specialLiterals: readonly Literal[];
  /** Always recognised, and the text after it starts anew: Hugging Face's added tokens. */
  readonly addedLiterals: readonly Literal[];
  /**
   * Always recognised, inside running text: SentencePiece's user-defined pieces, and added tokens that Hugging Face
   * normalizes, with the space before them.
   */
  readonly userLiterals: readonly Literal[];
  /** Recognised only on request, inside running text: control tokens that Hugging Face normalizes, likewise. */
  readonly specialUserLiterals: readonly Literal[];
  readonly unkId: number;
  readonly bosId: number;
  readonly eosId: number;
  /** Whether the folder's configuration wants BOS in front of a prompt. */
  readonly addsBos: boolean;
}

/** The value of a byte piece such as `<0x0A>`, or -1. */
export function byteOfPiece(piece: string): number {
  return piece.startsWith("<0x") && /^<0x[0-9A-F]{2}>$/.test(piece)
    ? parseInt(piece.slice(3, 5), 16)
    : -1;
}

/**
 * Ids of the byte pieces by byte value, -1 where there is none. Null when there is not a single
 * one.
 */
export function byteIds(vocabulary: Pick<Vocabulary, "pieces" | "kinds">): Int32Array | null {
  const ids = new Int32Array(256).fill(-1);
  let count = 0;
  for (let id = 0; id < vocabulary.pieces.length; id++) {
    if (vocabulary.kinds[id] !== "byte") continue;
    ids[byteOfPiece(vocabulary.pieces[id])] = id;
    count++;
  }
  return count > 0 ? ids : null;
}

/**
 * The merges SentencePiece makes: any two neighbours whose concatenation is a normal piece, best
 * score first. A single character need not be a piece to be merged; such characters are returned
 * and get ids after the pieces.
 */
export function mergesFromScores(
  pieces: readonly string[],
  kinds: readonly PieceKind[],
  scores: ArrayLike<number>,
): { merges: Merges; bareCharacters: string[] } {
  const { index, bareCharacters } = indexParts(pieces, kinds);
  const rankOf = ranksOfScores(scores);
  const rows: number[] = [];
  for (let id = 0; id < pieces.length; id++) {
    if (kinds[id] !== "normal") continue;
    const piece = pieces[id];
    for (let cut = 1; cut < piece.length; cut++) {
      const left = isInsideCharacter(piece, cut) ? -1 : index.find(piece, 0, cut);
      if (left < 0) continue;
      const right = index.find(piece, cut, piece.length);
      if (right >= 0) rows.push(left, right, id, rankOf[id]);
    }
  }
  return { merges: mergesFromRows(rows), bareCharacters };
}

/** What merges start from and go through: the normal pieces and the characters in them. */
function indexParts(
  pieces: readonly string[],
  kinds: readonly PieceKind[],
): { index: PieceIndex; bareCharacters: string[] } {
  const normal = pieces.filter((_, id) => kinds[id] === "normal");
  const characters = new Set<string>();
  for (const piece of normal) for (const character of piece) characters.add(character);
  const index = new PieceIndex(pieces.length + characters.size);
  for (let id = 0; id < pieces.length; id++) if (kinds[id] === "normal") index.add(pieces[id], id);
  const bareCharacters = [...characters].filter((c) => index.find(c, 0, c.length) < 0);
  bareCharacters.forEach((character, i) => index.add(character, pieces.length + i));
  return { index, bareCharacters };
}

/** True between the two halves of a surrogate pair. */
function isInsideCharacter(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Rank of each score: 0 for the highest, the same for equal ones. */
function ranksOfScores(scores: ArrayLike<number>): Int32Array {
  const distinct = new Float64Array(new Set(Array.from(scores))).sort().reverse();
  const rankOfScore = new Map<number, number>();
  for (let rank = 0; rank < distinct.length; rank++) rankOfScore.set(distinct[rank], rank);
  return Int32Array.from(Array.from(scores), (score) => rankOfScore.get(score) ?? 0);
}

/** Columns from rows of (left, right, merged, rank) laid end to end. */
export function mergesFromRows(rows: readonly number[]): Merges {
  const count = rows.length / 4;
  const left = new Int32Array(count), right = new Int32Array(count);
  const merged = new Int32Array(count), rank = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    left[i] = rows[i * 4];
    right[i] = rows[i * 4 + 1];
    merged[i] = rows[i * 4 + 2];
    rank[i] = rows[i * 4 + 3];
  }
  return { left, right, merged, rank };
}
