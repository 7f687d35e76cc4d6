// Operands as texels of four elements. A processor that plays the graphics card loads the 16 bytes of a texel at once, but
// the words of a buffer one by one, each with its own check; so matrix products and attention there read copies of their
// operands in textures, one texture a place among the operands.

import type { WebgpuDevice } from "./device.ts";

/** Texels of a line in which elements simply follow each other. The shaders take it as an override constant. */
export const TEXELS_PER_ROW = 1024;
/** A cache line more: lines, often powers of two wide, would else compete for the same few places in a cache. */
const PADDING = 4;
const TEXEL_BYTES = 16;
/** Copies between buffers and textures find lines at multiples of this. */
const COPY_ALIGNMENT = 256;
/** Lines, and texels of a line, that every adapter has. */
const MAX_EDGE = 8192;
/** Lines taken at the first need: enough for small models, so that the texture does not grow later. */
const MIN_LINES = 512;

/** How an operand lies in the lines of a texture. */
export interface TexelLines {
  readonly lineTexels: number;
  /** Bytes from line to line in the buffer, and where the first one starts in the operand. */
  readonly lineBytes: number;
  readonly firstByte: number;
}

/** Elements that simply follow each other. */
export const FLAT_LINES: TexelLines = {
  lineTexels: TEXELS_PER_ROW,
  lineBytes: TEXELS_PER_ROW * TEXEL_BYTES,
  firstByte: 0,
};

/** Bytes of the largest operand in flat lines. The first line stays zero. */
export const MAX_TEXEL_BYTES = (MAX_EDGE - 1) * FLAT_LINES.lineBytes;

/** Where an operand starts in its texture, in lines. */
const FIRST_LINE = 1;

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

/** An operand in the texture of its place. */
export interface TexelPlace {
  readonly place: number;
  readonly lines: TexelLines;
}

/** Where an operand starts in its texture, in 32-bit words. */
export function firstTexelWord({ lines }: TexelPlace): number {
  return FIRST_LINE * lines.lineTexels * TEXEL_BYTES / 4;
}

/** The lines of a matrix, and how many of its rows a line holds. */
export interface MatrixLines extends TexelLines {
  readonly rowsPerLine: number;
  /** The column of the matrix at which lines start. */
  readonly firstColumn: number;
}

/**
 * Lines for columns `first` to `end` of a matrix of `rows` rows of `width` f32 elements: of one row, which is addressed
 * with least arithmetic, or of as many whole rows as make a copy possible; null where it does not fit.
 */
export function matrixLines(
  rows: number,
  width: number,
  first: number,
  end: number,
): MatrixLines | null {
  const rowBytes = 4 * width;
  const oneRow = {
    ...{ rowsPerLine: 1, firstColumn: first, firstByte: 4 * first },
    ...{ lineTexels: 4 * (end - first) / TEXEL_BYTES, lineBytes: rowBytes },
  };
  const more = [2, 4].map((rowsPerLine) => ({
    ...{ rowsPerLine, firstColumn: 0, firstByte: 0 },
    ...{ lineTexels: rowsPerLine * rowBytes / TEXEL_BYTES, lineBytes: rowsPerLine * rowBytes },
  }));
  const fits = ({ rowsPerLine, lineTexels, lineBytes }: MatrixLines) =>
    lineTexels + PADDING <= MAX_EDGE && lineBytes % COPY_ALIGNMENT === 0 &&
    FIRST_LINE + Math.ceil(rows / rowsPerLine) <= MAX_EDGE;
  return [oneRow, ...more].find(fits) ?? null;
}

/** The textures of a device by place. They grow, and live until the store is disposed. */
export class TexelStore implements Disposable {
  readonly #gpu: WebgpuDevice;
  readonly #textures = new Map<string, GPUTexture>();

  constructor(gpu: WebgpuDevice) {
    this.#gpu = gpu;
  }

  /** Whether the texture of `place` holds `bytes` bytes. */
  holds(place: TexelPlace, bytes: number): boolean {
    const texture = this.#textures.get(keyOf(place));
    return texture !== undefined && texture.height >= linesFor(place, bytes);
  }

  /** Makes room for `bytes` bytes; nothing enqueued may use the texture that was there. */
  reserve(place: TexelPlace, bytes: number): void {
    const key = keyOf(place);
    this.#textures.get(key)?.destroy();
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST;
    const height = Math.min(MAX_EDGE, Math.max(MIN_LINES, 2 * linesFor(place, bytes)));
    const texture = this.#gpu.device.createTexture({
      label: `texels ${key}`,
      size: [place.lines.lineTexels + PADDING, height],
      format: "rgba32float",
      usage,
    });
    this.#textures.set(key, texture);
  }

  /** The texture of `place`, which has been reserved. */
  view(place: TexelPlace): GPUTextureView {
    return this.#textureOf(place).createView();
  }

  /** The copies that bring `bytes` bytes of a buffer into the texture, from its second line on. */
  uploads(place: TexelPlace, buffer: GPUBuffer, start: number, bytes: number): readonly Upload[] {
    const { lineTexels, lineBytes, firstByte } = place.lines, offset = start + firstByte;
    const texture = this.#textureOf(place), whole = Math.floor(bytes / lineBytes);
    const uploads: Upload[] = [];
    if (whole > 0) {
      uploads.push({
        source: { buffer, offset, bytesPerRow: lineBytes },
        destination: { texture, origin: [0, FIRST_LINE] },
        size: [lineTexels, whole],
      });
    }
    const rest = (bytes - whole * lineBytes) / TEXEL_BYTES;
    if (rest > 0) {
      uploads.push({
        source: { buffer, offset: offset + whole * lineBytes },
        destination: { texture, origin: [0, FIRST_LINE + whole] },
        size: [rest, 1],
      });
    }
    return uploads;
  }

  [Symbol.dispose](): void {
    for (const texture of this.#textures.values()) texture.destroy();
    this.#textures.clear();
  }

  #textureOf(place: TexelPlace): GPUTexture {
    const texture = this.#textures.get(keyOf(place));
    if (texture === undefined) {
      throw new TypeError(`Cannot use texture ${keyOf(place)}: it is not there`);
    }
    return texture;
  }
}

function keyOf({ place, lines }: TexelPlace): string {
  return `${place} x ${lines.lineTexels}`;
}

/** Lines of a texture for so many bytes, with the line of zeros. */
function linesFor({ lines }: TexelPlace, bytes: number): number {
  return FIRST_LINE + Math.ceil(bytes / lines.lineBytes);
}
