// Arenas of the WebGPU backend: a buffer per tensor, because one dispatch may not read and write the same buffer through
// two bindings. Nothing is mapped: weights come through `write`.

import type { Allocation, Arena, Memory } from "../../core/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import {
  byteLength,
  checkSpec,
  type DeviceBuffer,
  hasTensors,
  type Tensor,
  type TensorSpec,
} from "../../core/tensor.ts";
import type { CommandStream } from "./command_stream.ts";
import type { WebgpuDevice } from "./device.ts";
import type { PackedWeight } from "./texels.ts";

/** The memory of one tensor. Dead once its arena is disposed. */
export class GpuBuffer implements DeviceBuffer {
  readonly owner: GpuMemory;
  readonly buffer: GPUBuffer;
  readonly byteLength: number;
  /** Names the buffer in cache keys. */
  readonly id: number;
  isLive = true;
  /** Forms of what lies here that products read. */
  readonly packed: PackedWeight[] = [];

  constructor(owner: GpuMemory, buffer: GPUBuffer, byteLength: number, id: number) {
    this.owner = owner;
    this.buffer = buffer;
    this.byteLength = byteLength;
    this.id = id;
  }

  /** Everything that enqueues a change of the buffer says so. */
  markWritten(): void {
    for (const weight of this.packed) weight.isFresh = false;
  }
}

/** Copies go in steps of this many bytes, and so do buffer sizes. */
const WORD = 4;

function wholeWords(bytes: number): number {
  return Math.max(WORD, Math.ceil(bytes / WORD) * WORD);
}

/** Buffers and bindings end at whole fours of words, so that shaders may read the last words four at a time. */
export function wholeFours(bytes: number): number {
  return Math.max(4 * WORD, Math.ceil(bytes / (4 * WORD)) * 4 * WORD);
}

/** The bytes of a view, filled up to whole words; copied only where they are not whole or are shared. */
function inWholeWords(source: ArrayBufferView): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = source;
  if (buffer instanceof ArrayBuffer && byteLength % WORD === 0) {
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
  const words = new Uint8Array(wholeWords(byteLength));
  words.set(new Uint8Array(buffer, byteOffset, byteLength));
  return words;
}

/** Bytes up to which a staging buffer is kept for the next read of its size. */
const MAX_KEPT_STAGING = 1 << 20;

/** A buffer through which results come to the host. */
interface Staging {
  readonly buffer: GPUBuffer;
  wasMapped: boolean;
}

/**
 * A copy of the bytes written to a staging buffer, which stays mapped. Deno waits for the device inside `mapAsync` and
 * then looks every 10 ms whether that is done, so the bytes are there long before its promise resolves. A buffer that was
 * never mapped has to wait for that promise.
 */
async function mappedBytes(staging: Staging): Promise<ArrayBuffer> {
  await null; // what the caller enqueues next is not waited for before it is there
  const mapping = staging.buffer.mapAsync(GPUMapMode.READ);
  if (staging.wasMapped) {
    mapping.catch(() => {});
    try {
      return staging.buffer.getMappedRange().slice(0);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }
  await mapping;
  staging.wasMapped = true;
  return staging.buffer.getMappedRange().slice(0);
}

/** Bytes of writes after which they are submitted. */
const MAX_UNSUBMITTED = 1 << 26;

interface LiveArena {
  readonly line: Allocation;
  readonly buffers: readonly GpuBuffer[];
}

/** The memory half of the backend. `onDispose` is called before buffers are destroyed. */
export class GpuMemory implements Omit<Memory, "fill">, Disposable {
  readonly #gpu: WebgpuDevice;
  readonly #stream: CommandStream;
  readonly #onDispose: () => void;
  readonly #live = new Set<LiveArena>();
  readonly #staging = new Map<number, Staging[]>();
  #allocatedBytes = 0;
  #unsubmittedBytes = 0;
  #refusesTextures = false;
  #nextId = 1;

  constructor(gpu: WebgpuDevice, stream: CommandStream, onDispose: () => void) {
    this.#gpu = gpu;
    this.#stream = stream;
    this.#onDispose = onDispose;
  }

  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  allocations(): readonly Allocation[] {
    return Array.from(this.#live, (arena) => arena.line);
  }

  allocate<K extends string>(label: string, specs: Readonly<Record<K, TensorSpec>>): Arena<K> {
    const { tensors, buffers } = this.#create(label, specs);
    const named: object = tensors;
    if (!hasTensors(named, specs)) throw new TypeError(`Cannot name the tensors of "${label}"`);
    const size = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
    const arena = { line: { label, byteLength: size }, buffers };
    this.#live.add(arena);
    this.#allocatedBytes += size;
    return { tensors: named, byteLength: size, [Symbol.dispose]: () => this.#free(arena) };
  }

  /** A flat f32 tensor for the backend's own work, which stands in no memory table. Ends with `release`. */
  reserve(label: string, count: number): Tensor {
    return this.#create(label, { f32: { dtype: "f32", shape: [count] } }).tensors.f32;
  }

  /** Destroys what `reserve` gave. */
  release(tensor: Tensor): void {
    const buffer = this.place("release", tensor);
    this.#onDispose();
    destroy([buffer]);
  }

  /**
   * The texture of `width` x `height` texels of four words for a weight's packed form; it lives as long as the weight and
   * stands in no memory table. Null where textures are smaller, and after the device had no memory for one.
   */
  pack(weight: Tensor, width: number, height: number): PackedWeight | null {
    const { device } = this.#gpu, { packed } = this.place("pack", weight);
    const isTooLarge = Math.max(width, height) > device.limits.maxTextureDimension2D;
    if (this.#refusesTextures || isTooLarge) return null;
    const key = `${weight.byteOffset} ${weight.dtype} ${width} x ${height}`;
    const known = packed.find((one) => one.key === key);
    if (known !== undefined) return known;
    device.pushErrorScope("out-of-memory");
    const texture = device.createTexture({
      label: `packed ${weight.name}`,
      size: [width, height],
      format: "rgba32uint",
      usage: GPUTextureUsage.STORAGE_BINDING,
    });
    this.#expectMemory(`pack "${weight.name}"`, 16 * width * height, () => {
      this.#refusesTextures = true;
      this.#onDispose();
    });
    const made = { texture, key, isFresh: false };
    packed.push(made);
    return made;
  }

  map(): null {
    return null;
  }

  write(dst: Tensor, source: ArrayBufferView): void {
    const size = byteLength(dst);
    if (source.byteLength !== size) {
      throw new RangeError(
        `Cannot write "${dst.name}": got ${source.byteLength} bytes, expected ${size}`,
      );
    }
    const place = this.place("write", dst);
    this.#stream.refuseInReplay("write");
    this.#stream.flush();
    this.#checkWords("write", dst, size);
    if (size === 0) return;
    place.markWritten();
    const { queue } = this.#gpu.device;
    queue.writeBuffer(place.buffer, dst.byteOffset, inWholeWords(source));
    // Written bytes wait in copies of their own until something is submitted.
    this.#unsubmittedBytes += size;
    if (this.#unsubmittedBytes < MAX_UNSUBMITTED) return;
    queue.submit([]);
    this.#unsubmittedBytes = 0;
  }

  async read(source: Tensor): Promise<ArrayBuffer> {
    const { buffer } = this.place("read", source);
    const size = byteLength(source);
    if (size === 0) return new ArrayBuffer(0);
    this.#checkWords("read", source, size);
    const pool = this.#stagingOf(wholeWords(size));
    const staging = pool.pop() ?? this.#createStaging(wholeWords(size));
    this.#stream.copy(buffer, source.byteOffset, staging.buffer, 0, wholeWords(size));
    this.#stream.flush();
    const bytes = await mappedBytes(staging).catch((error: unknown) => {
      this.#gpu.check();
      throw error;
    });
    staging.buffer.unmap();
    if (staging.buffer.size <= MAX_KEPT_STAGING) pool.push(staging);
    else staging.buffer.destroy();
    this.#gpu.check();
    return bytes.byteLength === size ? bytes : bytes.slice(0, size);
  }

  copy(dst: Tensor, source: Tensor): void {
    const to = this.place("copy", dst), from = this.place("copy", source);
    const size = byteLength(dst);
    if (byteLength(source) !== size) {
      throw new RangeError(
        `Cannot copy "${source.name}" of ${byteLength(source)} bytes over "${dst.name}" of ${size}`,
      );
    }
    const isApart = dst.byteOffset + size <= source.byteOffset ||
      source.byteOffset + size <= dst.byteOffset;
    if (to === from && !isApart) {
      throw new RangeError(`Cannot copy "${source.name}" over "${dst.name}": they overlap`);
    }
    if (size === 0) return;
    this.#checkWords("copy", dst, size);
    this.#checkWords("copy", source, size);
    const words = wholeWords(size);
    to.markWritten();
    this.#stream.copy(from.buffer, source.byteOffset, to.buffer, dst.byteOffset, words);
  }

  /**
   * The buffer behind a tensor.
   * @throws {DeviceError} when it belongs to another backend or to a disposed arena.
   */
  place(verb: string, tensor: Tensor): GpuBuffer {
    const { buffer } = tensor;
    if (!(buffer instanceof GpuBuffer) || buffer.owner !== this) {
      throw new DeviceError(`Cannot ${verb} "${tensor.name}": it belongs to another backend`);
    }
    if (!buffer.isLive) {
      throw new DeviceError(`Cannot ${verb} "${tensor.name}": its arena has been disposed`);
    }
    return buffer;
  }

  [Symbol.dispose](): void {
    for (const arena of [...this.#live]) this.#free(arena);
    for (const list of this.#staging.values()) for (const { buffer } of list) buffer.destroy();
    this.#staging.clear();
  }

  #create(label: string, specs: Readonly<Record<string, TensorSpec>>) {
    const { device, adapter } = this.#gpu;
    for (const [key, spec] of Object.entries(specs)) {
      checkFits(`${label}.${key}`, spec, adapter.limits.maxBufferSize, adapter.description);
    }
    const tensors: Record<string, Tensor> = {};
    const buffers: GpuBuffer[] = [];
    device.pushErrorScope("out-of-memory");
    for (const [key, { dtype, shape }] of Object.entries(specs)) {
      const name = `${label}.${key}`;
      const size = wholeWords(byteLength({ dtype, shape }));
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      const raw = device.createBuffer({ label: name, size: wholeFours(size), usage });
      const buffer = new GpuBuffer(this, raw, size, this.#nextId++);
      buffers.push(buffer);
      tensors[key] = { name, dtype, shape, buffer, byteOffset: 0, parts: null };
    }
    const size = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
    this.#expectMemory(`allocate "${label}"`, size);
    return { tensors, buffers };
  }

  /** Closes the scope of errors around an allocation: the device tells later that it has no memory for it. */
  #expectMemory(doing: string, size: number, onRefusal?: () => void): void {
    const inUse = this.#allocatedBytes;
    const told = (message: string) => {
      onRefusal?.();
      const reason = `${size} bytes were asked for, ${inUse} bytes are in use`;
      this.#gpu.fail(doing, `${reason}; ${message}`);
    };
    this.#gpu.device.popErrorScope().then(
      (error) => error === null || told(error.message),
      // A lost device may have no scopes any more.
      (error: unknown) => told(error instanceof Error ? error.message : String(error)),
    );
  }

  #free(arena: LiveArena): void {
    if (!this.#live.delete(arena)) return;
    this.#onDispose();
    destroy(arena.buffers);
    this.#allocatedBytes -= arena.line.byteLength;
  }

  #stagingOf(size: number): Staging[] {
    const pool = this.#staging.get(size) ?? [];
    this.#staging.set(size, pool);
    return pool;
  }

  #createStaging(size: number): Staging {
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const buffer = this.#gpu.device.createBuffer({ label: "read back", size, usage });
    return { buffer, wasMapped: false };
  }

  // The API moves whole words. The last word of a whole buffer is padding, that of a view is its neighbour's.
  #checkWords(verb: string, tensor: Tensor, size: number): void {
    const isTail = tensor.byteOffset + wholeWords(size) === this.place(verb, tensor).byteLength;
    if (tensor.byteOffset % WORD === 0 && (size % WORD === 0 || isTail)) return;
    throw new DeviceError(
      `Cannot ${verb} "${tensor.name}": ${size} bytes at byte ${tensor.byteOffset} are not whole words`,
    );
  }
}

function destroy(buffers: readonly GpuBuffer[]): void {
  for (const buffer of buffers) {
    buffer.isLive = false;
    buffer.buffer.destroy();
    for (const { texture } of buffer.packed) texture.destroy();
  }
}

function checkFits(name: string, spec: TensorSpec, maxBytes: number, adapter: string): void {
  checkSpec(name, spec);
  const bytes = wholeFours(byteLength(spec));
  if (bytes <= maxBytes) return;
  throw new DeviceError(
    `Cannot allocate "${name}" on webgpu: asked for ${bytes} bytes, ${adapter} has buffers of at ` +
      `most ${maxBytes}`,
  );
}
