// Causal grouped-query attention on WebGPU: training, and against the key/value cache. Sequences are taken in pieces that
// a binding can hold.

import aligned from "../../../kernels/wgsl/attention_aligned.wgsl" with { type: "text" };
import any from "../../../kernels/wgsl/attention_any.wgsl" with { type: "text" };
import backward from "../../../kernels/wgsl/attention_backward.wgsl" with { type: "text" };
import blocks from "../../../kernels/wgsl/attention_blocks.wgsl" with { type: "text" };
import attention from "../../../kernels/wgsl/attention.wgsl" with { type: "text" };
import type { Ops } from "../../core/ops.ts";
import type { Tensor } from "../../core/tensor.ts";
import type { GpuContext, Kernel } from "./context.ts";
import { rowRanges, rowsOf } from "./row_ranges.ts";

/** Threads of the kernels that give each thread one element or row. */
const GROUP = 64;
/** Splitting the keys pays up to this many workgroups, in pieces of so many keys. */
const MAX_UNSPLIT_GROUPS = 64;
const SPLIT_KEYS = 128;

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
  const kernels = new Map<string, Kernel>();

  function kernel(
    source: string,
    entryPoint: string,
    isAligned: boolean,
    constants: Readonly<Record<string, number>>,
  ): Kernel {
    const key = `${entryPoint} ${isAligned} ${JSON.stringify(constants)}`;
    let known = kernels.get(key);
    if (known === undefined) {
      const sources = [isAligned ? aligned : any, blocks, source];
      known = gpu.compileNow("attention", sources, { entryPoint, constants });
      kernels.set(key, known);
    }
    return known;
  }

  /** `positions` null means that query t sees the keys 0 to t. */
  function forward(
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
    const isAligned = areAligned([qkv, keys, values], width);
    const rows = queries * group, tile = wideTile(width, rows);
    const tiles = Math.ceil(rows / (4 * tile.rowBlocks)), groups = tiles * keyHeads * batches;
    const isSplit = positions !== null && groups < MAX_UNSPLIT_GROUPS && slots > SPLIT_KEYS &&
      !gpu.gpu.adapter.isSoftware;
    const splits = isSplit ? Math.ceil(slots / SPLIT_KEYS) : 1;
    const constants = {
      ROW_BLOCKS: tile.rowBlocks,
      KEY_BLOCKS: tile.keyBlocks,
      IS_CACHED: positions === null ? 0 : 1,
      IS_SPLIT: isSplit ? 1 : 0,
    };
    const splitKeys = isSplit ? SPLIT_KEYS : slots;
    const sizes = [...sizesOf(shape), tiles, batches, lse === null ? 0 : 1, splits, splitKeys];
    const scale = [1 / Math.sqrt(width)];
    const parts = isSplit ? gpu.scratch(batches * keyHeads * rows * splits * (width + 2)) : null;
    gpu.run(
      kernel(attention, "forward", isAligned, constants),
      [parts ?? out, lse, qkv, keys, values, positions ?? qkv],
      [0, ...sizes],
      scale,
      groups * splits,
    );
    if (parts === null) return;
    const elements = batches * keyHeads * rows * width;
    gpu.run(
      kernel(attention, "combine", true, { COMBINE_GROUP: GROUP }),
      [out, parts],
      [0, 0, 0, 0, 0, ...sizes],
      scale,
      Math.ceil(elements / GROUP),
    );
  }

  return {
    attentionForward(out, lse, qkv) {
      const [b, t, h, d] = out.shape, shape = shapeWithin(t, h, qkv.shape[2], d);
      for (const [first, end] of rowRanges(gpu, b, 4 * t * qkv.shape[2] * d)) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        const piece = part(qkv), partLse = lse === null ? null : part(lse);
        forward(part(out), partLse, piece, piece, piece, null, end - first, shape);
      }
    },
    attentionBackward(dQkv, dOut, qkv, out, lse) {
      const [b, t, h, d] = out.shape, shape = shapeWithin(t, h, qkv.shape[2], d);
      const { keyHeads, group } = shape;
      for (const [first, end] of rowRanges(gpu, b, 4 * t * qkv.shape[2] * d)) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        const batches = end - first, rows = batches * t * h;
        const delta = gpu.scratch(rows);
        gpu.run(
          kernel(backward, "row_products", true, { DELTA_GROUP: GROUP }),
          [delta, part(out), part(dOut)],
          [rows, t, h, d],
          [],
          Math.ceil(rows / GROUP),
        );
        const q = part(qkv), g = part(dOut);
        const tensors = [part(dQkv), part(lse), q, q, q, g, delta];
        const isAligned = areAligned([q, g], d);
        const run = (entryPoint: string, { rowBlocks, keyBlocks }: Tile, tiles: number) =>
          gpu.run(
            kernel(backward, entryPoint, isAligned, {
              ROW_BLOCKS: rowBlocks,
              KEY_BLOCKS: keyBlocks,
            }),
            tensors,
            [...sizesOf(shape), tiles, batches, 0, 1, t],
            [1 / Math.sqrt(d)],
            tiles * keyHeads * batches,
          );
        const wide = wideTile(d, t * group);
        run("backward_queries", wide, Math.ceil(t * group / (4 * wide.rowBlocks)));
        const own = wideTile(d, t), tall = { rowBlocks: own.keyBlocks, keyBlocks: own.rowBlocks };
        run("backward_keys", tall, Math.ceil(t / (4 * tall.keyBlocks)));
      }
    },
    attentionCached(out, qkv, keys, values, positions) {
      const [b, t, h, d] = out.shape, [, k, s] = keys.shape;
      const shape: Shape = {
        queries: t,
        group: h / k,
        keyHeads: k,
        width: d,
        keyFirst: 0,
        valueFirst: 0,
        keyBatch: k * s * d,
        keyHead: s * d,
        keyRow: d,
        slots: s,
      };
      const bytes = 4 * d * Math.max(t * qkv.shape[2], k * s);
      for (const [first, end] of rowRanges(gpu, b, bytes)) {
        const part = (tensor: Tensor) => rowsOf(tensor, b, first, end);
        forward(
          part(out),
          null,
          part(qkv),
          part(keys),
          part(values),
          part(positions),
          end - first,
          shape,
        );
      }
    },
  } satisfies Partial<Ops>;
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

/** A tile whose threads have two blocks of the head each, and no more rows than there are. */
function wideTile(width: number, rows: number): Tile {
  let keyBlocks = 4;
  while (8 * keyBlocks < width) keyBlocks *= 2;
  let rowBlocks = Math.max(1, 64 / keyBlocks);
  while (rowBlocks > 1 && 2 * rowBlocks >= rows) rowBlocks /= 2;
  return { rowBlocks, keyBlocks };
}

function areAligned(tensors: readonly Tensor[], width: number): boolean {
  return width % 4 === 0 && tensors.every(({ byteOffset }) => byteOffset % 16 === 0);
}
