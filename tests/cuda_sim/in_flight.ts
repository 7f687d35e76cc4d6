// How many bytes a card of compute capability 9.0 reads at once: ptxas assembles the committed PTX, and its instructions tell
// which loads are on their way together, because each names the counter by which it is waited for. Layout of instructions:
// bits 0-11 the operation, 12-15 the predicate, 16-23 and 34-81 how far a branch goes (words of 4 bytes), 73-75 the width of
// a load, 110-112 the counter it raises, 116-121 the counters that are waited for.

import { type LaunchAccesses, sumAccesses } from "./access_report.ts";

const CARD = "sm_90";
const DIST = decodeURIComponent(new URL("../../kernels/dist", import.meta.url).pathname);
/** Of a multiprocessor of that card. */
const LIMITS = { registers: 65536, threads: 2048, blocks: 32, sharedBytes: 228 << 10 };
/** What a block takes of shared memory beside its own. */
const RESERVED_SHARED = 1 << 10;
const WARP = 32;
/** Registers of a thread come in so many. */
const REGISTER_UNIT = 8;

const OPERATION = { load: 0x981, copy: 0xfae, wait: 0x91a, branch: 0x947, exit: 0x94d, end: 0x950 };
const LOAD_BYTES = [1, 1, 2, 2, 4, 8, 16, 0];
const COPY_BYTES = 16;
const COUNTERS = 6, ALWAYS = 7, INSTRUCTION_BYTES = 16;
/** Bytes of one counter beyond which a loop adds no more. */
const MOST_BYTES = 1 << 10;

/** What ptxas makes of one entry. */
export interface EntryUse {
  readonly registers: number;
  readonly sharedBytes: number;
  /** The most bytes of global memory that a thread has asked for and not waited for yet. */
  readonly bytesInFlight: number;
}

/** The uses of all entries in a PTX file by name. @throws {Deno.errors.NotFound} without ptxas. */
export function usesOf(ptxPath: string): ReadonlyMap<string, EntryUse> {
  const cubin = Deno.makeTempFileSync();
  try {
    const args = ["-v", `-arch=${CARD}`, ptxPath, "-o", cubin];
    const { success, stderr } = new Deno.Command("ptxas", { args, stderr: "piped" }).outputSync();
    const report = new TextDecoder().decode(stderr);
    if (!success) throw new Error(`Cannot assemble ${ptxPath}: ${report}`);
    const code = codeOf(Deno.readFileSync(cubin));
    return new Map(
      report.split(/(?=Compiling entry)/).slice(1).map((text): [string, EntryUse] => {
        const name = /entry function '(\w+)'/.exec(text)?.[1] ?? "";
        const number = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0);
        return [name, {
          registers: number(/Used (\d+) registers/),
          sharedBytes: number(/(\d+) bytes smem/),
          bytesInFlight: mostInFlight(code.get(name) ?? new Uint32Array()),
        }];
      }),
    );
  } finally {
    Deno.removeSync(cubin);
  }
}

/** The words of every section `.text.NAME` of an ELF file. */
function codeOf(elf: Uint8Array<ArrayBuffer>): Map<string, Uint32Array> {
  const view = new DataView(elf.buffer);
  const place = Number(view.getBigUint64(40, true)), size = view.getUint16(58, true);
  const sections = Array.from({ length: view.getUint16(60, true) }, (_, i) => {
    const at = place + i * size;
    return {
      name: view.getUint32(at, true),
      start: Number(view.getBigUint64(at + 24, true)),
      byteLength: Number(view.getBigUint64(at + 32, true)),
    };
  });
  const names = sections[view.getUint16(62, true)].start;
  const code = new Map<string, Uint32Array>();
  for (const { name, start, byteLength } of sections) {
    const from = names + name, to = elf.indexOf(0, from);
    const text = new TextDecoder().decode(elf.subarray(from, to));
    if (!text.startsWith(".text.")) continue;
    code.set(
      text.slice(".text.".length),
      new Uint32Array(elf.slice(start, start + byteLength).buffer),
    );
  }
  return code;
}

/** Bytes on their way by counter, the last of asynchronous copies, along all paths: where paths meet, the most of each. */
function mostInFlight(words: Uint32Array): number {
  const count = words.length / 4, states: (number[] | undefined)[] = [];
  const open: number[] = [], idle = new Array<number>(COUNTERS + 1).fill(0);
  let most = 0, begun = 0;
  // What no branch leads to is reached through a table.
  const nextOpen = () => {
    while (begun < count && states[begun] !== undefined) begun++;
    if (open.length === 0 && begun < count) open.push(begun);
    return open.pop();
  };
  for (let i = nextOpen(); i !== undefined; i = nextOpen()) {
    states[i] ??= idle;
    const [w0, w1, w2, w3] = words.subarray(4 * i, 4 * i + 4), operation = w0 & 0xfff;
    const state = [...states[i] ?? []];
    for (let counter = 0; counter < COUNTERS; counter++) {
      if (w3 >>> 20 + counter & 1) state[counter] = 0;
    }
    const raised = w3 >>> 14 & 7,
      add = (counter: number, bytes: number) => {
        if (counter <= COUNTERS) state[counter] = Math.min(MOST_BYTES, state[counter] + bytes);
      };
    if (operation === OPERATION.load && raised < COUNTERS) add(raised, LOAD_BYTES[w2 >>> 9 & 7]);
    if (operation === OPERATION.copy) add(COUNTERS, COPY_BYTES);
    if (operation === OPERATION.wait) state[COUNTERS] = 0;
    most = Math.max(most, state.reduce((sum, bytes) => sum + bytes));
    for (const next of successors(i, [w0, w1, w2])) {
      if (next < 0 || next >= count) continue;
      const known = states[next];
      if (known !== undefined && known.every((bytes, counter) => bytes >= state[counter])) continue;
      states[next] = state.map((bytes, counter) => Math.max(bytes, known?.[counter] ?? 0));
      open.push(next);
    }
  }
  return most;
}

/** Numbers of the instructions that may follow. */
function successors(i: number, [w0, w1, w2]: readonly [number, number, number]): number[] {
  const operation = w0 & 0xfff, isAlways = (w0 >>> 12 & 15) === ALWAYS;
  if (operation === OPERATION.exit || operation === OPERATION.end) return isAlways ? [] : [i + 1];
  if (operation !== OPERATION.branch) return [i + 1];
  const upper = (w1 >>> 2) + (w2 & 0x3ffff) * 2 ** 30,
    distance = upper >= 2 ** 47 ? upper - 2 ** 48 : upper;
  const target = i + 1 + (distance * 256 + (w0 >>> 16 & 255)) * 4 / INSTRUCTION_BYTES;
  const isPlain = isAlways && (w2 >>> 23 & 7) === ALWAYS;
  return isPlain ? [target] : [target, i + 1];
}

/** Threads of blocks like this launch's that one multiprocessor holds at once, where there are enough of them. */
function residentThreads(launch: LaunchAccesses, use: EntryUse): number {
  const threads = launch.block.reduce((product, extent) => product * extent);
  const warps = Math.ceil(threads / WARP);
  const registers = Math.ceil(use.registers / REGISTER_UNIT) * REGISTER_UNIT * WARP * warps;
  const shared = use.sharedBytes + launch.sharedBytes + RESERVED_SHARED;
  const blocks = Math.min(
    ...[LIMITS.blocks, Math.floor(LIMITS.threads / (warps * WARP))],
    ...[Math.floor(LIMITS.registers / registers), Math.floor(LIMITS.sharedBytes / shared)],
  );
  return blocks * threads;
}

const uses = new Map<string, EntryUse>();

/** What ptxas makes of an entry of the committed PTX. */
function useOf(entry: string): EntryUse {
  for (const { name } of uses.has(entry) ? [] : Deno.readDirSync(DIST)) {
    const path = `${DIST}/${name}`;
    if (!name.endsWith(".ptx") || !Deno.readTextFileSync(path).includes(`.entry ${entry}(`)) {
      continue;
    }
    for (const [one, use] of usesOf(path)) uses.set(one, use);
  }
  const use = uses.get(entry);
  if (use === undefined) throw new Error(`Cannot find ${entry} in ${DIST}`);
  return use;
}

/** Bytes on their way to a full multiprocessor in the launch of these that asks for most. */
export function bytesInFlight(launches: readonly LaunchAccesses[]): number {
  const moved = (launch: LaunchAccesses) => sumAccesses([launch]).moved;
  const launch = launches.reduce((one, other) => moved(other) > moved(one) ? other : one);
  const use = useOf(launch.kernel);
  return use.bytesInFlight * residentThreads(launch, use);
}

/** Whether ptxas is installed. */
export function hasAssembler(): boolean {
  try {
    return new Deno.Command("ptxas", { args: ["--version"], stdout: "null" }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
