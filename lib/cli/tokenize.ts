// deno-lint-ignore-file no-console
// `tinyllama tokenize`: text to token ids and back, on the screen or in a pipe.

import { Command } from "commander";
import { UsageError } from "../core/errors.ts";
import { llamaTokenizer, type Tokenizer } from "../tokenizer/tokenizer.ts";
import { loadTokenizer } from "../tokenizer/tokenizer_folder.ts";

interface Flags {
  readonly model?: string;
  readonly decode?: true;
  readonly special?: true;
  readonly count?: true;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  tinyllama tokenize "Once upon a time"
  tinyllama tokenize --json "Once upon a time"
  tinyllama tokenize --count < book.txt
  tinyllama tokenize < book.txt | tinyllama tokenize --decode`;

/** The subcommand. */
export function tokenizeCommand(): Command {
  return new Command("tokenize")
    .description("Show the token ids of a text, or the text of token ids")
    .argument("[text]", "the text, or the ids with --decode; standard input when absent")
    .option("--model <folder>", "use the tokenizer of a model folder instead of Llama's")
    .option("--decode", "from ids (separated by spaces or commas) to text")
    .option("--special", "recognise or spell out control tokens such as </s>")
    .option("--count", "print only the number of tokens")
    .option("--json", "print one JSON object with count, ids, pieces and text")
    .addHelpText("after", EXAMPLES)
    .action(async (text: string | undefined, flags: Flags) => {
      const tokenizer = flags.model === undefined
        ? await llamaTokenizer()
        : await loadTokenizer(flags.model);
      const input = text === undefined
        ? new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer())
        : new TextEncoder().encode(text);
      const ids = flags.decode
        ? parseIds(new TextDecoder().decode(input), tokenizer.vocabSize)
        : tokenizer.encode(input, { parseSpecial: flags.special });
      print(tokenizer, ids, flags);
    });
}

function print(tokenizer: Tokenizer, ids: Int32Array, flags: Flags): void {
  if (flags.count) {
    console.log(flags.json ? JSON.stringify({ count: ids.length }) : String(ids.length));
  } else if (flags.json) {
    const pieces = Array.from(ids, (id) => tokenizer.vocabulary.pieces[id]);
    const text = tokenizer.decode(ids, { special: flags.special });
    console.log(JSON.stringify({ count: ids.length, ids: Array.from(ids), pieces, text }));
  } else if (flags.decode) {
    writeExactly(tokenizer.decodeBytes(ids, { special: flags.special }));
    if (Deno.stdout.isTerminal()) console.log();
  } else {
    console.log(ids.join(" "));
  }
}

function parseIds(text: string, vocabSize: number): Int32Array {
  const words = text.split(/[\s,[\]]+/).filter((word) => word !== "");
  return Int32Array.from(words, (word) => {
    const id = /^\d+$/.test(word) ? Number(word) : -1;
    if (id < 0 || id >= vocabSize) {
      throw new UsageError(
        `Cannot decode ${JSON.stringify(word)}: expected token ids from 0 to ${vocabSize - 1}`,
      );
    }
    return id;
  });
}

function writeExactly(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
