"""The Llama 2 vocabulary as a SentencePiece model and as a Hugging Face tokenizer, built without this project's code.

Not a test: make_golden.py and tests/bench/tokenizer_peer.py import it. Needs the sentencepiece and tokenizers wheels.
"""

import base64
import json
import re
import struct


def read_package(path):
    """Pieces and merges from llama-tokenizer.js of the npm package llama-tokenizer-js."""
    source = open(path, encoding="utf-8").read()
    vocab = re.search(r"llama_vocab_base64\s*=\s*[\"']([A-Za-z0-9+/=]+)", source).group(1)
    binary = re.search(r"llama_merges_binary\s*=\s*[\"']([A-Za-z0-9+/=]+)", source).group(1)
    pieces = base64.b64decode(vocab).decode("utf-8").split("\n")
    ids = struct.unpack(f"<{len(base64.b64decode(binary)) // 2}H", base64.b64decode(binary))
    merges = [(pieces[a], pieces[b]) for a, b in zip(ids[::2], ids[1::2])]
    return pieces, merges


def read_json(path):
    """Pieces and merges from a tokenizer.json."""
    model = json.load(open(path, encoding="utf-8"))["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    return pieces, [tuple(merge.split(" ")) for merge in model["merges"]]


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def sentencepiece_model(pieces):
    """Serialised ModelProto with Llama 2's settings: BPE, byte fallback, dummy prefix, no normalisation."""
    out = []
    for i, piece in enumerate(pieces):
        score = -1e9 if re.fullmatch("▁▁+", piece) else -float(max(0, i - 259))
        kind = 2 if i == 0 else 3 if i < 3 else 6 if i < 259 else 1
        body = message(1, piece.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
        out.append(message(1, body + number(3, kind)))
    trainer = number(3, 2) + number(4, len(pieces)) + number(35, 1)
    trainer += number(40, 0) + number(41, 1) + number(42, 2) + number(43, -1)
    out.append(message(2, trainer))
    normalizer = message(1, b"identity") + message(2, b"")
    out.append(message(3, normalizer + number(3, 1) + number(4, 0) + number(5, 1)))
    return b"".join(out)


def sentencepiece_processor(pieces):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(pieces))


def huggingface_tokenizer(pieces, merges):
    """As the tokenizer.json of Llama 2 has it: Prepend and Replace as normalizer, no pre-tokenizer."""
    from tokenizers import Tokenizer, models, normalizers

    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer
