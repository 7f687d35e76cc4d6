// Matrix products: few rows and many, depths beyond one packed block, every weight dtype, addends, stacked weights.

import type { Precision } from "../../../lib/core/backend.ts";
import { stackRows } from "../../../lib/core/tensor.ts";
import {
  linearBackwardInput,
  linearBackwardWeight,
  linearForward,
} from "../../reference/linear.ts";
import type { DType } from "../../../lib/core/dtype.ts";
import { roundTo } from "../../reference/quantize.ts";
import { TOLERANCE_8_BIT } from "../tolerances.ts";
import { HARDWARE_KERNELS } from "../webgpu_kernels.ts";
import { conformance } from "./conformance.ts";
import { type OpCase, opCase, output, random, type RealOperand } from "./op_case.ts";

// Rows, outputs, inputs. Up to 8 rows are decoding's; beyond 320 inputs a product is blocked in depth.
const SHAPES = [
  ...[[1, 1, 1], [1, 48, 32], [2, 37, 65], [3, 5, 700], [8, 130, 96]],
  ...[[1, 9, 2304], [9, 17, 33], [13, 70, 320], [33, 31, 353], [130, 65, 7], [65, 130, 64]],
] as const;
// Beyond what is packed at once: 4096 of depth, 2 million words of an operand.
const SLABS = [[9, 20, 4200], [600, 3, 4100], [10, 600, 4100]] as const;
// Enough output for the large tiles of a graphics card; rows of the second one do not start at multiples of 16 bytes.
/** At least 128 tiles of 64 x 64, and of 128 x 128. */
const MANY_TILES = [[705, 740, 36], [706, 741, 36], [1409, 1540, 20]] as const;
const DTYPES = ["bf16", "f16", "q8_0", "q4_0"] as const;
const DTYPE_SHAPES = [
  ...[[1, 37, 96], [3, 21, 32], [5, 50, 544], [8, 6, 64], [40, 33, 352]],
  ...[[1, 9, 2304], [6, 7, 1056], [4, 19, 320]],
] as const;

/** A product's operand as the device rounds it before multiplying. */
function rounded(operand: RealOperand, { matmul }: Precision): Float64Array {
  return matmul === "f32" ? operand.values : roundTo(operand.values, matmul);
}

/** Rounding activations to 8 bits is allowed where products are not f32 and weights are quantized. */
function tolerance(dtype: DType, { matmul }: Precision): number | undefined {
  return matmul !== "f32" && (dtype === "q8_0" || dtype === "q4_0") ? TOLERANCE_8_BIT : undefined;
}

type Shape = readonly [N: number, O: number, I: number];

function forwardCase(p: Precision, dtype: DType, [N, O, I]: Shape): OpCase {
  const x = random(p.compute, [N, I], 1), weight = random(dtype, [O, I], 2);
  const values = linearForward(rounded(x, p), rounded(weight, p), I, null);
  return opCase(
    `linearForward() [${N}, ${I}] · ${dtype} [${O}, ${I}]ᵀ`,
    { out: output(p.compute, [N, O]), x, weight },
    (ops, t) => ops.linearForward(t.out, t.x, t.weight, null),
    { out: { values, tolerance: tolerance(dtype, p) } },
  );
}

function addendCases(p: Precision, dtype: DType, [N, O, I]: Shape): OpCase[] {
  const x = random(p.compute, [N, I], 1), weight = random(dtype, [O, I], 2);
  const addend = random(p.compute, [N, O], 3);
  const values = linearForward(rounded(x, p), rounded(weight, p), I, addend.values);
  const expected = { out: { values, tolerance: tolerance(dtype, p) } };
  const name = `[${N}, ${I}] · ${dtype} [${O}, ${I}]ᵀ`;
  return [
    opCase(
      `linearForward() ${name} + addend`,
      { out: output(p.compute, [N, O]), x, weight, addend },
      (ops, t) => ops.linearForward(t.out, t.x, t.weight, t.addend),
      expected,
    ),
    opCase(
      `linearForward() ${name} + out itself`,
      { out: addend, x, weight },
      (ops, t) => ops.linearForward(t.out, t.x, t.weight, t.out),
      expected,
    ),
  ];
}

function stackedCase(p: Precision, dtype: DType, N: number): OpCase {
  const I = 96, parts = [40, 8, 9].map((rows, i) => random(dtype, [rows, I], 4 + i));
  const [q, k, v] = parts, O = 57;
  const x = random(p.compute, [1, N, I], 1), addend = random(p.compute, [1, N, O], 3);
  const weight = Float64Array.from(parts.flatMap((part) => [...rounded(part, p)]));
  const values = linearForward(rounded(x, p), weight, I, addend.values);
  return opCase(
    `linearForward() of ${N} rows with a stacked ${dtype} weight`,
    { out: output(p.compute, [1, N, O]), x, q, k, v, addend },
    (ops, t) => ops.linearForward(t.out, t.x, stackRows("qkv", [t.q, t.k, t.v]), t.addend),
    { out: { values, tolerance: tolerance(dtype, p) } },
  );
}

function backwardCases(p: Precision, [N, O, I]: Shape): OpCase[] {
  const x = random(p.compute, [N, I], 1), weight = random(p.param, [O, I], 2);
  const dOut = random(p.compute, [N, O], 3), dWeight = random(p.grad, [O, I], 4);
  const added = linearBackwardWeight(rounded(dOut, p), rounded(x, p), I);
  return [
    opCase(
      `linearBackwardInput() [${N}, ${O}] · [${O}, ${I}]`,
      { dX: output(p.compute, [N, I]), dOut, weight },
      (ops, t) => ops.linearBackwardInput(t.dX, t.dOut, t.weight),
      { dX: { values: linearBackwardInput(rounded(dOut, p), rounded(weight, p), I) } },
    ),
    opCase(
      `linearBackwardWeight() [${N}, ${O}]ᵀ · [${N}, ${I}] accumulates`,
      { dWeight, dOut, x },
      (ops, t) => ops.linearBackwardWeight(t.dWeight, t.dOut, t.x),
      { dWeight: { values: dWeight.values.map((value, i) => value + added[i]) } },
    ),
  ];
}

conformance("linear", (precision) => [
  ...[...SHAPES, ...SLABS].map((shape) => forwardCase(precision, precision.param, shape)),
  ...DTYPES.flatMap((dtype) => DTYPE_SHAPES.map((shape) => forwardCase(precision, dtype, shape))),
  ...[[1, 20, 64], [5, 33, 32], [30, 40, 352]].flatMap(([N, O, I]) => [
    ...addendCases(precision, precision.param, [N, O, I]),
    ...addendCases(precision, "q8_0", [N, O, I]),
  ]),
  ...(["f32", "bf16", "q4_0"] as const).flatMap((dtype) => [
    stackedCase(precision, dtype, 1),
    stackedCase(precision, dtype, 20),
  ]),
  ...SHAPES.flatMap((shape) => backwardCases(precision, shape)),
  ...backwardCases(precision, [4200, 20, 9]),
]);

conformance("linear of many tiles", (precision) => [
  ...MANY_TILES.map((shape) => forwardCase(precision, precision.param, shape)),
  ...DTYPES.map((dtype) => forwardCase(precision, dtype, [705, 740, 64])),
  ...addendCases(precision, precision.param, [705, 740, 32]),
  ...backwardCases(precision, [705, 36, 740]),
  ...backwardCases(precision, [20, 708, 740]),
  ...backwardCases(precision, [1409, 12, 1540]),
  ...backwardCases(precision, [12, 1412, 1540]),
], [HARDWARE_KERNELS]);
