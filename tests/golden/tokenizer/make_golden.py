"""Writes golden.jsonl.gz: texts with the ids SentencePiece and Hugging Face tokenizers give them.

usage: make_golden.py LLAMA_TOKENIZER_JS REPOSITORY OUTPUT [SENTENCEPIECE_MODEL]
One line a case: {"text": ...} or {"hex": ...} for bytes that are not UTF-8, and {"ids": [...]}; "hf" only where Hugging
Face differs. For invalid bytes the expected ids are SentencePiece's with the byte's own piece in its place (see README).
"""

import gzip
import json
import pathlib
import random
import sys

import reference

STAND_IN = "\U0010fff5"  # no piece contains it; stands for an invalid byte
rng = random.Random(3407)

PROSE = """The old lighthouse keeper counted seventeen ships before breakfast, and wrote "seventeen" in the log; nobody \
asked why. Its lamp, re-lit in 1893, burned 4.5 litres of oil a night (roughly £2.30 today). "Don't," she said – "you'll \
wake the gulls…" Über den Dächern lag Schnee; à côté, l'été dernier, ça coûtait 12 €. El niño comió piñas. Съешь же ещё \
этих мягких французских булок, да выпей чаю. Ο ήλιος ανέτειλε πάνω από τη θάλασσα. 我昨天在图书馆读了一本关于鲸鱼的书。 \
吾輩は猫である。名前はまだ無い。 다람쥐 헌 쳇바퀴에 타고파. هذا نص عربي قصير للاختبار. זהו טקסט קצר בעברית. यह एक छोटा वाक्य है। \
ภาษาไทยไม่มีช่องว่าง Tiếng Việt có dấu. Zażółć gęślą jaźń. Příliš žluťoučký kůň. Iñtërnâtiônàlizætiøn!"""

HAND = [
    "", " ", "  ", "a", " a", "  a", "a ", "a  ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u3000", "\ufeff", "\ufeffa",
    "Hello world", "Hello  world", " Hello world", "HELLO WORLD", "           grabbed", " grabbed", "grabbed",
    "1234567890", "3.14159", "-1e-5", "0x1F", "1,000,000", "2024-01-31T23:59:59Z", "a=b", "a == b", "a===b", "->", "=>", "::",
    "</s>", "<s>", "<unk>", " </s>", "a</s>b", "<s>hi</s>", "<0x0A>", "<0x00>", "<0xFF> x", "<pad>", "[INST] hi [/INST]",
    "<|im_start|>user\nhi<|im_end|>\n", "<|user|>\nhi</s>\n<|assistant|>\n", "<<SYS>>", "</ s>", "< s>", "<S>", "<s", "s>",
    "▁", "▁▁", " ▁", "▁ ", "a▁b", "▁a", "a ▁ b", "▁▁▁▁", "▁the", "the▁", "▁ ▁ ▁", "é▁é", "\n▁\n", "▁\t▁", "▁</s>",
    "\x00", "\x00\x00", "a\x00b", " \x00 ", "\u2028", "\u2029", "\u200b", "\u200d", "\u202e abc", "\ufffd", "\ufffd\ufffd",
    "\ufffd\ufffd\ufffd", "a\ufffdb", "\uffff", "\ufffe", "\U0010ffff", "\ue000", "e\u0301", "\u00e9", "n\u0303", "\u0301",
    "ﬁ", "Å", "Å", "Ａ", "½", "²", "①", "㎏", "ǅ", "ß", "ẞ", "İ", "ı", "ſ", "Ω", "Ω", "µ", "μ",
    "naïve café", "don't", "don’t", "“quoted”", "…", "—", "–", "•", "★", "©®™", "€£¥", "\\n", "\\", "/*", "*/", "//", "#!",
    "http://example.com/a?b=c&d=%20#e", "user@example.org", "C:\\Windows\\System32", "../../etc/passwd", "$HOME", "`ls`",
]

EMOJI = ["😀", "👍", "👍🏽", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🏴‍☠️", "🇩🇪", "🇯🇵🇫🇷", "1️⃣", "❤️", "❤", "🧑🏿‍🚀", "🤷🏻‍♀️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👁️‍🗨️", "🫠", "🪿", "☺︎"]


def pick(low, high):
    while True:
        code = rng.randint(low, high)
        if not 0xD800 <= code < 0xE000 and code != ord(STAND_IN):
            return chr(code)


def texts(pieces, repository):
    yield from HAND
    for plane in range(17):
        for _ in range(24):
            yield "".join(pick(plane << 16, (plane << 16) + 0xFFFF) for _ in range(rng.randint(1, 8)))
    for block in range(256):
        if not 0xD8 <= block < 0xE0:
            yield "".join(pick(block << 8, (block << 8) + 255) for _ in range(10))
    for emoji in EMOJI:
        yield emoji
        yield f"ok {emoji}{rng.choice(EMOJI)} done{emoji}!"
    for _ in range(50):
        base = rng.choice(["e", "a", "o", "क", "ก", "א", "ا", "k "])
        yield "".join(base + "".join(pick(0x300, 0x36F) for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(1, 4)))
    for code in [*range(32), *range(127, 160)]:
        yield chr(code)
        yield f"x{chr(code)} y{chr(code)}{chr(code)}z"
    for count in range(1, 41):
        yield " " * count + "word"
        yield "if x:\n" + " " * count + "return" + " " * (41 - count) + "y"
    for _ in range(120):
        yield "".join(rng.choice([" ", "  ", "\t", "\n", "\r\n", "    ", "x", "the", "\u00a0", "{"]) for _ in range(rng.randint(2, 14)))
    for character in "=-_*#.aAx0!~/\\é中▁\t\n🙂":
        for count in (2, 3, 5, 8, 13, 17, 33, 64, 70):
            yield character * count
    words = PROSE.split(" ")
    for _ in range(150):
        start = rng.randrange(len(words))
        yield " ".join(words[start : start + rng.randint(1, 25)])
    sources = [p for d in ("lib", "kernels/c") for p in sorted((repository / d).rglob("*")) if p.suffix in (".ts", ".c", ".h")]
    lines = [line for p in sources for line in p.read_text().splitlines()]
    for _ in range(300):
        start = rng.randrange(len(lines))
        yield "\n".join(lines[start : start + rng.randint(1, 6)])
    usable = [p.replace("▁", " ") for p in pieces[259:]]
    for _ in range(500):
        yield "".join(rng.choice(usable) for _ in range(rng.randint(1, 12)))
    for _ in range(40):
        yield "".join(rng.choice([*HAND[60:75], "a", " ", "▁", "e\u0301", "\n"]) for _ in range(rng.randint(2, 9)))
    for length in (200, 400, 800, 1600):
        yield "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
        yield "".join(rng.choice(usable).strip() for _ in range(length // 8))
        yield "".join(rng.choice("etaoinshr") for _ in range(length))
        yield "".join(rng.choice("=-_*/ ") for _ in range(length))
    for _ in range(200):
        yield "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 40)))
    for _ in range(150):
        yield "".join(
            pick(*rng.choice([(32, 126), (0xA0, 0x24F), (0x370, 0x5FF), (0x900, 0xDFF), (0x2000, 0x2BFF), (0x3040, 0x9FFF), (0x1F300, 0x1FAFF)]))
            for _ in range(rng.randint(1, 25))
        )


def raw_bytes():
    yield from [b"\xff", b"\xfe\xff", b"a\xffb", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe2\x96", b"\xe2\x96a"]
    yield from [b"\xe2\x96\x81\xe2", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80"]
    yield from [b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b" \xff ", b"\xef\xbb", b"word\xe9 latin1"]
    sample = PROSE.encode()
    for _ in range(100):
        start = rng.randrange(len(sample))
        piece = bytearray(sample[start : start + rng.randint(1, 40)])
        for _ in range(rng.randint(1, 4)):
            piece[rng.randrange(len(piece))] = rng.randint(128, 255)
        yield bytes(piece)
    for _ in range(100):
        yield bytes(rng.randint(0, 255) for _ in range(rng.randint(1, 24)))


def main():
    package, repository, output = sys.argv[1:4]
    pieces, merges = reference.read_package(package)
    sp = reference.sentencepiece_processor(pieces)
    hf = reference.huggingface_tokenizer(pieces, merges)
    if len(sys.argv) > 4:
        pathlib.Path(sys.argv[4]).write_bytes(reference.sentencepiece_model(pieces))
    rows, differ = [], 0
    for text in dict.fromkeys(texts(pieces, pathlib.Path(repository))):
        ids, other = sp.encode(text), hf.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "ids": ids} | ({"hf": other} if other != ids else {}))
        differ += other != ids
    stand_in = sp.encode("x" + STAND_IN)[-4:]
    for raw in dict.fromkeys(raw_bytes()):
        escaped = raw.decode("utf-8", "surrogateescape")
        invalid = [ord(c) - 0xDC00 for c in escaped if 0xDC80 <= ord(c) < 0xDD00]
        if not invalid:
            continue
        ids = sp.encode("".join(STAND_IN if 0xDC80 <= ord(c) < 0xDD00 else c for c in escaped))
        expected, at = [], 0
        while at < len(ids):
            if ids[at : at + 4] == stand_in:
                expected.append(3 + invalid.pop(0))
                at += 4
            else:
                expected.append(ids[at])
                at += 1
        assert not invalid
        rows.append({"hex": raw.hex(), "ids": expected})
    content = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    pathlib.Path(output).write_bytes(gzip.compress(content.encode(), mtime=0))
    print(f"{len(rows)} cases, Hugging Face differs in {differ}, {len(content)} bytes of JSON lines")


main()
