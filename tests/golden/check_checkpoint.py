"""Opens the checkpoints of check_checkpoint.ts with transformers and compares its logits with ours.

usage: check_checkpoint.py FOLDER       (the folder given to check_checkpoint.ts)
"""

import json
import pathlib
import sys

import safetensors
import safetensors.torch
import torch
import transformers

print(f"transformers {transformers.__version__}, safetensors {safetensors.__version__}, torch {torch.__version__}")
transformers.logging.set_verbosity_error()
worst = 0.0
for name in ("tied", "untied"):
    ours = json.loads((pathlib.Path(sys.argv[1]) / name / "ours.json").read_text())
    folder = pathlib.Path(ours["folder"])
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {what: sorted(found) for what, found in loading.items() if found}
    assert not problems, problems
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode(ours["text"]) == ours["ids"], "other token ids"
    with torch.no_grad():
        theirs = model(torch.tensor([ours["ids"]])).logits[0]
    found = torch.tensor(ours["logits"]).reshape(theirs.shape)
    difference = ((found - theirs).abs().max() / theirs.abs().max()).item()
    worst = max(worst, difference)
    moments = safetensors.torch.load_file(folder / "optimizer.safetensors")
    print(
        f"{name}: {type(model).__name__}, {len(list(model.parameters()))} parameters, "
        f"{len(moments)} optimizer tensors, no tensor missing, unexpected or reshaped; "
        f"largest difference of {theirs.numel()} logits {difference:.1e} of the largest logit"
    )
assert worst < 1e-5, worst
