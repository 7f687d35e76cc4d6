// Finds NVIDIA's C headers and makes of a table of symbols a C++ program that compiles only where the table says what they
// say: the exported name, number and kind of the parameters, their C types as the comments have them, and values.

import { ifThere } from "../../lib/io/if_there.ts";

/** Where a header is and what CUDA it is of, or why it cannot be looked into. */
export type FoundHeader =
  | { readonly kind: "found"; readonly folders: readonly string[]; readonly version: string }
  | { readonly kind: "missing"; readonly reason: string };

/** One table of `ffi/`, and the file that it stands in. */
export interface SymbolTable {
  readonly symbols: Deno.ForeignLibraryInterface;
  readonly path: URL;
}

/** Folders to look in beside the usual ones, separated by colons. */
const FOLDERS_VARIABLE = "TINYLLAMA_CUDA_INCLUDE";
const COMPILERS = ["g++", "clang++"] as const;

/** How the kinds of Deno's FFI are passed, as conditions on a C++ type. */
const PRELUDE = `
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
template <class T> constexpr bool is_integer(size_t size, bool is_signed) {
  return sizeof(T) == size && std::is_integral_v<T> && std::is_signed_v<T> == is_signed;
}
template <class T> constexpr bool kind_i32 = is_integer<T>(4, true) || (std::is_enum_v<T> && sizeof(T) == 4);
template <class T> constexpr bool kind_u32 = is_integer<T>(4, false);
template <class T> constexpr bool kind_u16 = is_integer<T>(2, false);
template <class T> constexpr bool kind_i64 = is_integer<T>(8, true);
template <class T> constexpr bool kind_usize = std::is_same_v<T, size_t>;
template <class T> constexpr bool kind_pointer = std::is_pointer_v<T>;
template <class T> constexpr bool kind_buffer = std::is_pointer_v<T>;
template <class T> constexpr bool kind_u64 = is_integer<T>(8, false) || std::is_pointer_v<T>;
template <class T> struct Split;
template <class R, class... A> struct Split<R(A...)> {
  using Result = R;
  using Parameters = void(A...);
};
`;

/** Looks for a header with a line \`#define MACRO number\` that tells the version. */
export function findHeader(name: string, versionFile: string, macro: string): FoundHeader {
  const folders = includeFolders();
  const holder = folders.find((folder) => isFile(`${folder}/${name}`));
  if (holder === undefined) {
    const reason = `no ${name} in ${folders.join(", ")}; ${FOLDERS_VARIABLE} names more folders`;
    return { kind: "missing", reason };
  }
  if (findCompiler() === null) return { kind: "missing", reason: `no ${COMPILERS.join(" or ")}` };
  const text = Deno.readTextFileSync(`${holder}/${versionFile}`);
  const version = new RegExp(`^#define\\s+${macro}\\s+(\\d+)`, "m").exec(text)?.[1] ?? "unknown";
  return { kind: "found", folders: [holder, ...folders], version };
}

/** Lines of C++ that hold a table to the headers included before. */
export function assertionsOf({ symbols, path }: SymbolTable): string[] {
  const source = Deno.readTextFileSync(path), lines: string[] = [];
  for (const [key, symbol] of Object.entries(symbols)) {
    if ("type" in symbol) throw new TypeError(`${key} is no function`);
    const name = symbol.name ?? key, split = `Split<decltype(${name})>`;
    const declared = declaredParameters(source, key);
    if (declared.length !== symbol.parameters.length) {
      throw new TypeError(`Cannot read the C types of ${key}'s parameters`);
    }
    const kinds = symbol.parameters.map((kind, i) => `&& kind_${kindOf(key, kind)}<P${i}>`);
    const types = kinds.map((_, i) => `class P${i}`).join(", ");
    const places = kinds.map((_, i) => `P${i}`).join(", ");
    lines.push(
      `static_assert(TEXT(${name}) == std::string_view("${name}"), "${name} has another name");`,
      `template <${types}> constexpr bool takes_${key}(void (*)(${places})) {`,
      `  return true ${kinds.join(" ")};`,
      "}",
      `static_assert(takes_${key}(static_cast<${split}::Parameters *>(nullptr)), "${key}: kinds");`,
      `static_assert(std::is_same_v<${split}::Parameters, void(${
        declared.join(", ")
      })>, "${key}: C types");`,
      `static_assert(kind_${kindOf(key, symbol.result)}<${split}::Result>, "${key}: result");`,
    );
  }
  return lines.map((line) => line.replace("template <> constexpr", "constexpr"));
}

/** Lines of C++ that hold constants to those of the same names. */
export function valuesOf(constants: Readonly<Record<string, number>>): string[] {
  return Object.entries(constants).map(([name, value]) =>
    `static_assert((long long)(${name}) == ${value}, "${name}");`
  );
}

/** What the compiler says of these lines after a header; null when it takes them. */
export function refusalOf(
  header: string,
  lines: readonly string[],
  folders: readonly string[],
): string | null {
  const path = Deno.makeTempFileSync({ suffix: ".cpp" });
  try {
    Deno.writeTextFileSync(path, [`#include <${header}>`, PRELUDE, ...lines, ""].join("\n"));
    const places = folders.map((folder) => `-I${folder}`);
    const args = ["-std=c++17", "-fsyntax-only", "-w", ...places, path];
    const { success, stderr } = new Deno.Command(findCompiler() ?? "", { args }).outputSync();
    return success ? null : new TextDecoder().decode(stderr);
  } finally {
    Deno.removeSync(path);
  }
}

/** The C declarations behind the parameters of a symbol, from the table's comments. */
function declaredParameters(source: string, key: string): string[] {
  const start = source.indexOf(`\n  ${key}: {\n`);
  const text = source.slice(start, source.indexOf("\n  },\n", start));
  return Array.from(text.matchAll(/^ {6}"\w+", \/\/ (.*)$/gm), ([, declaration]) => declaration);
}

function kindOf(key: string, type: Deno.NativeResultType): string {
  if (typeof type === "string") return type;
  throw new TypeError(`${key} has a parameter that is a structure`);
}

function includeFolders(): string[] {
  const named = (Deno.env.get(FOLDERS_VARIABLE) ?? "").split(":");
  const homes = [Deno.env.get("CUDA_HOME"), Deno.env.get("CUDA_PATH"), "/usr/local/cuda"];
  const usual = homes.flatMap((home) =>
    home === undefined || home === "" ? [] : [`${home}/include`]
  );
  return [...new Set([...named.filter((folder) => folder !== ""), ...usual, "/usr/include"])];
}

function findCompiler(): string | null {
  return COMPILERS.find((command) => {
    try {
      return new Deno.Command(command, { args: ["--version"], stdout: "null" }).outputSync()
        .success;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }) ?? null;
}

function isFile(path: string): boolean {
  return ifThere(() => Deno.statSync(path).isFile) ?? false;
}
