// What a tokenizer knows, whatever file it came from: pieces, their kinds, the merges between them
// and how text is prepared. Plain data; encoder.ts and decoder.ts turn it into tables. The rules
// are those of SentencePiece's BPE.

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
  /** Always recognised, inside running text: SentencePiece's user-defined pieces. */
  readonly userLiterals: readonly Literal[];
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
  const idOf = new Map<string, number>();
  for (let id = 0; id < pieces.length; id++) {
    if (kinds[id] === "normal") idOf.set(pieces[id], id);
  }
  const bareCharacters: string[] = [];
  for (const piece of [...idOf.keys()]) {
    for (const character of piece) {
      if (idOf.has(character)) continue;
      idOf.set(character, pieces.length + bareCharacters.length);
      bareCharacters.push(character);
    }
  }
  const rankOf = ranksOfScores(scores);
  const rows: number[] = [];
  for (let id = 0; id < pieces.length; id++) {
    if (kinds[id] !== "normal") continue;
    const piece = pieces[id];
    for (let cut = 1; cut < piece.length; cut++) {
      // A cut inside a surrogate pair is not between characters.
      const unit = piece.charCodeAt(cut);
      if (unit >= 0xdc00 && unit < 0xe000) continue;
      const left = idOf.get(piece.slice(0, cut));
      if (left === undefined) continue;
      const right = idOf.get(piece.slice(cut));
      if (right !== undefined) rows.push(left, right, id, rankOf[id]);
    }
  }
  return { merges: mergesFromRows(rows), bareCharacters };
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
