// Element types of tensors and how many bytes they take. Quantized types come in llama.cpp's blocks.

/**
 * `q8_0` and `q4_0` are llama.cpp's block formats: 32 consecutive elements of a row share one f16 scale.
 * q8_0: f16 d, 32 x i8 q; value = d * q. q4_0: f16 d, 16 bytes; byte j holds element j in its low and
 * element j + 16 in its high nibble; value = d * (nibble - 8).
 */
export type DType = "f32" | "bf16" | "f16" | "i32" | "u8" | "q8_0" | "q4_0";

/** Elements that share one scale in the quantized types; rows must be a multiple of it. */
export const QUANT_BLOCK = 32;

interface Layout {
  readonly blockElements: number;
  readonly blockBytes: number;
}

const LAYOUTS: Readonly<Record<DType, Layout>> = {
  f32: { blockElements: 1, blockBytes: 4 },
  bf16: { blockElements: 1, blockBytes: 2 },
  f16: { blockElements: 1, blockBytes: 2 },
  i32: { blockElements: 1, blockBytes: 4 },
  u8: { blockElements: 1, blockBytes: 1 },
  q8_0: { blockElements: QUANT_BLOCK, blockBytes: 34 },
  q4_0: { blockElements: QUANT_BLOCK, blockBytes: 18 },
};

/** True for the block formats, which only weights may have. */
export function isQuantized(dtype: DType): boolean {
  return LAYOUTS[dtype].blockElements > 1;
}

/**
 * Bytes of `elements` consecutive elements.
 * @throws {RangeError} when a quantized count is not whole blocks.
 */
export function byteLengthOf(dtype: DType, elements: number): number {
  const { blockElements, blockBytes } = LAYOUTS[dtype];
  if (elements % blockElements !== 0) {
    throw new RangeError(
      `Cannot store ${elements} elements as ${dtype}: the count must be a multiple of ${blockElements}`,
    );
  }
  return (elements / blockElements) * blockBytes;
}
