"""Opens a tokenizer folder this project saved with transformers and compares its ids with golden.jsonl.gz.

usage: check_transformers.py FOLDER       (the folder: any run or checkpoint, or what saveTokenizer wrote)
"""

import gzip
import json
import pathlib
import sys

import tokenizers
import transformers

tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
lines = gzip.open(pathlib.Path(__file__).parent / "golden.jsonl.gz", "rt", encoding="utf-8")
cases = [row for row in map(json.loads, lines) if "text" in row]
# Literal special tokens in a text are always recognised by transformers, in the golden ids never.
plain = [row for row in cases if not any(token in row["text"] for token in ("<s>", "</s>", "<unk>"))]
differ = sum(tokenizer.encode(row["text"], add_special_tokens=False) != row["ids"] for row in plain)
back = sum(tokenizer.decode(row["ids"]) != row["text"].replace("▁", " ") for row in plain)
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, {type(tokenizer).__name__}")
print(f"{len(plain)} texts: {differ} with other ids, {back} that decode to another text")
print("with special tokens:", tokenizer.encode("Hello</s>Hello"), "bos, eos, unk:", tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
