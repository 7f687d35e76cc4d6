# Computes the expected values of the folders given again with the installed transformers and prints the largest relative
# difference (max |a - b| / max |b| over a tensor) to each file. See README.md.

import json
import math
import sys

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

LR, MIN_LR, WARMUP, STEPS = 4e-3, 4e-4, 3, 10


def difference(a, b):
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return ((a - b).abs().max() / b.abs().max()).item()


def load(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def loss_of(model, inputs, targets):
    logits = model(inputs).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def learning_rate(step):
    if step <= WARMUP:
        return LR * step / WARMUP
    progress = (step - WARMUP) / (STEPS - WARMUP)
    return MIN_LR + 0.5 * (1 + math.cos(math.pi * progress)) * (LR - MIN_LR)


def check_gradients(folder):
    model, expected = load(folder), load_file(f"{folder}/expected.safetensors")
    logits, loss = loss_of(model, expected["input_ids"].long(), expected["targets"].long())
    loss.backward()
    found = {"logits": logits.detach(), "loss": loss.detach()}
    found |= {f"grad.{name}": p.grad for name, p in model.named_parameters()}
    return max(difference(found[name], expected[name]) for name in expected if name in found)


def check_steps(folder, expected):
    model, batches = load(folder), load_file(f"{folder}/batches.safetensors")["batches"].long()
    after = load_file(f"{folder}/after_10_steps.safetensors")
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    worst = 0
    for batch, row in zip(batches, expected["trajectory"], strict=True):
        _, loss = loss_of(model, batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate(row["step"])
        optimizer.step()
        found = {"loss": loss.item(), "grad_norm": norm.item(), "lr": learning_rate(row["step"])}
        worst = max(worst, *(difference(found[key], row[key]) for key in found))
    parameters = dict(model.named_parameters())
    return worst, max(difference(parameters[name].detach(), after[name]) for name in after)


def check_greedy(folder, expected):
    model, ids = load(folder), list(expected["prompt"])
    while len(ids) < len(expected["greedy"]):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids == expected["greedy"]


for folder in sys.argv[1:]:
    with open(f"{folder}/expected.json", encoding="utf-8") as file:
        expected = json.load(file)
    trajectory, after = check_steps(folder, expected)
    print(folder, "logits, loss, gradients", check_gradients(folder))
    print(folder, "trajectory", trajectory)
    print(folder, "parameters after ten steps", after)
    print(folder, "greedy tokens", "agree" if check_greedy(folder, expected) else "DIFFER")
