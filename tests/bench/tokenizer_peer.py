"""Times sentencepiece and Hugging Face tokenizers on one text, one thread, and prints one JSON object.

usage: tokenizer_peer.py TOKENIZER_JSON TEXT PASSES
Run by tokenizer_bench.ts. Text is cut into blocks of whole lines, as the bench cuts it; the hash is SHA-256 of all ids as i32.
"""

import hashlib
import json
import os
import pathlib
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden" / "tokenizer"))
sys.dont_write_bytecode = True

import numpy  # noqa: E402
import reference  # noqa: E402

BLOCK_BYTES = 1 << 12


def blocks(data):
    start = 0
    while start < len(data):
        end = min(len(data), start + BLOCK_BYTES)
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or end
        yield data[start:end].decode("utf-8")
        start = end


def measure(encode, texts, size, passes):
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        ids = [encode(text) for text in texts]
        seconds.append(time.perf_counter() - start)
    digest = hashlib.sha256()
    for part in ids:
        digest.update(numpy.asarray(part, dtype="<i4").tobytes())
    return {
        "first": size / 1e6 / seconds[0],
        "steady": size / 1e6 / sorted(seconds[1:] or seconds)[len(seconds[1:] or seconds) // 2],
        "tokens": sum(map(len, ids)),
        "sha256": digest.hexdigest(),
    }


def main():
    pieces, merges = reference.read_json(sys.argv[1])
    data = pathlib.Path(sys.argv[2]).read_bytes()
    passes = int(sys.argv[3])
    texts = list(blocks(data))
    sp = reference.sentencepiece_processor(pieces)
    hf = reference.huggingface_tokenizer(pieces, merges)
    result = {
        "sentencepiece": measure(sp.encode, texts, len(data), passes),
        "tokenizers": measure(lambda t: hf.encode(t, add_special_tokens=False).ids, texts, len(data), passes),
    }
    print(json.dumps(result))


main()
