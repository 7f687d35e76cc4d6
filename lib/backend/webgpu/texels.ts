// Operands as texels of four elements. A processor that plays the graphics card loads the 16 bytes of a texel at once, but
// the words of a buffer one by one, each with its own check; so matrix products and attention there read copies of their
// operands in textures, one texture a place among the operands.

import type { WebgpuDevice } from "./device.ts";

/** Texels of a row that hold an operand. The shaders take it as an override constant. */
export const TEXELS_PER_ROW = 1024;
/** A cache line more: rows of matrices, often powers of two wide, would else compete for the same few places in a cache. */
const WIDTH = TEXELS_PER_ROW + 4;
const TEXEL_BYTES = 16;
const ROW_BYTES = TEXELS_PER_ROW * TEXEL_BYTES;
/** Rows that every adapter has. */
const MAX_ROWS = 8192;
/** Rows taken at the first need: enough for small models, so that the texture does not grow later. */
const MIN_ROWS = 512;

/** Bytes of the largest operand. The first row stays zero. */
export const MAX_TEXEL_BYTES = (MAX_ROWS - 1) * ROW_BYTES;

/** Where an operand starts in its texture, in 32-bit words. */
export const FIRST_TEXEL_WORD = ROW_BYTES / 4;

/** Bytes of a buffer to be copied into a texture: whole texels, at a multiple of 16. */
export interface Upload {
  readonly source: GPUTexelCopyBufferInfo;
  readonly destination: GPUTexelCopyTextureInfo;
  readonly size: GPUExtent3D;
}

/** A weight laid out anew in a texture, made at its first use and again when the weight has been written. */
export interface PackedWeight {
  readonly texture: GPUTexture;
  /** Where the weight lies in its buffer: which of the buffer's views this is. */
  readonly key: string;
  /** Whether enqueued work makes it of what enqueued work leaves in the weight. */
  isFresh: boolean;
}

/** The textures of a device by place. They grow, and live until the store is disposed. */
export class TexelStore implements Disposable {
  readonly #gpu: WebgpuDevice;
  readonly #textures = new Map<number, GPUTexture>();

  constructor(gpu: WebgpuDevice) {
    this.#gpu = gpu;
  }

  /** Whether the texture of `place` holds `bytes` bytes. */
  holds(place: number, bytes: number): boolean {
    const texture = this.#textures.get(place);
    return texture !== undefined && texture.height >= rowsFor(bytes);
  }

  /** Makes room for `bytes` bytes; nothing enqueued may use the texture that was there. */
  reserve(place: number, bytes: number): void {
    this.#textures.get(place)?.destroy();
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST;
    const height = Math.min(MAX_ROWS, Math.max(MIN_ROWS, 2 * rowsFor(bytes)));
    const texture = this.#gpu.device.createTexture({
      label: `texels ${place}`,
      size: [WIDTH, height],
      format: "rgba32float",
      usage,
    });
    this.#textures.set(place, texture);
  }

  /** The texture of `place`, which has been reserved. */
  view(place: number): GPUTextureView {
    return this.#textureOf(place).createView();
  }

  /** The copies that bring `bytes` bytes of a buffer into the texture, from its second row on. */
  uploads(place: number, buffer: GPUBuffer, offset: number, bytes: number): readonly Upload[] {
    const texture = this.#textureOf(place), rows = Math.floor(bytes / ROW_BYTES);
    const uploads: Upload[] = [];
    if (rows > 0) {
      uploads.push({
        source: { buffer, offset, bytesPerRow: ROW_BYTES },
        destination: { texture, origin: [0, 1] },
        size: [TEXELS_PER_ROW, rows],
      });
    }
    const rest = (bytes - rows * ROW_BYTES) / TEXEL_BYTES;
    if (rest > 0) {
      uploads.push({
        source: { buffer, offset: offset + rows * ROW_BYTES },
        destination: { texture, origin: [0, 1 + rows] },
        size: [rest, 1],
      });
    }
    return uploads;
  }

  [Symbol.dispose](): void {
    for (const texture of this.#textures.values()) texture.destroy();
    this.#textures.clear();
  }

  #textureOf(place: number): GPUTexture {
    const texture = this.#textures.get(place);
    if (texture === undefined) throw new TypeError(`Cannot use texture ${place}: it is not there`);
    return texture;
  }
}

/** Rows of a texture for so many bytes, with the row of zeros. */
function rowsFor(bytes: number): number {
  return 1 + Math.ceil(bytes / ROW_BYTES);
}
