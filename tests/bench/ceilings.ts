// What the machine can do at most, measured by ceilings.c: the figures beside which a kernel's rate means something.

import { join } from "node:path";

/** Rates of all threads together. */
export interface Ceilings {
  readonly f32Gflops: number;
  /** 0 where the processor has no such instruction, or the program does not know it. */
  readonly bf16Gflops: number;
  /** As `bf16Gflops`, of 8-bit integers. */
  readonly int8Gops: number;
  /** GB/s read from memory. */
  readonly readGbs: number;
}

/** Compiles and runs ceilings.c, about two seconds. Null without a C compiler. */
export async function measureCeilings(threads: number): Promise<Ceilings | null> {
  const folder = await Deno.makeTempDir();
  try {
    const program = join(folder, "ceilings");
    if (!await isCompiled(program)) return null;
    const { code, stdout } = await new Deno.Command(program, { args: [String(threads)] }).output();
    if (code !== 0) throw new Error(`Cannot measure the machine: ceilings ended with code ${code}`);
    const rates = JSON.parse(new TextDecoder().decode(stdout));
    return {
      f32Gflops: rates.f32_gflops,
      bf16Gflops: rates.bf16_gflops,
      int8Gops: rates.int8_gops,
      readGbs: rates.read_gbs,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function isCompiled(program: string): Promise<boolean> {
  const source = join(import.meta.dirname ?? ".", "ceilings.c");
  const flags = ["-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-pthread"];
  for (const compiler of ["gcc", "clang", "cc"]) {
    try {
      const command = new Deno.Command(compiler, { args: [...flags, source, "-o", program] });
      return (await command.output()).success;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return false;
}
