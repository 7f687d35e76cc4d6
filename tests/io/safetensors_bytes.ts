// Safetensors files made by hand, sound or not, for the tests of their readers.

import assert from "node:assert/strict";
import type { SafetensorsFile } from "../../lib/io/safetensors.ts";

/** A file with this header (JSON text or bytes are taken as they are) before `dataLength` bytes 0, 1, 2, ... */
export function fileOf(
  header: object | string,
  dataLength: number,
  headerLength = 0,
): Uint8Array<ArrayBuffer> {
  const json = header instanceof Uint8Array
    ? header
    : new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const length = Math.max(json.length, headerLength);
  const bytes = new Uint8Array(8 + length + dataLength).fill(0x20, 8 + json.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  for (let i = 0; i < dataLength; i++) bytes[8 + length + i] = i;
  return bytes;
}

/** The bytes of every tensor, read in two parts. */
export function tensorsOf(file: SafetensorsFile): Map<string, Uint8Array> {
  const all = new Map<string, Uint8Array>();
  for (const [name, tensor] of file.tensors) {
    const bytes = new Uint8Array(tensor.byteLength);
    const middle = Math.floor(bytes.length / 2);
    file.read(tensor, middle, bytes.subarray(middle));
    file.read(tensor, 0, bytes.subarray(0, middle));
    all.set(name, bytes);
  }
  return all;
}

/** Reads every tensor of a file, checks that they lie one after another, and returns how many bytes they have. */
export function describeFile(file: SafetensorsFile): number {
  let total = 0, end: number | null = null;
  for (const tensor of file.tensors.values()) {
    if (end !== null) assert.equal(tensor.byteOffset, end);
    end = tensor.byteOffset + tensor.byteLength;
    total += tensor.byteLength;
  }
  for (const bytes of tensorsOf(file).values()) total -= bytes.length;
  assert.equal(total, 0);
  return [...file.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
}
