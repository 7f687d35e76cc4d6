// A backend that reserves and computes nothing: it only counts, so that a run's memory table exists before the run.

import type { Footprint } from "../backend/footprint.ts";
import type { Allocation, Arena, Backend } from "../core/backend.ts";
import { UnsupportedError } from "../core/errors.ts";
import { byteLength, checkSpec, hasTensors, type Tensor, type TensorSpec } from "../core/tensor.ts";

/**
 * Allocations are checked and recorded as they would happen on a device of this footprint, operations are ignored. Reading
 * throws.
 */
export function countingBackend({ kind, precision, alignment, reserved }: Footprint): Backend {
  const live = new Set<Allocation>();
  const ignore = () => {};
  const allocations = () => [...reserved, ...live];
  const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  return {
    kind,
    info: { name: "none", isAsynchronous: false, waitsForAll: true, peakFlops: null },
    precision,
    get allocatedBytes() {
      return allocations().reduce((sum, one) => sum + one.byteLength, 0);
    },
    allocations,
    allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K> {
      const buffer = { byteLength: 0 };
      const named: Record<string, Tensor> = {};
      let bytes = 0;
      for (const [key, { dtype, shape }] of Object.entries<TensorSpec>(specs)) {
        const name = `${label}.${key}`;
        checkSpec(name, { dtype, shape });
        bytes += aligned(byteLength({ dtype, shape }));
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
