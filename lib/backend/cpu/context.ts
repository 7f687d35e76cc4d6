// What the twelve family files get: the kernels and where tensors lie. Not the memory itself.

import type { Tensor } from "../../core/tensor.ts";
import type { Address, CpuKernels } from "./kernels.ts";
import type { CpuMachine } from "./machine.ts";
import type { CpuMemory } from "./memory.ts";

/** One backend's kernels, bound to its threads and memory. */
export interface CpuContext {
  readonly kernels: CpuKernels;
  /** First argument of every kernel. */
  readonly context: Address;
  /** Number of the dtype that matrix products round their operands to. */
  readonly matmul: number;
  /** Where an input lies, `moreBytes` after its start. @throws {DeviceError} when it is not this backend's or was freed. */
  input(tensor: Tensor, moreBytes?: number): Address;
  /** Where an output lies. @throws {DeviceError} also when it is a mapped file. */
  output(tensor: Tensor, moreBytes?: number): Address;
  /** Null is C's null. */
  optionalInput(tensor: Tensor | null): Address;
  optionalOutput(tensor: Tensor | null): Address;
}

/** Binds kernels and memory. */
export function cpuContext(machine: CpuMachine, memory: CpuMemory, matmul: number): CpuContext {
  const nullAddress = machine.toAddress(0);
  return {
    kernels: machine.kernels,
    context: machine.context,
    matmul,
    input: (tensor, moreBytes = 0) => memory.address(tensor, moreBytes),
    output: (tensor, moreBytes = 0) => memory.outputAddress(tensor, moreBytes),
    optionalInput: (tensor) => tensor === null ? nullAddress : memory.address(tensor),
    optionalOutput: (tensor) => tensor === null ? nullAddress : memory.outputAddress(tensor),
  };
}
