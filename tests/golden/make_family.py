#!/usr/bin/env python3
"""Writes family_llama3.gguf, family_lora.gguf, family_qwen2.gguf and family_states.json beside this script.

Two decoders with random weights, as small as can be: a Llama with Llama 3's rotary factors and output rows of its own,
a LoRA adapter for it, and a Qwen2 with biases. The hidden states after every layer come from Hugging Face transformers in float64, which shares
no code with ours: pip install torch transformers gguf
"""

import json
import os

import gguf
import numpy
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPE = dict(
    vocab_size=48,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
LENGTH = 24
RANK, ALPHA = 4, 6.0
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def randomise(model, seed):
    """Weights that F16 holds exactly, so that file and reference have the same ones."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * torch.randn(parameter.shape, generator=generator)
        elif parameter.ndim == 1:
            values = torch.randn(parameter.shape, generator=generator)
        else:
            values = 1.5 * torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5
        parameter.data = values.half().double()


def interleave(rows, heads):
    """As Llama files have it: the two values of a rotary pair side by side instead of half a head apart."""
    size = rows.shape[0] // heads
    return rows.reshape(heads, 2, size // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(model, architecture, path):
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}

    def add(name, tensor):
        values = tensor.detach().numpy()
        writer.add_tensor(name, values.astype(numpy.float32 if values.ndim == 1 else numpy.float16))

    add("token_embd.weight", model.model.embed_tokens.weight)
    add("output_norm.weight", model.model.norm.weight)
    if not config.tie_word_embeddings:
        add("output.weight", model.lm_head.weight)
    for name, parameter in model.model.layers.named_parameters():
        index, part = name.split(".", 1)
        part, kind = part.rsplit(".", 1)
        part = MATRICES[part]
        if architecture == "llama" and part in heads:
            parameter = interleave(parameter, heads[part])
        add(f"blk.{index}.{part}.{kind}", parameter)
    if architecture == "llama":
        size = config.hidden_size // config.num_attention_heads
        plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, size, 2).double() / size)
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        add("rope_freqs.weight", (plain / scaled.double()).float())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def adapt(model, seed, path):
    """Writes an adapter of two matrices a layer, and adds its products to the model's weights."""
    generator = torch.Generator().manual_seed(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for index, layer in enumerate(model.model.layers):
        for part, matrix in [("attn_q", layer.self_attn.q_proj), ("ffn_down", layer.mlp.down_proj)]:
            rows, columns = matrix.weight.shape
            a = (torch.randn(RANK, columns, generator=generator) / columns**0.5).half().double()
            b = torch.randn(rows, RANK, generator=generator).half().double()
            matrix.weight.data += ALPHA / RANK * b @ a
            if part == "attn_q":
                b = interleave(b, model.config.num_attention_heads)
            name = f"blk.{index}.{part}.weight"
            writer.add_tensor(name + ".lora_a", a.numpy().astype(numpy.float16))
            writer.add_tensor(name + ".lora_b", b.numpy().astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def states(model, tokens):
    kept = []
    hooks = [layer.register_forward_hook(lambda _, __, out: kept.append(out)) for layer in model.model.layers]
    with torch.no_grad():
        model.double()(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    return [(out[0] if isinstance(out, tuple) else out).reshape(len(tokens), -1) for out in kept]


def main():
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SHAPE, rms_norm_eps=1e-5, rope_parameters=LLAMA3, tie_word_embeddings=False)
    )
    qwen2 = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            **SHAPE, rms_norm_eps=1e-6, rope_parameters=dict(rope_type="default", rope_theta=1e6), tie_word_embeddings=True
        )
    )
    golden = []

    def keep(seed, model, file, adapter):
        tokens = numpy.random.default_rng(seed).integers(0, SHAPE["vocab_size"], LENGTH).tolist()
        rows = [[round(float(value), 6) for value in out[-1]] for out in states(model, tokens)]
        entry = {"file": file, "adapter": adapter, "tokens": tokens, "last_token_after_layer": rows}
        golden.append(json.dumps(entry, separators=(",", ":")))

    for seed, (name, architecture, model) in enumerate([("llama3", "llama", llama), ("qwen2", "qwen2", qwen2)]):
        randomise(model, seed)
        file = f"family_{name}.gguf"
        write(model, architecture, os.path.join(HERE, file))
        keep(seed, model, file, "")
    adapt(llama, 2, os.path.join(HERE, "family_lora.gguf"))
    keep(2, llama, "family_llama3.gguf", "family_lora.gguf")
    with open(os.path.join(HERE, "family_states.json"), "w") as file:
        file.write("[\n" + ",\n".join(golden) + "\n]\n")


if __name__ == "__main__":
    main()
