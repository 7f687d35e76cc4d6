// A case of the conformance suite: named tensors, one operation, what the outputs must be. Every tensor lies between
// guards of 0xFF bytes (NaN), so that a kernel that reads or writes beyond its operands is found out.

import assert from "node:assert/strict";
import type { Backend } from "../../../lib/core/backend.ts";
import type { DType } from "../../../lib/core/dtype.ts";
import { byteLength, carve, elementCount, type Tensor } from "../../../lib/core/tensor.ts";
import { relativeError, seeded } from "../../reference/finite_differences.ts";
import { decode, encode, roundTo } from "../../reference/quantize.ts";
import { TOLERANCE } from "../tolerances.ts";

/** A tensor before the operation. `bytes` null: an output, full of NaN. */
export interface Operand {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer> | null;
  /** True when the operation may leave anything in it. */
  readonly isScratch?: boolean;
}

/** An operand of real numbers; `values` are what its bytes stand for. */
export interface RealOperand extends Operand {
  readonly values: Float64Array;
}

/** What an output must be: real numbers within a tolerance (of the output's dtype by default), or exact integers. */
export interface Expectation {
  readonly values: Float64Array | Int32Array;
  readonly tolerance?: number;
}

/** One case; `check` runs it on every backend and compares with the reference and the backends with each other. */
export interface OpCase {
  readonly name: string;
  check(backends: readonly Backend[]): Promise<void>;
}

/** Given values, rounded to `dtype`. */
export function real(
  dtype: DType,
  shape: readonly number[],
  values: Float64Array,
): RealOperand {
  assert.equal(values.length, elementCount(shape));
  const bytes = encode(values, dtype);
  return { dtype, shape, bytes, values: decode(bytes.buffer, dtype) };
}

/** Values from −1 to 1 made from `seed`, rounded to `dtype`. */
export function random(dtype: DType, shape: readonly number[], seed: number): RealOperand {
  const values = seeded(elementCount(shape), seed);
  return real(dtype, shape, roundTo(values, "f32"));
}

/** Token ids, positions and the like. */
export function integers(shape: readonly number[], values: Int32Array): Operand {
  assert.equal(values.length, elementCount(shape));
  return { dtype: "i32", shape, bytes: new Uint8Array(values.slice().buffer) };
}

/** A tensor the operation must overwrite completely. */
export function output(dtype: DType, shape: readonly number[]): Operand {
  return { dtype, shape, bytes: null };
}

/** Integers from 0 to `below` − 1 made from `seed`. */
export function ids(count: number, below: number, seed: number): Int32Array {
  return Int32Array.from(seeded(count, seed), (value) => Math.floor((value + 1) / 2 * below));
}

/**
 * A case whose operation `enqueue` makes `expected` of its outputs. Tensors that `expected` does not name must come out
 * as they went in.
 */
export function opCase<K extends string>(
  name: string,
  tensors: Readonly<Record<K, Operand>>,
  enqueue: (ops: Backend, tensors: Readonly<Record<K, Tensor>>) => void,
  expected: Readonly<Partial<Record<K, Expectation>>>,
): OpCase {
  const operands = new Map<string, Operand>(Object.entries<Operand>(tensors));
  const expectations = new Map(Object.entries<Expectation | undefined>(expected));
  return {
    name,
    async check(backends) {
      let first: ReadonlyMap<string, Uint8Array> | null = null;
      for (const backend of backends) {
        const results = await runCase(backend, tensors, operands, enqueue);
        for (const [key, { dtype, bytes, isScratch }] of operands) {
          if (isScratch) continue;
          const found = bytesOf(results, key), expectation = expectations.get(key);
          if (expectation !== undefined) compare(`${name}: ${key}`, dtype, found, expectation);
          else assert.deepEqual(found, bytes, `${name}: ${key} was changed`);
          const same: Uint8Array = first === null ? found : bytesOf(first, key);
          assert.deepEqual(found, same, `${name}: ${key} depends on ${backend.info.name}`);
        }
        first ??= results;
      }
    },
  };
}

// Views of a device may have to be aligned by this; the CPU's kernels must also take tensors aligned to 4 bytes only.
const ALIGNMENT = { cpu: 4, webgpu: 256, cuda: 256 } as const;
const GUARD = 256;

async function runCase<K extends string>(
  backend: Backend,
  tensors: Readonly<Record<K, Operand>>,
  operands: ReadonlyMap<string, Operand>,
  enqueue: (ops: Backend, tensors: Readonly<Record<K, Tensor>>) => void,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const start = GUARD + ALIGNMENT[backend.kind];
  const specs: Record<string, { dtype: "u8"; shape: number[] }> = {};
  for (const [key, spec] of operands) {
    specs[key] = { dtype: "u8", shape: [start + byteLength(spec) + GUARD] };
  }
  using arena = backend.allocate("case", specs);
  const placed: Record<string, Tensor> = {};
  for (const [key, { dtype, shape, bytes }] of operands) {
    const guarded = new Uint8Array(byteLength(arena.tensors[key])).fill(0xff);
    if (bytes !== null) guarded.set(bytes, start);
    backend.write(arena.tensors[key], guarded);
    placed[key] = carve(arena.tensors[key], key, { dtype, shape }, start);
  }
  const named: object = placed;
  if (!hasKeys(named, tensors)) throw new TypeError("Cannot place the tensors of a case");
  enqueue(backend, named);
  const results = new Map<string, Uint8Array>();
  for (const [key, spec] of operands) {
    const guarded = new Uint8Array(await backend.read(arena.tensors[key]));
    const end = start + byteLength(spec);
    const isIntact = (byte: number, at: number) => byte === 0xff || (at >= start && at < end);
    assert.ok(guarded.every(isIntact), `${key}: bytes beyond the tensor were written`);
    results.set(key, guarded.slice(start, end));
  }
  return results;
}

function compare(name: string, dtype: DType, found: Uint8Array, expectation: Expectation): void {
  const bytes = found.slice().buffer, { values } = expectation;
  if (values instanceof Int32Array) return assert.deepEqual(new Int32Array(bytes), values, name);
  const tolerance = expectation.tolerance ?? TOLERANCE[dtype];
  if (tolerance === 0) return assert.deepEqual(found, encode(values, dtype), name);
  const error = relativeError(decode(bytes, dtype), values);
  assert.ok(error <= tolerance, `${name}: relative error ${error}, at most ${tolerance}`);
}

function bytesOf(results: ReadonlyMap<string, Uint8Array>, key: string): Uint8Array {
  const bytes = results.get(key);
  assert.ok(bytes !== undefined);
  return bytes;
}

function hasKeys<K extends string>(
  placed: object,
  tensors: Readonly<Record<K, Operand>>,
): placed is Record<K, Tensor> {
  return Object.keys(tensors).every((key) => Object.hasOwn(placed, key));
}
