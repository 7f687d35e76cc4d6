// Bytes between host and device. To the device all go through a ring of page-locked memory: the driver may read other memory
// after a copy has returned. To the host small ones (losses, tokens) do, so that the host waits for nothing; large ones
// (checkpoints) go straight to JavaScript's memory, and the host waits.

import { CUDART } from "../../../ffi/cudart.ts";
import type { Allocation } from "../../core/backend.ts";
import { DeviceError } from "../../core/errors.ts";
import type { CudaDevice } from "./device.ts";
import { CUDA_ALIGNMENT, READ_BACKS } from "./footprint.ts";
import type { CudaStream } from "./stream.ts";

/** What goes to the device at a time, and the most that is read without waiting. */
const PIECE_BYTES = 1 << 20;
/** Pieces on their way to the device at one time; when there are more, the host waits for the oldest. */
const RING_BYTES = 8 << 20;
const ALIGNMENT = 64;

/** Page-locked memory of the host. */
interface Pinned {
  readonly address: bigint;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A piece of the ring that the device has still to read, and the event after which it has. */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly event: bigint;
}

/** What one read uses: a snapshot on the device, so that computing goes on, and where it lands on the host. */
interface ReadBack {
  readonly snapshot: bigint;
  readonly host: Pinned;
  readonly taken: bigint;
  readonly landed: bigint;
}

/** Copies in the order of the stream for computing. */
export class Staging implements Disposable {
  readonly #device: CudaDevice;
  readonly #stream: CudaStream;
  readonly #ring: Pinned;
  readonly #pieces: Piece[] = [];
  readonly #events: bigint[] = [];
  /** Idle ones by size, and all there are. */
  readonly #idle = new Map<number, ReadBack[]>();
  readonly #readBacks: ReadBack[] = [];
  readonly #place = new BigUint64Array(1);
  readonly #reserveOnDevice: (line: Allocation) => bigint;
  #head = 0;
  #isOpen = true;
  /** Device memory that no read back has taken yet. */
  #snapshots: { address: bigint; left: number };

  /** `reserveOnDevice` gives the address of device memory that is freed with the backend. */
  constructor(
    device: CudaDevice,
    stream: CudaStream,
    reserveOnDevice: (line: Allocation) => bigint,
  ) {
    this.#device = device;
    this.#stream = stream;
    this.#reserveOnDevice = reserveOnDevice;
    this.#snapshots = { address: reserveOnDevice(READ_BACKS), left: READ_BACKS.byteLength };
    this.#ring = this.#pin(RING_BYTES);
  }

  /** Copies `source` to the device address `to`; `source` may be reused on return. */
  write(to: bigint, source: ArrayBufferView): void {
    const { buffer, byteOffset, byteLength } = source;
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    for (let at = 0; at < byteLength; at += PIECE_BYTES) {
      this.#writePiece(to + BigInt(at), bytes.subarray(at, at + PIECE_BYTES));
    }
  }

  /**
   * A copy of the bytes at the device address `from` after all work enqueued so far.
   * @throws {DeviceError} when this was disposed before they arrived.
   */
  async read(from: bigint, byteLength: number): Promise<ArrayBuffer> {
    const { runtime, checkRuntime } = this.#device, { compute, copies } = this.#stream;
    const size = BigInt(byteLength), toHost = CUDART.cudaMemcpyDeviceToHost;
    if (byteLength > PIECE_BYTES) {
      const bytes = new Uint8Array(byteLength);
      const status = runtime.cudaMemcpyAsyncToBuffer(bytes, from, size, toHost, compute);
      checkRuntime("cudaMemcpyAsync", status);
      this.#stream.blockAll();
      return bytes.buffer;
    }
    const readBack = this.#takeReadBack(byteLength), { snapshot, host, taken, landed } = readBack;
    const within = CUDART.cudaMemcpyDeviceToDevice;
    checkRuntime(
      "cudaMemcpyAsync",
      runtime.cudaMemcpyAsync(snapshot, from, size, within, compute),
    );
    this.#stream.record(taken, compute);
    this.#stream.waitFor(taken, copies);
    checkRuntime(
      "cudaMemcpyAsync",
      runtime.cudaMemcpyAsync(host.address, snapshot, size, toHost, copies),
    );
    this.#stream.record(landed, copies);
    await this.#stream.reached(landed);
    if (!this.#isOpen) throw new DeviceError("Cannot read from cuda: it was closed meanwhile");
    const copy = host.bytes.buffer.slice(0, byteLength);
    this.#idle.get(host.bytes.byteLength)?.push(readBack);
    return copy;
  }

  [Symbol.dispose](): void {
    const { runtime } = this.#device;
    this.#isOpen = false;
    runtime.cudaFreeHost(this.#ring.address);
    for (const event of this.#events) runtime.cudaEventDestroy(event);
    for (const { event } of this.#pieces) runtime.cudaEventDestroy(event);
    const idle = new Set([...this.#idle.values()].flat());
    for (const readBack of this.#readBacks) {
      const { host, taken, landed } = readBack;
      runtime.cudaFreeHost(host.address);
      runtime.cudaEventDestroy(taken);
      // Another thread may still be about to wait for the event of a read that nobody awaited: it lasts as the process does.
      if (!idle.has(readBack)) continue;
      runtime.cudaEventDestroy(landed);
    }
  }

  #writePiece(to: bigint, bytes: Uint8Array): void {
    const { runtime, checkRuntime } = this.#device, { compute } = this.#stream;
    const start = this.#reserve(bytes.length), from = this.#ring.address + BigInt(start);
    const size = BigInt(bytes.length), kind = CUDART.cudaMemcpyHostToDevice;
    this.#ring.bytes.set(bytes, start);
    checkRuntime("cudaMemcpyAsync", runtime.cudaMemcpyAsync(to, from, size, kind, compute));
    const event = this.#events.pop() ?? this.#stream.createEvent();
    this.#stream.record(event, compute);
    this.#pieces.push({ start, end: this.#head, event });
  }

  /** The start of `bytes` of the ring that the device has no more to read. */
  #reserve(bytes: number): number {
    const size = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    const start = this.#head + size > RING_BYTES ? 0 : this.#head;
    const end = start + size;
    while (this.#pieces.some((piece) => piece.start < end && start < piece.end)) {
      const oldest = this.#pieces.shift();
      if (oldest === undefined) break;
      this.#stream.block(oldest.event);
      this.#events.push(oldest.event);
    }
    this.#head = end;
    return start;
  }

  #takeReadBack(bytes: number): ReadBack {
    const size = 2 ** Math.ceil(Math.log2(Math.max(CUDA_ALIGNMENT, bytes)));
    const idle = this.#idle.get(size) ?? [];
    this.#idle.set(size, idle);
    const known = idle.pop();
    if (known !== undefined) return known;
    const snapshot = this.#takeSnapshot(size), host = this.#pin(size);
    const taken = this.#stream.createEvent(), landed = this.#stream.createEvent();
    const made = { snapshot, host, taken, landed };
    this.#readBacks.push(made);
    return made;
  }

  /** Device memory of a read back, which keeps it. Where many reads are under way at once there is more of it. */
  #takeSnapshot(size: number): bigint {
    if (this.#snapshots.left < size) {
      const address = this.#reserveOnDevice(READ_BACKS);
      this.#snapshots = { address, left: READ_BACKS.byteLength };
    }
    const { address, left } = this.#snapshots;
    this.#snapshots = { address: address + BigInt(size), left: left - size };
    return address;
  }

  #pin(size: number): Pinned {
    const { runtime, checkRuntime } = this.#device;
    checkRuntime("cudaMallocHost", runtime.cudaMallocHost(this.#place, BigInt(size)));
    const address = this.#place[0], pointer = Deno.UnsafePointer.create(address);
    if (pointer === null) throw new DeviceError("Cannot use cuda: cudaMallocHost gave no address");
    const buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, size);
    return { address, bytes: new Uint8Array(buffer) };
  }
}
