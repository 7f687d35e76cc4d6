// A backend that reserves and computes nothing: it only counts, so that a run's memory table exists before the run.

import type { Allocation, Arena, Backend, Precision } from "../core/backend.ts";
import { UnsupportedError } from "../core/errors.ts";
import { byteLength, hasTensors, type Tensor, type TensorSpec } from "../core/tensor.ts";

const F32: Precision = { param: "f32", compute: "f32", grad: "f32", master: null, matmul: "f32" };

/**
 * Allocations are recorded as they would happen on a CPU and operations are ignored. Reading throws.
 */
export function countingBackend(): Backend {
  const live = new Set<Allocation>();
  const ignore = () => {};
  const total = () => [...live].reduce((sum, one) => sum + one.byteLength, 0);
  return {
    kind: "cpu",
    info: { name: "none", isAsynchronous: false, peakFlops: null },
    precision: F32,
    get allocatedBytes() {
      return total();
    },
    allocations: () => [...live],
    allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K> {
      const buffer = { byteLength: 0 };
      const named: Record<string, Tensor> = {};
      let bytes = 0;
      for (const [key, { dtype, shape }] of Object.entries<TensorSpec>(specs)) {
        bytes += byteLength({ dtype, shape });
        const name = `${label}.${key}`;
        named[key] = { name, dtype, shape, buffer, byteOffset: 0, parts: null };
      }
      const tensors: object = named;
      if (!hasTensors(tensors, specs)) throw new TypeError(`Cannot name the tensors of "${label}"`);
      const line = { label, byteLength: bytes };
      live.add(line);
      return {
        tensors,
        byteLength: bytes,
        [Symbol.dispose]: () => void live.delete(line),
      };
    },
    map: () => null,
    write: ignore,
    read: () => Promise.reject(new UnsupportedError("Cannot read: nothing was computed")),
    copy: ignore,
    fill: ignore,
    fence: () => ({ kind: "fence" }),
    wait: ignore,
    replay: (_key, record) => record(),
    synchronize: () => Promise.resolve(),
    embeddingForward: ignore,
    embeddingBackward: ignore,
    rmsnormForward: ignore,
    rmsnormBackward: ignore,
    linearForward: ignore,
    linearBackwardInput: ignore,
    linearBackwardWeight: ignore,
    ropeForward: ignore,
    ropeBackward: ignore,
    attentionForward: ignore,
    attentionBackward: ignore,
    kvCacheAppend: ignore,
    attentionCached: ignore,
    swigluForward: ignore,
    swigluBackward: ignore,
    crossEntropyForward: ignore,
    crossEntropyForwardBackward: ignore,
    sum: ignore,
    sumOfSquares: ignore,
    clipScale: ignore,
    adamwUpdate: ignore,
    sampleToken: ignore,
    cast: ignore,
    quantize: ignore,
    [Symbol.dispose]: () => live.clear(),
  };
}
