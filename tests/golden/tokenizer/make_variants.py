"""Writes variants.json.gz: small random vocabularies with unusual settings, texts, and the ids of the reference tokenizer.

usage: make_variants.py OUTPUT
Each variant is {"name", "model": base64 of a SentencePiece model, or "json": text of a tokenizer.json, "cases": [[text, ids]]}.
"""

import base64
import gzip
import json
import pathlib
import random
import struct
import sys

import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from reference import message, number, varint

rng = random.Random(7)
ALPHABET = "abcé😀▁"
HEAD = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def random_pieces(count, characters):
    pieces = list(characters)
    while len(pieces) < count:
        piece = rng.choice(pieces) + rng.choice(pieces)
        if piece not in pieces and len(piece) < 9:
            pieces.append(piece)
    rng.shuffle(pieces)
    return pieces


def random_texts(extra=()):
    choices = [*"aabbccé😀  ", "ab", "z", "\n", *extra]
    texts = ["", " ", "a", "z", "zz", " z z", "▁a▁▁b"]
    texts += ["".join(rng.choice(choices) for _ in range(rng.randint(1, 30))) for _ in range(60)]
    texts += ["".join(rng.choice("ab ") for _ in range(rng.randint(60, 200))) for _ in range(8)]
    return texts


def sentencepiece_variant(name, pieces, scores, user=(), byte_fallback=True, prefix=True):
    entries = [(p, 0.0, 2 if i == 0 else 3) for i, p in enumerate(HEAD)]
    entries += [(p, 0.0, 6) for p in BYTES] if byte_fallback else []
    entries += [(p, s, 1) for p, s in zip(pieces, scores)] + [(p, 0.0, 4) for p in user]
    out = b"".join(
        message(1, message(1, p.encode()) + varint(2 << 3 | 5) + struct.pack("<f", s) + number(3, k)) for p, s, k in entries
    )
    out += message(2, number(3, 2) + number(35, int(byte_fallback)) + number(41, 1) + number(42, 2) + number(43, -1))
    out += message(3, message(1, b"identity") + number(3, int(prefix)) + number(4, 0) + number(5, 1))
    sp = sentencepiece.SentencePieceProcessor(model_proto=out)
    cases = [[t, sp.encode(t)] for t in random_texts(user)]
    return {"name": name, "model": base64.b64encode(out).decode(), "cases": cases}


def huggingface_variant(name, pieces, normalizer, pre_tokenizer, fuse_unk=True, byte_fallback=True, added=()):
    vocab = {p: i for i, p in enumerate([*HEAD, *(BYTES if byte_fallback else []), *pieces])}
    merges = [(p[:c], p[c:]) for p in pieces for c in range(1, len(p)) if p[:c] in vocab and p[c:] in vocab]
    rng.shuffle(merges)
    hf = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=byte_fallback))
    hf.normalizer, hf.pre_tokenizer = normalizer, pre_tokenizer
    hf.add_special_tokens(["<s>", "</s>"])
    hf.add_tokens([AddedToken(t, normalized=False, special=False) for t in added])
    texts = random_texts(["<s>", "</s>", *added])
    cases = [[t, hf.encode(t, add_special_tokens=False).ids] for t in texts]
    return {"name": name, "json": hf.to_str(), "cases": cases}


def main():
    variants = []
    for i in range(4):
        pieces = random_pieces(90, ALPHABET)
        unique = [-float(j) for j in range(len(pieces))]
        ties = [-float(rng.randint(0, 6)) for _ in pieces]
        variants.append(sentencepiece_variant(f"unique scores {i}", pieces, unique))
        variants.append(sentencepiece_variant(f"equal scores {i}", pieces, ties))
        bare = [p for p in pieces if p not in ("c", "é", "😀")]
        variants.append(sentencepiece_variant(f"characters that are no pieces {i}", bare, [s for p, s in zip(pieces, ties) if p in bare]))
        no_space = random_pieces(60, "abcé😀")
        variants.append(sentencepiece_variant(f"no byte fallback {i}", pieces, ties, byte_fallback=False))
        variants.append(sentencepiece_variant(f"no prefix {i}", pieces, ties, prefix=False))
        variants.append(sentencepiece_variant(f"user-defined {i}", [*no_space, "▁"], [-float(j) for j in range(61)], user=("<x>", "bb", "▁▁")))
        replace = normalizers.Replace(" ", "▁")
        prepended = normalizers.Sequence([normalizers.Prepend("▁"), replace])
        variants.append(huggingface_variant(f"prepend {i}", pieces, prepended, None, added=("<x>", "<xy>")))
        variants.append(huggingface_variant(f"replace {i}", pieces, replace, None))
        variants.append(huggingface_variant(f"unknown fused {i}", pieces, prepended, None, byte_fallback=False))
        variants.append(huggingface_variant(f"unknown not fused {i}", pieces, prepended, None, fuse_unk=False, byte_fallback=False))
        for scheme in ("always", "first", "never"):
            for split in (True, False):
                meta = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)
                variants.append(huggingface_variant(f"metaspace {scheme} {split} {i}", pieces, None, meta, added=("<x>",)))
    content = json.dumps(variants, separators=(",", ":")).encode()
    pathlib.Path(sys.argv[1]).write_bytes(gzip.compress(content, mtime=0))
    print(f"{len(variants)} variants, {sum(len(v['cases']) for v in variants)} cases, {len(content)} bytes of JSON")


main()
