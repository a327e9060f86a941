"""Checkpoints in the layouts of the field, written from a model in HF's layout without torch.

A torch file is a zip of stored entries and a pickle. The pickle comes from Python's own pickler: stand-ins
with torch's names are pickled by reference, as torch's own functions and classes are.
"""
import collections
import contextlib
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
Tensor = collections.namedtuple("Tensor", "dtype shape data")


def read_hf(folder):
    """(config, {name: Tensor}) of a folder in HF's layout."""
    folder = pathlib.Path(folder)
    raw = memoryview((folder / "model.safetensors").read_bytes())
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(bytes(raw[8:8 + length]))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], entry["shape"], bytes(raw[8 + length + begin:8 + length + end]))
    return json.loads((folder / "config.json").read_text()), tensors


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, at + len(tensor.data)]}
        at += len(tensor.data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensor.data for tensor in tensors.values()))


@contextlib.contextmanager
def torch_names():
    """Modules of torch's names, so that the pickler finds what it writes by reference."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for module, names in ((torch, STORAGES.values()), (utils, ["_rebuild_tensor_v2", "_rebuild_parameter"])):
        for name in names:
            setattr(module, name, type(name, (), {"__module__": module.__name__}))
    torch._utils = utils
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Storage:
    def __init__(self, dtype, key, count):
        self.dtype, self.key, self.count = dtype, key, count


class Rebuilt:
    """What is pickled as a call of one of torch's functions."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class StateDict(collections.OrderedDict):
    """An OrderedDict with attributes, as torch's are; pickled as an OrderedDict."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"_metadata": self._metadata}, None, iter(self.items())


def strides_of(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return tuple(strides)


def write_torch(path, tensors, inside="archive", share=(), parameters=False, flat=False):
    """inside: the folder in the zip. share: names whose storage is that of another name, {tied: of}. parameters: nn.Parameter in place of tensors.
    flat: all tensors of a type lie in one storage, one behind the other."""
    share = dict(share)
    places, storages = {}, []  # name: (storage, offset in elements); (dtype, [data])
    for name, tensor in tensors.items():
        if name in share:
            continue
        found = [i for i, (dtype, _) in enumerate(storages) if flat and dtype == tensor.dtype]
        if not found:
            found = [len(storages)]
            storages.append((tensor.dtype, []))
        data = storages[found[0]][1]
        places[name] = (found[0], sum(map(len, data)) // WIDTHS[tensor.dtype])
        data.append(tensor.data)
    with torch_names() as torch, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        class Pickler(pickle._Pickler):  # the one in Python: the other looks names up before it writes them
            def persistent_id(self, value):
                if not isinstance(value, Storage):
                    return None
                return "storage", getattr(torch, STORAGES[value.dtype]), str(value.key), "cpu", value.count

        made = [Storage(dtype, key, sum(map(len, data)) // WIDTHS[dtype])
                for key, (dtype, data) in enumerate(storages)]
        state = StateDict()
        state._metadata = collections.OrderedDict({"": {"version": 1}, "backbone": {"version": 1}})
        for name, tensor in tensors.items():
            key, offset = places[share.get(name, name)]
            value = Rebuilt(torch._utils._rebuild_tensor_v2, made[key], offset, tuple(tensor.shape),
                            strides_of(tensor.shape), False, collections.OrderedDict())
            if parameters:
                value = Rebuilt(torch._utils._rebuild_parameter, value, True, collections.OrderedDict())
            state[name] = value
        with file.open(f"{inside}/data.pkl", "w") as out:
            Pickler(out, protocol=2).dump(state)
        file.writestr(f"{inside}/byteorder", "little")
        for key, (_, data) in enumerate(storages):
            with file.open(f"{inside}/data/{key}", "w", force_zip64=True) as out:
                for part in data:
                    out.write(part)
        file.writestr(f"{inside}/version", "3\n")


def original_names(tensors, prefix=""):
    return {prefix + name.replace("backbone.embeddings.", "backbone.embedding."): tensor
            for name, tensor in tensors.items()}


def original_config(config, vocabulary=None, multiple=1):
    """config.json of the original code; what its Mamba2 layer takes by default is left out."""
    layer = {"layer": "Mamba2"}
    for name, field, default in (("d_state", "state_size", 128), ("headdim", "head_dim", 64), ("ngroups", "n_groups", 1),
                                 ("d_conv", "conv_kernel", 4), ("expand", "expand", 2), ("bias", "use_bias", False),
                                 ("conv_bias", "use_conv_bias", True)):
        if config[field] != default:
            layer[name] = config[field]
    if config["time_step_limit"] != [0.0, float("inf")]:
        layer["dt_limit"] = config["time_step_limit"]
    return {"d_model": config["hidden_size"], "d_intermediate": 0, "n_layer": config["num_hidden_layers"],
            "vocab_size": vocabulary or config["vocab_size"], "ssm_cfg": layer, "attn_layer_idx": [], "attn_cfg": {},
            "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": multiple,
            "tie_embeddings": config["tie_word_embeddings"]}


def mistral_config(config):
    """params.json of Codestral, which has no field for what Codestral takes for granted."""
    return {"dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "vocab_size": config["vocab_size"],
            "n_groups": config["n_groups"], "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
            "pad_vocab_size_multiple": 1, "tie_embeddings": config["tie_word_embeddings"], "model_type": "mamba"}


def with_head(tensors):
    """The original code keeps a tied head in the file."""
    return {**tensors, "lm_head.weight": tensors.get("lm_head.weight", tensors["backbone.embeddings.weight"])}


def write_original(folder, config, tensors, *, vocabulary=None, multiple=1, **how):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(original_config(config, vocabulary, multiple)))
    if config["tie_word_embeddings"] and how.pop("tied_storage", False):
        how["share"] = {"lm_head.weight": "backbone.embedding.weight"}
    write_torch(folder / "pytorch_model.bin", original_names(with_head(tensors)), **how)


def write_consolidated(folder, config, tensors):
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(mistral_config(config)))
    write_safetensors(folder / "consolidated.safetensors", original_names(tensors, "model."))


def write_shards(folder, config, tensors, count, torch=False):
    """Tensors dealt to the shards in turn; the index beside them."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    stem, end = ("pytorch_model", "bin") if torch else ("model", "safetensors")
    names, places = list(tensors), {}
    for shard in range(count):
        file = f"{stem}-{shard + 1:05}-of-{count:05}.{end}"
        mine = {name: tensors[name] for name in names[shard::count]}
        places.update(dict.fromkeys(mine, file))
        (write_torch if torch else write_safetensors)(folder / file, mine)
    index = {"metadata": {"total_size": sum(len(tensor.data) for tensor in tensors.values())}, "weight_map": places}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index, indent=2))
