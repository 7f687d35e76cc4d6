// The checksum of a file of any size.

import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";

const CHUNK_BYTES = 4 << 20;

/** What a file is known by. */
export interface FileHash {
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

/** SHA-256: with the CPU's instructions for it about 1.3 GB/s, twice as fast as MD5 and as fast as most disks write. */
export function hashFile(path: string): FileHash {
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  const handle = openSync(path, "r");
  let bytes = 0;
  try {
    for (;;) {
      const count = readSync(handle, chunk, 0, chunk.length, null);
      if (count === 0) return { bytes, sha256: hash.digest("hex") };
      hash.update(chunk.subarray(0, count));
      bytes += count;
    }
  } finally {
    closeSync(handle);
  }
}
