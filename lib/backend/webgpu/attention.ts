// Causal grouped-query attention on WebGPU: training, and against the key/value cache. Sequences are taken in pieces that
// a binding can hold.

import aligned from "../../../kernels/wgsl/attention_aligned.wgsl" with { type: "text" };
import any from "../../../kernels/wgsl/attention_any.wgsl" with { type: "text" };
import attentionBackward from "../../../kernels/wgsl/attention_backward.wgsl" with { type: "text" };
import blocks from "../../../kernels/wgsl/attention_blocks.wgsl" with { type: "text" };
import attention from "../../../kernels/wgsl/attention.wgsl" with { type: "text" };
import texels from "../../../kernels/wgsl/attention_texels.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { Tensor } from "../../core/tensor.ts";
import type { GpuContext, Kernel, Operand } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";
import { FLAT_LINES, TEXELS_PER_ROW } from "./texels.ts";

/** Threads of the kernels that give each thread one element or row. */
const GROUP = 64;
/** Threads of a tile. */
const THREADS = 64;
/** Splitting the keys pays up to this many workgroups, in pieces of a multiple of so many keys, */
const MAX_UNSPLIT_GROUPS = 64;
const SPLIT_KEYS = 128;
/** and until a graphics card has this many: further pieces of a long cache would only have to be joined. */
const ENOUGH_GROUPS = 512;
/** Queries from which copying the cache into textures pays on an adapter that reads texels. */
const MIN_TEXEL_QUERIES = 16;

/** Extents of one call; `slots` keys of a head lie `keyRow` elements apart from `keyFirst` on. */
interface Shape {
  readonly queries: number;
  readonly group: number;
  readonly keyHeads: number;
  readonly width: number;
  readonly keyFirst: number;
  readonly valueFirst: number;
  readonly keyBatch: number;
  readonly keyHead: number;
  readonly keyRow: number;
  readonly slots: number;
}

/** Blocks of four rows and of four keys of a workgroup. */
interface Tile {
  readonly rowBlocks: number;
  readonly keyBlocks: number;
}

/** Uses kernels/wgsl/attention.wgsl and attention_backward.wgsl; allocates nothing per call. */
export function attentionOps(gpu: GpuContext) {
  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape, shape = shapeWithin(t, h, qkv.shape[2], d);
      for (const [first, end] of rowRanges(gpu, b, 4 * t * qkv.shape[2] * d)) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        const piece = part(qkv), partLse = lse === null ? null : part(lse);
        forward(gpu, part(out), partLse, piece, piece, piece, null, end - first, shape);
      }
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape, shape = shapeWithin(t, h, qkv.shape[2], d);
      for (const [first, end] of rowRanges(gpu, b, 4 * t * qkv.shape[2] * d)) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        backward(gpu, part(dQkv), part(dOut), part(qkv), part(out), part(lse), end - first, shape);
      }
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t] = out.shape, [, k, s, d] = keys.shape;
      const shape = shapeAgainst(t, qkv.shape[2] - 2 * k, k, s, d);
      for (const [first, end] of rowRanges(gpu, b, 4 * d * Math.max(t * qkv.shape[2], k * s))) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        const [q, cachedKeys, cachedValues] = [qkv, keys, values].map(part);
        const where = part(positions);
        forward(gpu, part(out), null, q, cachedKeys, cachedValues, where, end - first, shape);
      }
    },
  } satisfies Partial<Ops>;
}

/** `positions` null means that query t sees the keys 0 to t. */
function forward(
  gpu: GpuContext,
  out: Tensor,
  lse: Tensor | null,
  qkv: Tensor,
  keys: Tensor,
  values: Tensor,
  positions: Tensor | null,
  batches: number,
  shape: Shape,
): void {
  const { queries, group, keyHeads, width, slots } = shape;
  const rows = queries * group, tile = wideTile(gpu, width, rows);
  const tiles = Math.ceil(rows / (4 * tile.rowBlocks)), groups = tiles * keyHeads * batches;
  const isSplit = positions !== null && groups < MAX_UNSPLIT_GROUPS && slots > SPLIT_KEYS &&
    !gpu.gpu.adapter.isSoftware;
  const splitKeys = isSplit
    ? SPLIT_KEYS * Math.ceil(slots / SPLIT_KEYS / Math.floor(ENOUGH_GROUPS / groups))
    : slots;
  const splits = Math.ceil(slots / splitKeys);
  const sizes = [...sizesOf(shape), tiles, batches, lse === null ? 0 : 1, splits, splitKeys];
  const scale = [1 / Math.sqrt(width)];
  const parts = isSplit ? gpu.scratch(batches * keyHeads * rows * splits * (width + 2)) : null;
  const isWorthTexels = positions === null || queries >= MIN_TEXEL_QUERIES;
  const reading = readingOf(gpu, [qkv, keys, values], width, isWorthTexels);
  const [q, k, v] = operandsOf(reading, [qkv, keys, values]);
  gpu.run(
    kernel(gpu, attention, "forward", reading, {
      ROW_BLOCKS: tile.rowBlocks,
      KEY_BLOCKS: tile.keyBlocks,
      IS_CACHED: positions === null ? 0 : 1,
      IS_SPLIT: isSplit ? 1 : 0,
    }),
    // The dummy is written to where it stands for lse, so it cannot stand for positions as well.
    [parts ?? out, lse, q, k, v, positions ?? qkv],
    [0, ...sizes],
    scale,
    groups * splits,
  );
  if (parts === null) return;
  gpu.run(
    kernel(gpu, attention, "combine", "aligned", { GROUP }),
    [out, parts],
    [0, 0, 0, 0, 0, ...sizes],
    scale,
    Math.ceil(batches * keyHeads * rows * width / GROUP),
  );
}

function backward(
  gpu: GpuContext,
  dQkv: Tensor,
  dOut: Tensor,
  qkv: Tensor,
  out: Tensor,
  lse: Tensor,
  batches: number,
  shape: Shape,
): void {
  const { queries, group, keyHeads, width } = shape;
  const rows = batches * queries * group * keyHeads;
  const delta = gpu.scratch(rows);
  gpu.run(
    kernel(gpu, attentionBackward, "row_products", "aligned", { GROUP }),
    [delta, out, dOut],
    [rows, queries, group * keyHeads, width],
    [],
    Math.ceil(rows / GROUP),
  );
  const reading = readingOf(gpu, [qkv, dOut], width, true);
  const [q, gradient] = operandsOf(reading, [qkv, dOut]);
  const run = (entryPoint: string, { rowBlocks, keyBlocks }: Tile, tiles: number) =>
    gpu.run(
      kernel(gpu, attentionBackward, entryPoint, reading, {
        ROW_BLOCKS: rowBlocks,
        KEY_BLOCKS: keyBlocks,
      }),
      [dQkv, lse, q, q, q, gradient, delta],
      [...sizesOf(shape), tiles, batches, 0, 1, queries],
      [1 / Math.sqrt(width)],
      tiles * keyHeads * batches,
    );
  const wide = wideTile(gpu, width, queries * group);
  run("backward_queries", wide, Math.ceil(queries * group / (4 * wide.rowBlocks)));
  const own = wideTile(gpu, width, queries);
  const tall = { rowBlocks: own.keyBlocks, keyBlocks: own.rowBlocks };
  run("backward_keys", tall, Math.ceil(queries / (4 * tall.keyBlocks)));
}

/** How rows of heads are read: in fours, in fours out of textures, or element by element. */
type Reading = "aligned" | "texels" | "any";

function readingOf(
  gpu: GpuContext,
  tensors: readonly Tensor[],
  width: number,
  isWorthTexels: boolean,
): Reading {
  if (width % 4 !== 0 || !tensors.every(({ byteOffset }) => byteOffset % 16 === 0)) return "any";
  return gpu.gpu.adapter.isSoftware && isWorthTexels ? "texels" : "aligned";
}

/** Each distinct tensor takes a texture. */
function operandsOf(reading: Reading, tensors: readonly Tensor[]): readonly Operand[] {
  if (reading !== "texels") return tensors;
  return tensors.map((tensor) => ({
    texels: tensor,
    place: tensors.indexOf(tensor),
    lines: FLAT_LINES,
  }));
}

function kernel(
  gpu: GpuContext,
  source: string,
  entryPoint: string,
  reading: Reading,
  constants: Readonly<Record<string, number>>,
): Kernel {
  const key = `attention ${entryPoint} ${reading} ${Object.values(constants)}`;
  const reader = { aligned, texels, any }[reading];
  return gpu.variant(key, () => ({
    sources: [reader, blocks, source],
    entryPoint,
    constants: reading === "texels" ? { ...constants, TEXELS_PER_ROW } : constants,
  }));
}

/** Keys and values lie in qkv itself. */
function shapeWithin(queries: number, heads: number, allHeads: number, width: number): Shape {
  const keyHeads = (allHeads - heads) / 2, keyRow = allHeads * width;
  return {
    queries,
    group: heads / keyHeads,
    keyHeads,
    width,
    keyFirst: heads * width,
    valueFirst: (heads + keyHeads) * width,
    keyBatch: queries * keyRow,
    keyHead: width,
    keyRow,
    slots: queries,
  };
}

/** Keys and values lie in a cache (B, K, S, D). */
function shapeAgainst(
  queries: number,
  heads: number,
  keyHeads: number,
  slots: number,
  width: number,
): Shape {
  return {
    queries,
    group: heads / keyHeads,
    keyHeads,
    width,
    keyFirst: 0,
    valueFirst: 0,
    keyBatch: keyHeads * slots * width,
    keyHead: slots * width,
    keyRow: width,
    slots,
  };
}

/** The words of the shaders' parameters from `queries` to `slots`. */
function sizesOf(shape: Shape): number[] {
  const { queries, group, keyHeads, width } = shape;
  const queryRow = (group + 2) * keyHeads * width;
  return [
    queries,
    group,
    keyHeads,
    width,
    queryRow,
    shape.keyFirst,
    shape.valueFirst,
    shape.keyBatch,
    shape.keyHead,
    shape.keyRow,
    shape.slots,
  ];
}

/**
 * A tile whose threads have two blocks of the head each, and no more rows than there are; with few of them, graphics
 * hardware is filled by more keys at once.
 */
function wideTile(gpu: GpuContext, width: number, rows: number): Tile {
  let keyBlocks = 4;
  while (8 * keyBlocks < width) keyBlocks *= 2;
  let rowBlocks = Math.max(1, THREADS / keyBlocks);
  while (rowBlocks > 1 && 2 * rowBlocks >= rows) rowBlocks /= 2;
  if (!gpu.gpu.adapter.isSoftware) keyBlocks = Math.max(keyBlocks, THREADS / rowBlocks);
  return { rowBlocks, keyBlocks };
}
