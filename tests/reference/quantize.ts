// Element types as bytes and back: rounding to bf16 and f16 (nearest even), llama.cpp's block types. The layouts are in
// lib/core/dtype.ts; block types are rounded in f32 steps like llama.cpp's quantize_row_*_ref, so bytes can be compared.

import { byteLengthOf, type DType, QUANT_BLOCK } from "../../lib/core/dtype.ts";

/**
 * The bytes of values rounded to `dtype`; for block types whole blocks of f32 values.
 * @throws {TypeError} for i32 and u8, which are not rounded.
 */
export function encode(values: Float64Array, dtype: DType): Uint8Array<ArrayBuffer> {
  switch (dtype) {
    case "f32":
      return new Uint8Array(new Float32Array(values).buffer);
    case "bf16":
      return new Uint8Array(bf16Bits(new Float32Array(values)).buffer);
    case "f16":
      return new Uint8Array(new Float16Array(values).buffer);
    case "q8_0":
    case "q4_0": {
      const bytes = new Uint8Array(byteLengthOf(dtype, values.length));
      const blockBytes = byteLengthOf(dtype, QUANT_BLOCK);
      for (let b = 0; b * QUANT_BLOCK < values.length; b++) {
        const block = values.subarray(b * QUANT_BLOCK, (b + 1) * QUANT_BLOCK);
        const target = new DataView(bytes.buffer, b * blockBytes, blockBytes);
        if (dtype === "q8_0") encodeQ8(target, block);
        else encodeQ4(target, block);
      }
      return bytes;
    }
    case "i32":
    case "u8":
      throw new TypeError(`Cannot take ${dtype} for real numbers`);
    default:
      return dtype satisfies never;
  }
}

/** The real numbers that bytes of `dtype` stand for. @throws {TypeError} for i32 and u8. */
export function decode(bytes: ArrayBuffer, dtype: DType): Float64Array {
  switch (dtype) {
    case "f32":
      return new Float64Array(new Float32Array(bytes));
    case "bf16": {
      const widened = new Uint32Array(new Uint16Array(bytes)).map((bits) => bits << 16);
      return new Float64Array(new Float32Array(widened.buffer));
    }
    case "f16":
      return new Float64Array(new Float16Array(bytes));
    case "q8_0":
      return decodeBlocks(bytes, 34, (block, j) => block.getInt8(2 + j));
    case "q4_0":
      return decodeBlocks(bytes, 18, (block, j) => {
        const byte = block.getUint8(2 + j % 16);
        return (j < 16 ? byte & 15 : byte >> 4) - 8;
      });
    case "i32":
    case "u8":
      throw new TypeError(`Cannot take ${dtype} for real numbers`);
    default:
      return dtype satisfies never;
  }
}

/** The nearest numbers that `dtype` can hold. */
export function roundTo(values: Float64Array, dtype: DType): Float64Array {
  return decode(encode(values, dtype).buffer, dtype);
}

/** The upper halves of f32 numbers, rounded to nearest even; a NaN stays one. */
function bf16Bits(values: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  const rounded = new Uint32Array(values.buffer).map((bits, i) =>
    Number.isNaN(values[i]) ? 0x7fc0 : (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16
  );
  return new Uint16Array(rounded);
}

/** d · q for every element; a block is an f16 d and QUANT_BLOCK integers, which `integer` reads. */
function decodeBlocks(
  bytes: ArrayBuffer,
  blockBytes: number,
  integer: (block: DataView, j: number) => number,
): Float64Array {
  const values = new Float64Array(bytes.byteLength / blockBytes * QUANT_BLOCK);
  for (let b = 0; b * blockBytes < bytes.byteLength; b++) {
    const block = new DataView(bytes, b * blockBytes, blockBytes);
    const d = block.getFloat16(0, true);
    for (let j = 0; j < QUANT_BLOCK; j++) values[b * QUANT_BLOCK + j] = d * integer(block, j);
  }
  return values;
}

/** d = max|x| / 127, q = x / d to the nearest integer, halves away from zero. */
function encodeQ8(target: DataView, block: Float64Array): void {
  const peak = block.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const d = Math.fround(peak / 127), inverse = d === 0 ? 0 : Math.fround(1 / d);
  target.setFloat16(0, d, true);
  block.forEach((x, j) => {
    const scaled = Math.fround(x * inverse);
    target.setInt8(2 + j, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
  });
}

/** d = (the x of largest magnitude) / −8, q = x / d + 8 to the nearest integer from 0 to 15. */
function encodeQ4(target: DataView, block: Float64Array): void {
  const peak = block.reduce((best, x) => Math.abs(x) > Math.abs(best) ? x : best, 0);
  const d = Math.fround(peak / -8), inverse = d === 0 ? 0 : Math.fround(1 / d);
  target.setFloat16(0, d, true);
  const nibble = (x: number) =>
    Math.min(15, Math.trunc(Math.fround(Math.fround(x * inverse) + 8.5)));
  for (let j = 0; j < 16; j++) {
    target.setUint8(2 + j, nibble(block[j]) | nibble(block[j + 16]) << 4);
  }
}
