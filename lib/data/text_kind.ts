// Prose or code, by the name of a file.

/** The two sources that texts are sorted into when nobody says otherwise. */
export type TextKind = "prose" | "code";

const PROSE_EXTENSIONS = new Set(
  "adoc asciidoc markdown md mdx org po pod rst rtf srt tex texi text txt".split(" "),
);

const PROSE_NAMES = new Set(
  "AUTHORS CHANGELOG CHANGES CONTRIBUTING CONTRIBUTORS COPYING COPYRIGHT CREDITS FAQ HISTORY INSTALL LICENCE LICENSE NEWS NOTICE README THANKS TODO"
    .split(" "),
);

const CODE_EXTENSIONS = new Set(
  ("ada adb ads asm awk bash bat bib bzl c cc cfg clj cljs cmake cmd coffee comp cpp cr cs css cts cu cuh cxx d dart " +
    "diff ebnf el elm erl ex exs f f03 f90 f95 fish frag fs fsi fsx g4 glsl go gql gradle graphql groovy h hh hlsl hpp " +
    "hrl hs html hxx i inc ini ino ipp java jl js jsx kt kts l less lean lhs lisp ll lua m m4 makefile metal mjs mk ml " +
    "mli mm mts nasm nim nix nut pas patch php pl pm proto ps1 pxd py pyi pyx qml r rb re rkt rs s sass sc scala scm " +
    "scss sed sh sol sql ss st sv svelte swift t tcl tf thrift toml ts tsx v vala vb vert vhd vhdl vim vue wat wgsl xs " +
    "y yaml yml zig zsh")
    .split(" "),
);

const CODE_NAMES = new Set(
  "BUILD CMakeLists.txt Dockerfile Gemfile Jenkinsfile Justfile Makefile Rakefile Vagrantfile WORKSPACE"
    .split(" "),
);

/** The kind of a file by its name; null when the name does not tell. */
export function textKind(fileName: string): TextKind | null {
  if (CODE_NAMES.has(fileName)) return "code";
  const dot = fileName.lastIndexOf(".");
  if (dot <= 0) return PROSE_NAMES.has(fileName.toUpperCase()) ? "prose" : null;
  const extension = fileName.slice(dot + 1).toLowerCase();
  if (PROSE_EXTENSIONS.has(extension)) return "prose";
  return CODE_EXTENSIONS.has(extension) ? "code" : null;
}
