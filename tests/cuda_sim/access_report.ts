// Reads what the simulator counts of the accesses to memory, see access_report.cpp.

/** Loads or stores of one operand in one launch. */
export interface Traffic {
  /** Of a warp. */
  readonly instructions: number;
  /** Bytes that lanes name, each once an instruction. */
  readonly needed: number;
  /** Bytes of the sectors of 32 bytes in which those lie: what the caches are asked for. */
  readonly moved: number;
  /** Bytes of the sectors that the launch touches, each once: what memory is asked for where caches are large enough. */
  readonly distinct: number;
  /** Accesses of lanes by width in bytes. */
  readonly widths: Readonly<Record<string, number>>;
}

/** One launch. */
export interface LaunchAccesses {
  readonly kernel: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  /** Dynamic shared memory of a block. */
  readonly sharedBytes: number;
  /** By the index of the kernel's parameter; -1 for what is none's. */
  readonly operands: readonly { readonly index: number; loads: Traffic; stores: Traffic }[];
  readonly shared: {
    /** Of a warp. */
    readonly accesses: number;
    /** How often the banks were asked, and how often they would be without conflicts. */
    readonly passes: number;
    readonly leastPasses: number;
    /** The most words of one bank in one pass. */
    readonly worstWays: number;
  };
}

const ACCESS = "TINYLLAMA_CUDA_SIM_ACCESS";

/** What the launches of `work` access; it returns once they are done. */
export async function accessesOf(work: () => Promise<void>): Promise<LaunchAccesses[]> {
  const path = Deno.makeTempFileSync();
  Deno.env.set(ACCESS, path);
  try {
    await work();
    const lines = Deno.readTextFileSync(path).split("\n");
    return lines.filter((line) => line !== "").map((line): LaunchAccesses => JSON.parse(line));
  } finally {
    Deno.env.delete(ACCESS);
    Deno.removeSync(path);
  }
}

/** Sums over all operands of these launches, loads and stores together. */
export interface AccessSums {
  readonly needed: number;
  readonly moved: number;
  readonly distinct: number;
  readonly worstWays: number;
}

/** Adds up launches. */
export function sumAccesses(launches: readonly LaunchAccesses[]): AccessSums {
  const all = launches.flatMap(({ operands }) =>
    operands.flatMap(({ loads, stores }) => [loads, stores])
  );
  const sum = (of: (traffic: Traffic) => number) => all.reduce((total, one) => total + of(one), 0);
  return {
    needed: sum(({ needed }) => needed),
    moved: sum(({ moved }) => moved),
    distinct: sum(({ distinct }) => distinct),
    worstWays: Math.max(0, ...launches.map(({ shared }) => shared.worstWays)),
  };
}

/** What an operation may ask of memory. */
export interface AccessLimits {
  /** Bytes that it must read and write. */
  readonly bytes: number;
  /** Bytes that it may ask of the caches beyond them. */
  readonly again?: number;
  /** Least share of the bytes of touched sectors that is needed; {@linkcode EFFICIENCY} where none is given. */
  readonly efficiency?: number;
  /** Most words of one bank of shared memory at once; {@linkcode WAYS} where none is given. */
  readonly ways?: number;
}

const EFFICIENCY = 0.95;
/** How much more may be moved than the limits say. */
const EXCESS = 1.05;
const WAYS = 2;

/** What of these launches is beyond the limits, in words. */
export function complaints(
  launches: readonly LaunchAccesses[],
  { bytes, again = 0, efficiency = EFFICIENCY, ways = WAYS }: AccessLimits,
): string[] {
  const { needed, moved, distinct, worstWays } = sumAccesses(launches);
  const found: string[] = [];
  const check = (isKept: boolean, words: string) => {
    if (!isKept) found.push(words);
  };
  check(
    needed >= efficiency * moved,
    `${(needed / moved).toFixed(3)} of the sectors is needed, expected ${efficiency}`,
  );
  check(
    distinct <= EXCESS * bytes,
    `${distinct} bytes of memory are touched, expected ${bytes}`,
  );
  check(
    moved <= EXCESS * (bytes + again),
    `${moved} bytes are asked for, expected ${bytes + again}`,
  );
  check(worstWays <= ways, `${worstWays} words of one bank at once, expected ${ways}`);
  return found;
}
