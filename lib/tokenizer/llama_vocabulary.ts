// Llama 2's vocabulary of 32,000 pieces, out of the box: the data of the npm package
// llama-tokenizer-js (MIT), none of its code. Ids 0 to 2 are unknown, BOS and EOS, 3 to 258 the
// bytes. Of the rest each scores lower than the one before, except that runs of spaces, which were
// added after training, all share one score below every other.

import { FormatError } from "../core/errors.ts";
import { mergesFromScores, type PieceKind, type Vocabulary } from "./vocabulary.ts";

const SIZE = 32000;
const FIRST_NORMAL = 259;
const SPACES_SCORE = -1e9;

/**
 * The vocabulary of Llama 2 and TinyLlama. The package is loaded on the first call, which takes
 * some 0.1 s.
 * @throws {FormatError} when the installed package carries something else.
 */
export async function llamaVocabulary(): Promise<Vocabulary> {
  const { default: packaged } = await import("llama-tokenizer-js");
  const pieces: readonly string[] = [...packaged.vocabById];
  if (pieces.length !== SIZE || pieces[1] !== "<s>" || pieces[FIRST_NORMAL] !== "▁▁") {
    throw new FormatError(
      `Cannot use the vocabulary of llama-tokenizer-js: found ${pieces.length} pieces with "${
        pieces[1]
      }" as number 1, ` +
        `expected ${SIZE} with "<s>"`,
    );
  }
  const kinds = pieces.map((_, id) => kindOf(id));
  const scores = pieces.map((piece, id) =>
    /^▁▁+$/.test(piece) ? SPACES_SCORE : Math.min(0, FIRST_NORMAL - id)
  );
  return {
    pieces,
    kinds,
    ...mergesFromScores(pieces, kinds, scores),
    prefix: "always",
    isPrefixSkippedAtSpace: false,
    isSplitAtSpaces: false,
    isUnknownFused: true,
    specialLiterals: [0, 1, 2].map((id) => ({ text: pieces[id], id })),
    addedLiterals: [],
    userLiterals: [],
    specialUserLiterals: [],
    unkId: 0,
    bosId: 1,
    eosId: 2,
    addsBos: true,
  };
}

function kindOf(id: number): PieceKind {
  if (id === 0) return "unknown";
  if (id < 3) return "control";
  return id < FIRST_NORMAL ? "byte" : "normal";
}
