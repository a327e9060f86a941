#!/usr/bin/env python3
"""original_model.py SHAPE DIR: a checkpoint as the original code publishes them, config.json and
pytorch_model.bin in f16, of an official shape. Its numbers are small and repeat: for measuring how such a
file is opened (5.4 GB for 2.7b), not for scores that mean anything."""
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "run"))
import layouts  # noqa: E402

SHAPES = {"130m": (768, 24), "370m": (1024, 48), "780m": (1536, 48), "1.3b": (2048, 48), "2.7b": (2560, 64)}
BLOCK = 1 << 20


def numbers(count):
    """So many bytes of f16 between -2^-5 and 2^-5: a block of random ones, again and again."""
    mask = int.from_bytes(b"\xff\xa7" * (BLOCK // 2), "little")
    block = (int.from_bytes(random.Random(1).randbytes(BLOCK), "little") & mask).to_bytes(BLOCK, "little")
    return memoryview(block * (count // BLOCK + 1))


def main():
    (hidden, layers), folder = SHAPES[sys.argv[1]], pathlib.Path(sys.argv[2])
    inner, state, vocab = 2 * hidden, 128, 50288
    heads, channels = inner // 64, inner + 2 * state
    pool = numbers(2 * vocab * hidden)
    tensors = {}

    def add(name, *shape):
        count = 2
        for size in shape:
            count *= size
        tensors[name] = layouts.Tensor("F16", list(shape), pool[:count])

    add("backbone.embedding.weight", vocab, hidden)
    for i in range(layers):
        at = f"backbone.layers.{i}."
        add(at + "norm.weight", hidden)
        add(at + "mixer.in_proj.weight", inner + channels + heads, hidden)
        add(at + "mixer.conv1d.weight", channels, 1, 4)
        add(at + "mixer.conv1d.bias", channels)
        for name in ("dt_bias", "A_log", "D"):
            add(at + f"mixer.{name}", heads)
        add(at + "mixer.norm.weight", inner)
        add(at + "mixer.out_proj.weight", hidden, inner)
    add("backbone.norm_f.weight", hidden)
    add("lm_head.weight", vocab, hidden)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "d_model": hidden, "n_layer": layers, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"},
        "pad_vocab_size_multiple": 16, "tie_embeddings": True}))
    layouts.write_torch(folder / "pytorch_model.bin", tensors,
                        share={"lm_head.weight": "backbone.embedding.weight"})


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: original_model.py {'|'.join(SHAPES)} DIR")
    main()
