"""Times training steps of a Llama in PyTorch on the CPU and prints one JSON line; run by train_table.ts, or by hand:

    python3 torch_train.py --model configs/models/nano-15m.yaml --batch 8 --length 256 --variant compile

A step is forward, backward, clipping to norm 1.0 and fused AdamW. Variants: the model below run eagerly or through
torch.compile, and transformers' LlamaForCausalLM, eager or compiled. With --precision bf16 matrix products run under
autocast; parameters, gradients and moments stay f32, as in the program that is compared.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


def read_shape(path):
    """The flat `key: value` lines of a model file."""
    shape = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if not line.startswith("#") and value.strip().replace(".", "").replace("e-", "").isdigit():
                shape[key] = float(value) if "." in value else int(value)
    return shape


class Attention(nn.Module):
    def __init__(self, shape, shares_heads):
        super().__init__()
        self.shares_heads = shares_heads
        self.heads, self.kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
        self.width = shape["head_dim"]
        inner = (self.heads + 2 * self.kv_heads) * self.width
        self.qkv = nn.Linear(shape["hidden_size"], inner, bias=False)
        self.out = nn.Linear(self.heads * self.width, shape["hidden_size"], bias=False)

    def rotated(self, x, cos, sin):
        """Queries, keys and values (B, heads, T, width), the first two turned by their positions."""
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.width).transpose(1, 2)
        rotated, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        left, right = rotated.chunk(2, dim=-1)
        rotated = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)
        q, k = rotated.split([self.heads, self.kv_heads], dim=1)
        return q, k, v.to(q.dtype)

    def forward(self, x, cos, sin):
        q, k, v = self.rotated(x, cos, sin)
        # The CPU's fused attention takes as many key as query heads; repeating them costs less than leaving it.
        repeats = 1 if self.shares_heads else self.heads // self.kv_heads
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.shares_heads)
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


class Block(nn.Module):
    def __init__(self, shape, shares_heads):
        super().__init__()
        hidden, inner, eps = shape["hidden_size"], shape["intermediate_size"], shape["rms_norm_eps"]
        self.attention_norm, self.mlp_norm = nn.RMSNorm(hidden, eps), nn.RMSNorm(hidden, eps)
        self.attention = Attention(shape, shares_heads)
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Llama(nn.Module):
    """`shares_heads` leaves it to PyTorch that several query heads read one key head."""

    def __init__(self, shape, length, shares_heads=False):
        super().__init__()
        hidden, vocabulary, width = shape["hidden_size"], shape["vocab_size"], shape["head_dim"]
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList(Block(shape, shares_heads) for _ in range(shape["num_hidden_layers"]))
        self.norm = nn.RMSNorm(hidden, shape["rms_norm_eps"])
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        frequencies = shape["rope_theta"] ** (-torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(length), frequencies)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def hidden(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.norm(x)

    def forward(self, tokens, targets):
        logits = self.head(self.hidden(tokens))
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


class TransformersLlama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(**shape, attn_implementation="sdpa", use_cache=False, tie_word_embeddings=False)
        self.inner = LlamaForCausalLM(config)

    def forward(self, tokens, targets):
        logits = self.inner(input_ids=tokens).logits
        return functional.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def build(variant, shape, length):
    model = TransformersLlama(shape) if variant.startswith("transformers") else Llama(shape, length)
    return torch.compile(model) if variant.endswith("compile") else model


def measure(arguments):
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    shape = read_shape(arguments.model)
    model = build(arguments.variant, shape, arguments.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    samples = torch.randint(0, shape["vocab_size"], (arguments.batch, arguments.length + 1))
    tokens, targets = samples[:, :-1].contiguous(), samples[:, 1:].contiguous()
    reduced = arguments.precision == "bf16"
    seconds = []
    for step in range(arguments.warmup + arguments.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if reduced else contextlib.nullcontext():
            loss = model(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        if step >= arguments.warmup:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "peer": f"torch {torch.__version__} {arguments.variant}",
        "precision": arguments.precision,
        "tokens_per_second": tokens.numel() / median,
        "step_ms": median * 1e3,
        "fastest_step_ms": min(seconds) * 1e3,
        "loss": loss.item(),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a file of configs/models")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument(
        "--variant",
        choices=["eager", "compile", "transformers", "transformers-compile"],
        default="compile",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
