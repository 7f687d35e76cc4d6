// How long work takes on the device, and what the device can do at most: copies between its own memory, and one large
// product in bf16.

import { rows, type Tensor } from "../../lib/core/tensor.ts";
import type { BenchBackend } from "./gpu_device.ts";
import { fillRandom } from "./gpu_random.ts";
import type { BenchSizes } from "./gpu_sizes.ts";
import { median } from "./median.ts";

const MAX_REPEATS = 256;
const ALIGNMENT = 256;

/** The figures beside which a kernel's rate means something. */
export interface Ceilings {
  /** GB/s of a copy, read and written bytes together. */
  readonly copyGbs: number;
  readonly productTflops: number;
}

/** Measures on one device. */
export class Measure implements Disposable {
  readonly bench: BenchBackend;
  readonly #sizes: BenchSizes;
  readonly #arena;
  readonly #copyMs = new Map<number, number>();
  #nextKey = 0;

  /** Allocates twice `sizes.copyBytes`. */
  constructor(bench: BenchBackend, sizes: BenchSizes) {
    this.bench = bench;
    this.#sizes = sizes;
    const spec = { dtype: "u8", shape: [sizes.copyBytes] } as const;
    this.#arena = bench.backend.allocate("copies", { from: spec, to: spec });
  }

  /**
   * Milliseconds on the device of one call of `run`, the median over rounds. It is called with 0 … `turns` − 1 in a circle,
   * for operands that take turns, and replayed, so that the host costs nothing.
   */
  async deviceMs(turns: number, run: (turn: number) => void): Promise<number> {
    const { backend, clock } = this.bench, { rounds, roundMs } = this.#sizes;
    clock.reset();
    for (let turn = 0; turn < turns; turn++) run(turn);
    const before = clock.mark();
    for (let turn = 0; turn < turns; turn++) run(turn);
    const after = clock.mark();
    await backend.synchronize();
    const circles = Math.ceil(roundMs / clock.elapsedMs(before, after));
    const repeats = turns * Math.max(1, Math.min(Math.floor(MAX_REPEATS / turns), circles));
    const key = `measure ${this.#nextKey++}`;
    const record = () => {
      for (let i = 0; i < repeats; i++) run(i % turns);
    };
    for (let time = 0; time < 2; time++) backend.replay(key, record); // as it is, then captured
    const marks = [clock.mark()];
    for (let round = 0; round < rounds; round++) {
      backend.replay(key, record);
      marks.push(clock.mark());
    }
    await backend.synchronize();
    const each = marks.slice(1).map((mark, round) => clock.elapsedMs(marks[round], mark));
    return median(each) / repeats;
  }

  /** Milliseconds of a copy that reads and writes `bytes` in all. */
  async copyMs(bytes: number): Promise<number> {
    const { copyBytes, turnBytes } = this.#sizes, { backend } = this.bench;
    const half = Math.min(
      copyBytes,
      Math.max(ALIGNMENT, Math.ceil(bytes / 2 / ALIGNMENT) * ALIGNMENT),
    );
    let ms = this.#copyMs.get(half);
    if (ms === undefined) {
      const turns = Math.max(
        1,
        Math.min(64, Math.floor(copyBytes / half), Math.floor(turnBytes / half)),
      );
      const part = (tensor: Tensor, turn: number) => rows(tensor, turn * half, (turn + 1) * half);
      const { from, to } = this.#arena.tensors;
      ms = await this.deviceMs(turns, (turn) => backend.copy(part(to, turn), part(from, turn)));
      this.#copyMs.set(half, ms);
    }
    return ms * bytes / (2 * half);
  }

  /** Both ceilings. */
  async ceilings(): Promise<Ceilings> {
    const { copyBytes, productExtent: n } = this.#sizes, { backend } = this.bench;
    const copyGbs = 2 * copyBytes / await this.copyMs(2 * copyBytes) / 1e6;
    const spec = { dtype: "bf16", shape: [n, n] } as const;
    using arena = backend.allocate("product", { out: spec, x: spec, weight: spec });
    const { out, x, weight } = arena.tensors;
    fillRandom(backend, x, 1);
    fillRandom(backend, weight, 2);
    const ms = await this.deviceMs(1, () => backend.linearForward(out, x, weight, null));
    return { copyGbs, productTflops: 2 * n ** 3 / ms / 1e9 };
  }

  [Symbol.dispose](): void {
    this.#arena[Symbol.dispose]();
  }
}
