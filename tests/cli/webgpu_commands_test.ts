// What the commands say of WebGPU adapters, and where there is none: on Linux the loader of Vulkan drivers can be told so.
// What an adapter does is in tests/backend.

import assert from "node:assert/strict";
import { join } from "node:path";
import { adapter, webgpuTest } from "../backend/webgpu_adapter.ts";
import { writeTextModel } from "../generate/generating_setup.ts";
import { inTempFolder } from "../temp_folder.ts";
import { tinyllama } from "./command_line.ts";

const isLinux = Deno.build.os === "linux";
const NO_DRIVERS = { VK_DRIVER_FILES: "/none.json", VK_ICD_FILENAMES: "/none.json" };

Deno.test({
  name: "a system without an adapter is told what to install" +
    (isLinux ? "" : " (skipped: only Linux can hide its drivers)"),
  ignore: !isLinux,
  fn: () =>
    inTempFolder(async (folder) => {
      const model = join(folder, "model");
      await writeTextModel(model, { addBos: false, eosIds: [2] });
      const surroundings = { environment: NO_DRIVERS };
      const [generate, doctor] = await Promise.all([
        tinyllama(["generate", "a", "--model", model, "--device", "webgpu"], surroundings),
        tinyllama(["doctor", "--json"], surroundings),
      ]);
      assert.equal(generate.code, 1, generate.error);
      assert.match(
        generate.error,
        /^error: Cannot use webgpu: this system has no WebGPU adapter; install the driver of your .*--device cpu\n$/,
      );
      const { devices, auto } = JSON.parse(doctor.text);
      const webgpu = devices.find(({ device }: { device: string }) => device === "webgpu");
      assert.equal(webgpu.isReady, false);
      assert.equal(webgpu.detail, "no adapter");
      assert.match(webgpu.remedy, /^install the driver of your graphics card/);
      assert.doesNotMatch(auto, /webgpu/);
    }),
});

webgpuTest(
  "doctor lists adapters, their limits and features, and says which are software",
  async () => {
    const [plain, json] = await Promise.all([
      tinyllama(["doctor"]),
      tinyllama(["doctor", "--json"]),
    ]);
    assert.ok(adapter !== null);
    const { adapters, auto } = JSON.parse(json.text);
    assert.deepEqual(adapters[0], adapter);
    const { description, isSoftware, features, limits } = adapter;
    const lines = plain.text.split("\n");
    const kind = isSoftware ? "software, slower than --device cpu" : "hardware";
    const at = lines.indexOf(`  ${description} (${kind})`);
    assert.ok(at > lines.indexOf("adapters of webgpu"), plain.text);
    const mebibytes = Math.floor(limits.maxStorageBufferBindingSize / 2 ** 20);
    assert.match(
      lines[at + 1],
      new RegExp(`^ {4}bindings up to ${mebibytes} MiB, .* a workgroup$`),
    );
    for (const feature of features) assert.ok(lines[at + 2].includes(feature));
    if (isSoftware) assert.doesNotMatch(auto, /webgpu/);
  },
);
