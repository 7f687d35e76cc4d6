"""Times a Llama in PyTorch on a CUDA card and prints one JSON line; run by gpu_peer.ts, or by hand:

    python3 torch_gpu.py train|attention|decode --model configs/models/tinyllama-1.1b.yaml --batch 8 --length 2048

train: bf16 parameters with f32 master weights and moments (fused AdamW), clipping to norm 1.0, torch.compile. attention:
scaled_dot_product_attention alone, forward and backward. decode: one sequence with a static cache in bf16,
torch.compile with CUDA graphs. Steps are medians; times of attention are the device's own.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from torch_train import Llama, read_shape


def elapsed(run):
    """Seconds of a call, the device's work included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def reduce(model):
    """Weights in bf16; the tables of rotations stay f32."""
    cos, sin = model.cos, model.sin
    model.bfloat16()
    model.cos, model.sin = cos, sin
    return model


def train(arguments, shape):
    model = Llama(shape, arguments.length, shares_heads=True).cuda()
    master = [parameter.detach().clone() for parameter in model.parameters()]
    reduce(model)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(master, lr=4e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if arguments.compile else model
    samples = torch.randint(0, shape["vocab_size"], (arguments.batch, arguments.length + 1), device="cuda")
    tokens, targets = samples[:, :-1].contiguous(), samples[:, 1:].contiguous()
    loss = None

    def step():
        nonlocal loss
        loss = forward(tokens, targets)
        loss.backward()
        for copy, parameter in zip(master, parameters):
            copy.grad = parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(master, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(parameters, master)
        loss.item()

    for _ in range(arguments.warmup):
        step()
    seconds = [elapsed(step) for _ in range(arguments.steps)]
    median = statistics.median(seconds)
    return {
        "tokens_per_second": tokens.numel() / median,
        "step_ms": median * 1e3,
        "fastest_step_ms": min(seconds) * 1e3,
        "peak_bytes": torch.cuda.max_memory_reserved(),
        "loss": loss.item(),
    }


def attention(arguments, shape):
    heads, kv_heads, width = shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"]

    def random(count):
        size = (arguments.batch, count, arguments.length, width)
        return torch.randn(size, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    q, k, v = random(heads), random(kv_heads), random(kv_heads)
    gradient = torch.randn_like(q)

    def forward():
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def timed(run):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end), result

    forwards, backwards = [], []
    for round_ in range(arguments.warmup + arguments.steps):
        forward_ms, out = timed(forward)
        backward_ms, _ = timed(lambda: torch.autograd.grad(out, (q, k, v), gradient))
        if round_ >= arguments.warmup:
            forwards.append(forward_ms)
            backwards.append(backward_ms)
    return {"forward_ms": statistics.median(forwards), "backward_ms": statistics.median(backwards)}


class Decoder(nn.Module):
    """The weights of a Llama with a static cache: a token in, the likeliest next one out."""

    def __init__(self, model, shape, length):
        super().__init__()
        self.model = model
        size = (1, shape["num_key_value_heads"], length, shape["head_dim"])
        for i in range(len(model.blocks)):
            self.register_buffer(f"keys{i}", torch.zeros(size, device="cuda", dtype=torch.bfloat16))
            self.register_buffer(f"values{i}", torch.zeros(size, device="cuda", dtype=torch.bfloat16))
        visible = torch.ones(length, length, device="cuda", dtype=torch.bool).tril()
        self.register_buffer("visible", visible)

    def forward(self, tokens, positions):
        model = self.model
        x = model.embedding(tokens)
        cos, sin, mask = model.cos[positions], model.sin[positions], self.visible[positions]
        for i, block in enumerate(model.blocks):
            keys, values = getattr(self, f"keys{i}"), getattr(self, f"values{i}")
            mixed = self.attend(block.attention, block.attention_norm(x), keys, values, positions, cos, sin, mask)
            x = x + mixed
            gate, up = block.gate_up(block.mlp_norm(x)).chunk(2, dim=-1)
            x = x + block.down(functional.silu(gate) * up)
        return model.head(model.norm(x[:, -1:])).argmax(-1)

    @staticmethod
    def attend(layer, x, keys, values, positions, cos, sin, mask):
        q, k, v = layer.rotated(x, cos, sin)
        keys.index_copy_(2, positions, k)
        values.index_copy_(2, positions, v)
        mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
        return layer.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


@torch.no_grad()
def decode(arguments, shape):
    length = max(arguments.prompt, arguments.depth + arguments.new)
    model = reduce(Llama(shape, length, shares_heads=True).cuda().eval())
    decoder = Decoder(model, shape, length)
    step, prefill = decoder, lambda tokens: model.head(model.hidden(tokens)[:, -1:]).argmax(-1)
    if arguments.compile:
        step = torch.compile(decoder, mode="reduce-overhead", fullgraph=True)
        prefill = torch.compile(prefill)
    long = torch.randint(0, shape["vocab_size"], (1, arguments.prompt), device="cuda")
    prompt, rates, prefills = long[:, : arguments.depth], [], []
    for _ in range(arguments.rounds + 1):
        token = decoder(prompt, torch.arange(arguments.depth, device="cuda")).clone()
        position = torch.tensor([arguments.depth], device="cuda")

        def draw():
            nonlocal token
            for _ in range(arguments.new - 1):
                token = step(token, position).clone()
                position.add_(1)

        rates.append((arguments.new - 1) / elapsed(draw))
        prefills.append(arguments.prompt / elapsed(lambda: prefill(long)))
    return {
        "prefill_tokens_per_second": statistics.median(prefills[1:]),
        "decode_tokens_per_second": statistics.median(rates[1:]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["train", "attention", "decode"])
    parser.add_argument("--model", required=True, help="a file of configs/models")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--depth", type=int, default=128, help="tokens before those decoded")
    parser.add_argument("--new", type=int, default=256, help="tokens decoded")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens whose passage is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = read_shape(arguments.model)
    figures = {"train": train, "attention": attention, "decode": decode}[arguments.mode](arguments, shape)
    compiled = " compiled" if arguments.compile and arguments.mode != "attention" else ""
    print(json.dumps({"peer": f"torch {torch.__version__}{compiled}", **figures}))


main()
