// Weights as products of few rows read them on a software adapter, packed: made once, made again when the weight was
// written, given back with it. On other adapters products read the weights themselves, and the same must hold.

import assert from "node:assert/strict";
import { webgpuBackend } from "../../lib/backend/webgpu/backend.ts";
import { openDevice } from "../../lib/backend/webgpu/device.ts";
import type { Backend } from "../../lib/core/backend.ts";
import { DeviceError } from "../../lib/core/errors.ts";
import { rows, type Tensor } from "../../lib/core/tensor.ts";
import { onWebgpu, webgpuTest } from "./webgpu_adapter.ts";

const DTYPES = ["bf16", "f16", "q8_0", "q4_0"] as const;
const N = 20, K = 96, M = 3;
/** Of what a product of equal numbers may be off: f16 scales of 10 bits. */
const RELATIVE_ERROR = 1e-3;

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;

function allocateProduct(backend: Backend, dtype: typeof DTYPES[number]) {
  const weight = { dtype, shape: [N, K] };
  const arena = backend.allocate("a", {
    out: f32(M, N),
    x: f32(M, K),
    weight,
    other: weight,
    values: f32(N, K),
  });
  backend.fill(arena.tensors.x, 1);
  return arena;
}

/** Gives every element of a weight the value -`value`, which all types hold but for the rounding of a scale. */
function writeAll(backend: Backend, weight: Tensor, values: Tensor, value: number): void {
  backend.fill(values, -value);
  if (weight.dtype === "q8_0" || weight.dtype === "q4_0") backend.quantize(weight, values);
  else backend.cast(weight, values);
}

/** That the output is the product of ones with a weight of equal numbers in each of the ranges of columns. */
async function assertProduct(backend: Backend, out: Tensor, expected: readonly number[]) {
  const found = new Float32Array(await backend.read(out));
  assert.equal(found.length, M * expected.length);
  found.forEach((value, i) => {
    const wanted = -K * expected[i % expected.length];
    const error = Math.abs(value - wanted) / Math.abs(wanted);
    assert.ok(error <= RELATIVE_ERROR, `element ${i}: ${value}, expected ${wanted}`);
  });
}

onWebgpu("products see what was last written into their weight", async (backend) => {
  for (const dtype of DTYPES) {
    using arena = allocateProduct(backend, dtype);
    const { out, x, weight, other, values } = arena.tensors;
    const all = (value: number) => new Array(N).fill(value);
    const product = () => backend.linearForward(out, x, weight, null);
    writeAll(backend, weight, values, 1);
    product();
    await assertProduct(backend, out, all(1));
    writeAll(backend, weight, values, 2);
    product();
    await assertProduct(backend, out, all(2));
    writeAll(backend, other, values, 4);
    backend.copy(weight, other);
    product();
    await assertProduct(backend, out, all(4));
    writeAll(backend, other, values, 8);
    backend.write(weight, new Uint8Array(await backend.read(other)));
    product();
    await assertProduct(backend, out, all(8));
    writeAll(backend, rows(weight, 4, N), rows(values, 4, N), 16);
    product();
    await assertProduct(backend, out, [...all(8).slice(0, 4), ...all(16).slice(4)]);
    using part = backend.allocate("b", { out: f32(M, 6) });
    backend.linearForward(part.tensors.out, x, rows(weight, 2, 8), null);
    await assertProduct(backend, part.tensors.out, [8, 8, 16, 16, 16, 16]);
  }
});

onWebgpu("replayed products see what was written before and within the replay", async (backend) => {
  for (const dtype of DTYPES) {
    using arena = allocateProduct(backend, dtype);
    const { out, x, weight, values } = arena.tensors;
    const step = (name: string, isWriting: boolean) =>
      backend.replay(`${dtype} ${name}`, () => {
        if (isWriting && dtype.startsWith("q")) backend.quantize(weight, values);
        else if (isWriting) backend.cast(weight, values);
        backend.linearForward(out, x, weight, null);
      });
    for (const value of [1, 2, 4]) {
      writeAll(backend, weight, values, value);
      for (let round = 0; round < 2; round++) {
        backend.fill(out, 0);
        step("reading", false);
        await assertProduct(backend, out, new Array(N).fill(value));
      }
    }
    for (const value of [8, 16]) {
      backend.fill(values, -value);
      step("writing", true);
      await assertProduct(backend, out, new Array(N).fill(value));
    }
  }
});

onWebgpu("textures of weights are given back with them", async (backend) => {
  const live = new Set<GPUTexture>();
  const create = GPUDevice.prototype.createTexture, destroy = GPUTexture.prototype.destroy;
  GPUDevice.prototype.createTexture = function (descriptor) {
    const texture = create.call(this, descriptor);
    live.add(texture);
    return texture;
  };
  GPUTexture.prototype.destroy = function () {
    live.delete(this);
    destroy.call(this);
  };
  try {
    const counts: number[] = [];
    for (let round = 0; round < 5; round++) {
      using arena = allocateProduct(backend, DTYPES[round % DTYPES.length]);
      const { out, x, weight } = arena.tensors;
      backend.linearForward(out, x, weight, null);
      backend.linearForward(rows(out, 0, 1), rows(x, 0, 1), weight, null);
      await backend.synchronize();
      counts.push(live.size);
    }
    // Those of the left operands stay; a weight's last one is gone.
    assert.deepEqual(counts, new Array(5).fill(counts[0]));
    assert.ok(live.size === counts[0] || live.size === counts[0] - 1);
  } finally {
    GPUDevice.prototype.createTexture = create;
    GPUTexture.prototype.destroy = destroy;
  }
  assert.equal(backend.allocatedBytes, 0);
});

webgpuTest(
  "a weight for whose texture there is no memory is an error, then read as it lies",
  async () => {
    const gpu = await openDevice();
    using backend = await webgpuBackend({ ...gpu, adapter: { ...gpu.adapter, isSoftware: true } });
    using arena = allocateProduct(backend, "q4_0");
    const { out, x, weight, values } = arena.tensors;
    writeAll(backend, weight, values, 1);
    await backend.synchronize();
    gpu.device.popErrorScope = async () => {
      await GPUDevice.prototype.popErrorScope.call(gpu.device);
      return new GPUOutOfMemoryError("no memory left");
    };
    backend.linearForward(out, x, weight, null);
    await assert.rejects(
      () => backend.synchronize(),
      (error) =>
        error instanceof DeviceError &&
        /^Cannot pack "a.weight" on webgpu \(.*\): \d+ bytes were asked for, .*no memory left/
          .test(error.message),
    );
    Reflect.deleteProperty(gpu.device, "popErrorScope");
    const labels: (string | undefined)[] = [];
    gpu.device.createTexture = (descriptor) => {
      labels.push(descriptor.label);
      return GPUDevice.prototype.createTexture.call(gpu.device, descriptor);
    };
    backend.linearForward(out, x, weight, null);
    await assertProduct(backend, out, new Array(N).fill(1));
    assert.deepEqual(labels, ["texels 1 x 48", "texels 0 x 48"]); // no other for a packed form
  },
);
