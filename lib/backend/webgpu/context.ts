// What the twelve family files get: compiling shaders and running them on tensors. Every dispatch that was ever asked for
// is kept with its bind group, so asking again costs one look-up and no allocation on the device.

import { DeviceError } from "../../core/errors.ts";
import { byteLength, elementCount, type Tensor } from "../../core/tensor.ts";
import type { CommandStream, Dispatch } from "./command_stream.ts";
import type { WebgpuDevice } from "./device.ts";
import { type GpuBuffer, type GpuMemory, wholeFours } from "./memory.ts";
import {
  firstTexelWord,
  MAX_TEXEL_BYTES,
  type PackedWeight,
  type TexelPlace,
  TexelStore,
  type Upload,
} from "./texels.ts";

/** One entry point of a shader, compiled. */
export interface Kernel {
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
}

/** A tensor that a kernel reads as texels: whole texels of it, copied into the texture of `place` before the dispatch. */
export interface TexelOperand extends TexelPlace {
  readonly texels: Tensor;
}

/** The packed form of a weight. A dispatch whose first operand it is makes it, and is left out while it is fresh. */
export interface PackedOperand {
  readonly packed: PackedWeight;
  readonly weight: Tensor;
}

/** What a kernel is given for one of its bindings; null where it makes no use of it. */
export type Operand = Tensor | TexelOperand | PackedOperand | null;

/** An entry point and its override constants. */
export interface KernelSpec {
  readonly entryPoint: string;
  readonly constants?: Readonly<Record<string, number>>;
}

/** The same with the sources to join. */
export interface KernelVariant extends KernelSpec {
  readonly sources: readonly string[];
}

/** Entry points by name. */
export type KernelSpecs<K extends string> = Readonly<Record<K, KernelSpec>>;

/** Words of a uniform slot, and bytes between slots. */
const SLOT_WORDS = 64;
const SLOT_BYTES = 4 * SLOT_WORDS;
const SLOTS_PER_PAGE = 256;
/** Storage bindings start at multiples of this on every adapter. */
const BINDING_ALIGNMENT = 256;
/** More distinct dispatches than any model has; beyond it the cache starts anew. */
const MAX_CACHED = 1 << 16;
/** Elements of scratch memory taken at the first need: enough for most models, so that it does not grow later. */
const MIN_SCRATCH = 1 << 22;
/** Workgroups in one dimension of a dispatch. */
export const MAX_GROUPS = 65535;

/** Compiles and runs kernels on one device. */
export class GpuContext {
  readonly gpu: WebgpuDevice;
  readonly memory: GpuMemory;
  readonly #stream: CommandStream;
  readonly #cache = new Map<string, Dispatch>();
  readonly #variants = new Map<string, Kernel>();
  readonly #pages: GPUBuffer[] = [];
  readonly #words = new Uint32Array(SLOT_WORDS);
  readonly #floats = new Float32Array(this.#words.buffer);
  readonly #absent: GPUBuffer;
  readonly #texels: TexelStore;
  #scratch: Tensor | null = null;
  #nextSlot = 0;
  #nextKernel = 0;

  constructor(gpu: WebgpuDevice, memory: GpuMemory, stream: CommandStream) {
    this.gpu = gpu;
    this.memory = memory;
    this.#stream = stream;
    const usage = GPUBufferUsage.STORAGE;
    this.#absent = gpu.device.createBuffer({ label: "absent tensor", size: SLOT_BYTES, usage });
    this.#texels = new TexelStore(gpu);
  }

  /** Bytes that one binding may span: as a buffer, and on a software adapter as texels. */
  get maxBindingBytes(): number {
    const { isSoftware, limits } = this.gpu.adapter;
    const bytes = limits.maxStorageBufferBindingSize;
    return isSoftware ? Math.min(bytes, MAX_TEXEL_BYTES) : bytes;
  }

  /**
   * Compiles entry points of one shader side by side; `sources` are joined. Binding 0 is the uniform of parameters, the
   * tensors of `run` follow from 1 on.
   * @throws {DeviceError} with the compiler's message.
   */
  async compile<K extends string>(
    label: string,
    sources: readonly string[],
    specs: KernelSpecs<K>,
  ): Promise<Readonly<Record<K, Kernel>>> {
    const { device } = this.gpu;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code: sources.join("\n") });
    const refusal = await device.popErrorScope();
    if (refusal !== null) {
      throw new DeviceError(`Cannot compile the webgpu kernels "${label}": ${refusal.message}`);
    }
    const kernels: Record<string, Kernel> = {};
    const entries = Object.entries<KernelSpecs<K>[K]>(specs);
    await Promise.all(entries.map(async ([key, { entryPoint, constants }]) => {
      const compute = { module, entryPoint, constants: { ...constants } };
      try {
        const pipeline = await device.createComputePipelineAsync({
          label: `${label} ${key}`,
          layout: "auto",
          compute,
        });
        kernels[key] = { id: this.#nextKernel++, pipeline };
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new DeviceError(`Cannot compile the webgpu kernel "${label} ${key}": ${reason}`);
      }
    }));
    const named: object = kernels;
    if (!hasKernels(named, specs)) throw new TypeError(`Cannot compile all kernels of "${label}"`);
    return named;
  }

  /**
   * The kernel known as `key`, compiled at its first need as `describe` says: for families with many variants of which a
   * run needs few. The device reports a failure where the host waits next.
   */
  variant(key: string, describe: () => KernelVariant): Kernel {
    let kernel = this.#variants.get(key);
    if (kernel === undefined) {
      const { device } = this.gpu;
      const { sources, entryPoint, constants } = describe();
      const module = device.createShaderModule({ label: key, code: sources.join("\n") });
      const compute = { module, entryPoint, constants: { ...constants } };
      const pipeline = device.createComputePipeline({ label: key, layout: "auto", compute });
      kernel = { id: this.#nextKernel++, pipeline };
      this.#variants.set(key, kernel);
    }
    return kernel;
  }

  /**
   * Enqueues `kernel` on `groups` workgroups. The uniform holds, in this order: for each tensor the index of its first
   * element in its binding, counted in 32-bit words; then `integers` as u32; then `floats`. Null operands are bound to a
   * dummy. Workgroups beyond the limit of x continue in y: a kernel's group is x + y · (number of groups in x).
   *
   * A kernel writes into its first operand; into further ones only where they are f32 or i32, which have no packed form.
   */
  run(
    kernel: Kernel,
    operands: readonly Operand[],
    integers: readonly number[],
    floats: readonly number[],
    groups: number,
  ): void {
    if (groups <= 0) return;
    const key = this.#keyOf(kernel, operands, integers, floats, groups);
    let dispatch = this.#cache.get(key);
    if (dispatch === undefined) {
      dispatch = this.#prepare(kernel, operands, integers, floats, groups);
      this.#cache.set(key, dispatch);
    }
    this.#stream.dispatch(dispatch);
  }

  /**
   * A flat f32 tensor of at least `count` elements for what one operation passes between its own dispatches; the next
   * operation may overwrite it.
   */
  scratch(count: number): Tensor {
    if (this.#scratch === null || elementCount(this.#scratch.shape) < count) {
      if (this.#scratch !== null) this.memory.release(this.#scratch);
      this.#scratch = this.memory.reserve("scratch", Math.max(count, MIN_SCRATCH));
    }
    return { ...this.#scratch, shape: [count] };
  }

  /** Drops every prepared dispatch: buffers are about to be destroyed. Work enqueued before is submitted first. */
  forget(): void {
    this.#stream.flush();
    this.#stream.forget();
    this.#cache.clear();
    this.#nextSlot = 0;
  }

  /** Frees the buffers of parameters. */
  destroy(): void {
    this.forget();
    if (this.#scratch !== null) this.memory.release(this.#scratch);
    this.#scratch = null;
    this.#texels[Symbol.dispose]();
    for (const page of this.#pages) page.destroy();
    this.#absent.destroy();
  }

  #keyOf(
    kernel: Kernel,
    operands: readonly Operand[],
    integers: readonly number[],
    floats: readonly number[],
    groups: number,
  ): string {
    let key = `${kernel.id}x${groups}`;
    for (const operand of operands) {
      if (operand === null) key += "|-";
      else {
        const tensor = tensorOf(operand);
        const { id } = this.memory.place("compute with", tensor);
        key += `|${id}+${tensor.byteOffset}:${byteLength(tensor)}`;
      }
    }
    for (const value of integers) key += `,${value}`;
    for (const value of floats) key += `;${value}`;
    return key;
  }

  #prepare(
    kernel: Kernel,
    operands: readonly Operand[],
    integers: readonly number[],
    floats: readonly number[],
    groups: number,
  ): Dispatch {
    if (this.#cache.size >= MAX_CACHED) this.forget();
    this.#reserveTexels(operands);
    let word = 0;
    const entries: GPUBindGroupEntry[] = [];
    const uploads: Upload[] = [], uploaded = new Set<number>();
    this.#words.fill(0);
    operands.forEach((operand, index) => {
      const binding = index + 1;
      if (operand !== null && "packed" in operand) {
        this.#words[word++] = 0;
        entries.push({ binding, resource: operand.packed.texture.createView() });
      } else if (operand !== null && "texels" in operand) {
        if (!uploaded.has(operand.place)) uploads.push(...this.#uploads(operand));
        uploaded.add(operand.place);
        this.#words[word++] = firstTexelWord(operand);
        entries.push({ binding, resource: this.#texels.view(operand) });
      } else {
        const { buffer, offset, size, start } = this.#bind(operand);
        this.#words[word++] = start;
        entries.push({ binding, resource: { buffer, offset, size } });
      }
    });
    for (const value of integers) this.#words[word++] = value;
    for (const value of floats) this.#floats[word++] = value;
    entries.push({ binding: 0, resource: this.#writeSlot() });
    const layout = kernel.pipeline.getBindGroupLayout(0);
    const group = this.gpu.device.createBindGroup({ layout, entries });
    const x = Math.min(groups, MAX_GROUPS);
    const y = Math.ceil(groups / MAX_GROUPS), written = this.#written(operands[0]);
    return { uploads, written, pipeline: kernel.pipeline, group, x, y };
  }

  #checkSize(tensor: Tensor, bytes: number): void {
    if (bytes <= this.maxBindingBytes) return;
    throw new DeviceError(
      `Cannot bind "${tensor.name}" on webgpu: ${bytes} bytes that belong together, ` +
        `${this.gpu.adapter.description} takes at most ${this.maxBindingBytes}`,
    );
  }

  #written(operand: Operand): GpuBuffer | PackedWeight | null {
    if (operand === null || "texels" in operand) return null;
    return "packed" in operand ? operand.packed : this.memory.place("compute with", operand);
  }

  #uploads(operand: TexelOperand): readonly Upload[] {
    const { texels } = operand, { buffer } = this.memory.place("compute with", texels);
    return this.#texels.uploads(operand, buffer, texels.byteOffset, byteLength(texels));
  }

  /** Dispatches prepared before are dropped where a texture has to grow: they refer to it. */
  #reserveTexels(operands: readonly Operand[]): void {
    for (const operand of operands) {
      if (operand === null || !("texels" in operand)) continue;
      const bytes = byteLength(operand.texels);
      this.#checkSize(operand.texels, bytes);
      if (this.#texels.holds(operand, bytes)) continue;
      this.forget();
      this.#texels.reserve(operand, bytes);
    }
  }

  #bind(tensor: Tensor | null) {
    if (tensor === null) {
      return { buffer: this.#absent, offset: 0, size: SLOT_BYTES, start: 0 };
    }
    const { buffer } = this.memory.place("compute with", tensor);
    const offset = Math.floor(tensor.byteOffset / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
    const bytes = tensor.byteOffset - offset + byteLength(tensor);
    const size = wholeFours(bytes);
    this.#checkSize(tensor, size);
    if (tensor.byteOffset % 4 !== 0) {
      throw new DeviceError(
        `Cannot bind "${tensor.name}" on webgpu: it starts at byte ${tensor.byteOffset}, ` +
          "which is no whole word",
      );
    }
    return { buffer, offset, size, start: (tensor.byteOffset - offset) / 4 };
  }

  #writeSlot(): GPUBufferBinding {
    const { device } = this.gpu;
    const slot = this.#nextSlot++;
    const page = Math.floor(slot / SLOTS_PER_PAGE);
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    this.#pages[page] ??= device.createBuffer({
      label: "parameters",
      size: SLOTS_PER_PAGE * SLOT_BYTES,
      usage,
    });
    const buffer = this.#pages[page], offset = slot % SLOTS_PER_PAGE * SLOT_BYTES;
    device.queue.writeBuffer(buffer, offset, this.#words);
    return { buffer, offset, size: SLOT_BYTES };
  }
}

function tensorOf(operand: Tensor | TexelOperand | PackedOperand): Tensor {
  return "texels" in operand ? operand.texels : "packed" in operand ? operand.weight : operand;
}

function hasKernels<K extends string>(
  kernels: object,
  specs: KernelSpecs<K>,
): kernels is Readonly<Record<K, Kernel>> {
  return Object.keys(specs).every((key) => key in kernels);
}
