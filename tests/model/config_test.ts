// The architecture's reading and counting: exact parameter numbers, both rotary spellings, refusals with reasons.

import assert from "node:assert/strict";
import { FormatError } from "../../lib/core/errors.ts";
import { ropeTable } from "../../lib/model/activations.ts";
import { parseModelConfig, toHfConfig } from "../../lib/model/config.ts";
import { matmulParameters, trainingFlopsPerToken } from "../../lib/model/flops.ts";
import { parameterCount } from "../../lib/model/weights.ts";

const TINYLLAMA = {
  model_type: "llama",
  vocab_size: 32000,
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 22,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};

/** Nested far deeper than any recursion reaches. */
const DEEP: unknown = JSON.parse("[".repeat(100_000) + "]".repeat(100_000));

Deno.test("parameterCount() of TinyLlama 1.1B is 1,100,048,384", () => {
  const config = parseModelConfig(TINYLLAMA, "config.json");
  assert.equal(parameterCount(config), 1_100_048_384);
  const norms = 2048 + 22 * 2 * 2048;
  assert.equal(matmulParameters(config), 1_100_048_384 - 65_536_000 - norms);
  const perToken = 6 * matmulParameters(config) + 6 * 22 * 2048 * 2048;
  assert.equal(trainingFlopsPerToken(config, 2048), perToken);
});

Deno.test("parameterCount() counts a tied head once", () => {
  const tied = parseModelConfig({ ...TINYLLAMA, tie_word_embeddings: true }, "config.json");
  assert.equal(parameterCount(tied), 1_100_048_384 - 65_536_000);
});

Deno.test("parseModelConfig() reads rope_theta at the top and in rope_parameters", () => {
  const read = (more: Record<string, unknown>) =>
    parseModelConfig({ ...TINYLLAMA, ...more }, "config.json");
  assert.equal(read({}).ropeTheta, 10000);
  assert.equal(read({ rope_theta: 500000 }).ropeTheta, 500000);
  const nested = read({ rope_parameters: { rope_type: "default", rope_theta: 20000 } });
  assert.equal(nested.ropeTheta, 20000);
  const linear = read({ rope_theta: 30000, rope_scaling: { type: "linear", factor: 4 } });
  assert.deepEqual([linear.ropeTheta, linear.ropeFactor], [30000, 4]);
});

Deno.test("toHfConfig() is read back as the same architecture", () => {
  for (const more of [{}, { head_dim: 48 }, { rope_scaling: { rope_type: "linear", factor: 2 } }]) {
    const config = parseModelConfig({ ...TINYLLAMA, ...more }, "config.json");
    assert.deepEqual(parseModelConfig(toHfConfig(config, "float32"), "saved"), config);
  }
});

Deno.test("parseModelConfig() names the key it cannot accept", () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ model_type: "gpt2" }, /"model_type" is "gpt2", expected "llama"/],
    [{ hidden_size: "big" }, /"hidden_size" is "big", expected a positive integer/],
    [{ num_key_value_heads: 5 }, /"num_key_value_heads" is 5, expected a divisor/],
    [
      { num_attention_heads: 24, num_key_value_heads: 4, head_dim: null },
      /"num_attention_heads" is 24, expected a divisor of hidden_size = 2048/,
    ],
    [{ head_dim: 63 }, /"head_dim" is 63, expected an even number/],
    [{ attention_bias: true }, /"attention_bias" is true, expected false/],
    [{ hidden_act: "gelu" }, /"hidden_act" is "gelu", expected "silu"/],
    [{ rope_scaling: { rope_type: "llama3", factor: 8 } }, /"rope_type" is "llama3"/],
    [{ eos_token_id: [] }, /"eos_token_id" is \[\]/],
    [{ rope_scaling: 8 }, /"rope_scaling" is 8, expected an object/],
    [{ rope_parameters: "linear", rope_scaling: null }, /"rope_parameters" is "linear", expected/],
    [{ vocab_size: DEEP }, /"vocab_size" is \[\.\.\.\], expected a positive integer$/],
    [{ eos_token_id: DEEP }, /"eos_token_id" is \[\.\.\.\], expected a token id/],
    [{ rope_scaling: DEEP }, /"rope_scaling" is \[\.\.\.\], expected an object/],
    [{ hidden_act: "x".repeat(1 << 20) }, /"hidden_act" is "x{77}\.\.\.", expected "silu"$/],
  ];
  for (const [change, message] of cases) {
    assert.throws(
      () => parseModelConfig({ ...TINYLLAMA, ...change }, "config.json"),
      (error) => error instanceof FormatError && message.test(error.message),
      Object.keys(change).join(),
    );
  }
  assert.throws(() => parseModelConfig([], "config.json"), FormatError);
});

Deno.test("ropeTable() rows are cosines then sines of position times frequency", () => {
  const config = parseModelConfig({ ...TINYLLAMA, head_dim: 4 }, "config.json");
  const table = ropeTable(config, 3);
  const expected = [Math.cos(2), Math.cos(0.02), Math.sin(2), Math.sin(0.02)];
  assert.deepEqual([...table.subarray(8, 12)], expected.map(Math.fround));
});
