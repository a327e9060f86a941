"""Mamba-2 token by token in Python's floats, written from the published formulas: what the program's own
float64 model is held against. For models of a few thousand weights."""
import math
import struct


def numbers(tensor):
    if tensor.dtype == "F32":
        return list(struct.unpack(f"<{len(tensor.data) // 4}f", tensor.data))
    if tensor.dtype == "F16":
        return list(struct.unpack(f"<{len(tensor.data) // 2}e", tensor.data))
    halves = struct.unpack(f"<{len(tensor.data) // 2}H", tensor.data)
    return [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]


def silu(x):
    return x / (1 + math.exp(-x))


def softplus(x):
    return x if x > 20 else math.log1p(math.exp(x))


def multiply(weight, bias, x):
    width = len(x)
    return [sum(weight[row * width + k] * x[k] for k in range(width)) + (bias[row] if bias else 0)
            for row in range(len(weight) // width)]


def norm(x, weight, epsilon, groups=1):
    out, width = [], len(x) // groups
    for g in range(0, len(x), width):
        part = x[g:g + width]
        scale = 1 / math.sqrt(sum(v * v for v in part) / width + epsilon)
        out += [v * scale * w for v, w in zip(part, weight[g:g + width])]
    return out


class Layer:
    def __init__(self, config, weight):
        self.c, self.w = config, weight
        self.heads, self.width, self.state = config["num_heads"], config["head_dim"], config["state_size"]
        self.inner, self.groups = self.heads * self.width, config["n_groups"]
        self.channels = self.inner + 2 * self.groups * self.state
        self.tail = [[0.0] * self.channels for _ in range(config["conv_kernel"] - 1)]
        self.h = [[[0.0] * self.state for _ in range(self.width)] for _ in range(self.heads)]

    def convolve(self, raw):
        rows, taps = self.tail + [raw], self.c["conv_kernel"]
        self.tail = rows[1:]
        weight, bias = self.w["mixer.conv1d.weight"], self.w.get("mixer.conv1d.bias")
        return [silu(sum(weight[c * taps + k] * rows[k][c] for k in range(taps)) + (bias[c] if bias else 0))
                for c in range(self.channels)]

    def recur(self, xbc, raw_dt):
        least, most = self.c["time_step_limit"]
        y = []
        for head in range(self.heads):
            at = self.inner + head // (self.heads // self.groups) * self.state
            b, c = xbc[at:at + self.state], xbc[at + self.groups * self.state:][:self.state]
            dt = min(max(softplus(raw_dt[head] + self.w["mixer.dt_bias"][head]), least), most)
            decay = math.exp(-dt * math.exp(self.w["mixer.A_log"][head]))
            for p in range(self.width):
                x, h = xbc[head * self.width + p], self.h[head][p]
                h[:] = [decay * old + dt * x * into for old, into in zip(h, b)]
                y.append(sum(v * out for v, out in zip(h, c)) + self.w["mixer.D"][head] * x)
        return y

    def __call__(self, residual, gated_norm):
        epsilon = self.c["layer_norm_epsilon"]
        u = norm(residual, self.w["norm.weight"], epsilon)
        row = multiply(self.w["mixer.in_proj.weight"], self.w.get("mixer.in_proj.bias"), u)
        z, raw, raw_dt = row[:self.inner], row[self.inner:self.inner + self.channels], row[self.inner + self.channels:]
        y = self.recur(self.convolve(raw), raw_dt)
        groups = 1 if gated_norm == "whole" else self.groups
        if gated_norm != "before-gate":
            y = [v * silu(gate) for v, gate in zip(y, z)]
        y = norm(y, self.w["mixer.norm.weight"], epsilon, groups)
        if gated_norm == "before-gate":
            y = [v * silu(gate) for v, gate in zip(y, z)]
        out = multiply(self.w["mixer.out_proj.weight"], self.w.get("mixer.out_proj.bias"), y)
        return [r + v for r, v in zip(residual, out)]


class Model:
    """A token in, logits of the next one out. tensors: as layouts.read_hf gives them."""

    def __init__(self, config, tensors, gated_norm="grouped"):
        self.weights = {name: numbers(tensor) for name, tensor in tensors.items()}
        self.config, self.gated_norm = config, gated_norm
        self.layers = []
        for i in range(config["num_hidden_layers"]):
            prefix = f"backbone.layers.{i}."
            self.layers.append(Layer(config, {name[len(prefix):]: value for name, value in self.weights.items()
                                              if name.startswith(prefix)}))
        self.embedding = self.weights["backbone.embeddings.weight"]
        self.head = self.embedding if config["tie_word_embeddings"] else self.weights["lm_head.weight"]

    def __call__(self, token):
        hidden = self.config["hidden_size"]
        residual = self.embedding[token * hidden:(token + 1) * hidden]
        for layer in self.layers:
            residual = layer(residual, self.gated_norm)
        return multiply(self.head, None, norm(residual, self.weights["backbone.norm_f.weight"],
                                              self.config["layer_norm_epsilon"]))


def token_nll(config, tensors, tokens, gated_norm="grouped"):
    """Nats of tokens[1:], each given those before it."""
    model = Model(config, tensors, gated_norm)
    found = []
    for token, target in zip(tokens, tokens[1:]):
        logits = model(token)
        most = max(logits)
        found.append(most + math.log(sum(math.exp(v - most) for v in logits)) - logits[target])
    return found


def greedy(config, tensors, prompt, count):
    """The tokens that the model goes on with."""
    model = Model(config, tensors)
    for token in prompt:
        logits = model(token)
    found = []
    for _ in range(count):
        found.append(logits.index(max(logits)))
        logits = model(found[-1])
    return found
