// `tinyllama prepare` as a user runs it: tables, JSON, messages, exit codes, Ctrl-C.

import assert from "node:assert/strict";
import { join } from "node:path";
import { prose, writeFiles } from "../data/data_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { spawn, tinyllama } from "./command_line.ts";

const run = (folder: string, ...args: readonly string[]) =>
  tinyllama(["prepare", ...args], { folder });

function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("texts become a folder, shown as a table; --verify reads it back and finds damage", () =>
  inTempFolder(async (folder) => {
    writeFiles(folder, {
      "docs/a.md": prose(30_000, 1),
      "docs/b.ts": prose(20_000, 2),
      "docs/c.bin": "",
      "book.txt": prose(50_000, 3),
    });
    const made = await run(folder, "docs/", "book.txt", "--output", "data/mine");
    assert.equal(made.code, 0, made.error);
    assert.match(made.text, /^left out 1: neither prose nor code by its name: docs\/c\.bin\n/);
    assert.match(made.text, /\nsource +part +documents +tokens +bytes +bytes\/token +files\n/);
    assert.match(made.text, /\nprose +training +2 +[\d,]+ +[\d,]+ +\d\.\d\d +1\n/);
    assert.match(made.text, /\ncode +validation +1 +[\d,]+ +[\d,]+ +\d\.\d\d +1\n/);
    assert.match(made.text, /\nWrote data\/mine\n$/);
    assert.match(made.error, /^\d+\/101 kB {2}ETA \d+s {2}\d+\.\d MB\/s$/m);
    const verified = await run(folder, "--verify", "--output", "data/mine");
    assert.equal(verified.code, 0, verified.error);
    assert.match(verified.text, /data\/mine is as its manifest says\n$/);
    const path = join(folder, "data/mine/train_prose_0000000000.bin");
    const bytes = Deno.readFileSync(path);
    bytes[100] ^= 255;
    Deno.writeFileSync(path, bytes);
    const damaged = await run(folder, "--verify", "--output", "data/mine");
    assert.equal(damaged.code, 1);
    assert.match(
      damaged.error,
      /^error: Cannot use "data.*train_prose_0000000000\.bin": it is damaged/,
    );
  }));

Deno.test("named sources, options and JSON", () =>
  inTempFolder(async (folder) => {
    writeFiles(folder, { "x/a.json": prose(5000, 1), "y/b.md": prose(5000, 2) });
    const args = ["--source", "data=x", "--source", "text=y", "--output", "out", "--json"];
    const options = ["--chunk-tokens", "100", "--validation-share", "0.2"];
    const { code, text, error } = await run(folder, ...args, ...options);
    assert.equal(code, 0, error);
    const { output, manifest, skipped } = JSON.parse(text);
    assert.equal(output, "out");
    assert.deepEqual(skipped, []);
    assert.deepEqual(
      manifest,
      JSON.parse(Deno.readTextFileSync(join(folder, "out/manifest.json"))),
    );
    assert.deepEqual(manifest.sources.map(({ name }: { name: string }) => name), ["data", "text"]);
    assert.equal(manifest.sources[0].train.files[0].tokens, 100);
    const again = await run(folder, "--output", "again", "--tokenizer", "out", "y");
    assert.equal(again.code, 0, again.error);
    const second = JSON.parse(Deno.readTextFileSync(join(folder, "again/manifest.json")));
    assert.equal(second.tokenizer.sha256, manifest.tokenizer.sha256);
  }));

Deno.test("wrong usage ends with code 2 and says what was wanted", () =>
  inTempFolder(async (folder) => {
    writeFiles(folder, { "a.md": "text of a\n", "out/thesis.tex": "the only copy" });
    const cases: [string[], RegExp][] = [
      [["a.md"], /required option '--output <folder>' not specified/],
      [["--output", "new"], /error: Cannot prepare nothing: expected files or folders/],
      [["b.md", "--output", "new"], /error: Cannot prepare "b\.md": there is no such file/],
      [["a.md", "--output", "out"], /it holds something else \("thesis\.tex"\)/],
      [["a.md", "--output", "a.md"], /Cannot prepare into "a\.md": it is a file; choose a folder/],
      [["a.md", "--output", "a.md/new"], /Cannot make the folder "a\.md\/new" to prepare into: /],
      [["--source", "code", "--output", "new"], /--source code: expected NAME=PATH/],
      [["a.md", "--output", "new", "--chunk-tokens", "many"], /--chunk-tokens "many": expected a/],
      [["a.md", "--output", "new", "--verify"], /--verify takes no texts/],
    ];
    const results = await Promise.all(cases.map(([args]) => run(folder, ...args)));
    results.forEach(({ code, error }, i) => {
      assert.equal(code, 2, error);
      assert.match(error, cases[i][1]);
    });
    assert.deepEqual(namesIn(folder), ["a.md", "out"]);
  }));

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test({
    name: `${signal} deletes what was written and leaves no folder`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      inTempFolder(async (folder) => {
        writeFiles(folder, { "texts/0.md": prose(1 << 20) });
        for (let i = 1; i < 400; i++) {
          Deno.linkSync(join(folder, "texts/0.md"), join(folder, `texts/${i}.md`));
        }
        await using child = spawn(["prepare", "texts", "--output", "out"], { folder });
        const reader = child.stderr.getReader();
        const { value } = await reader.read();
        assert.match(new TextDecoder().decode(value), / kB/);
        assert.ok(namesIn(folder).includes("out.unfinished"));
        child.kill(signal);
        let error = "";
        for (let next = await reader.read(); !next.done; next = await reader.read()) {
          error += new TextDecoder().decode(next.value);
        }
        await child.stdout.cancel();
        assert.equal((await child.status).code, 1);
        assert.match(error, /error: Interrupted: what was prepared so far is deleted/);
        assert.deepEqual(namesIn(folder), ["texts"]);
      }),
  });
}
