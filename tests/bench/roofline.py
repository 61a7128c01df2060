"""What a forward pass must compute, and how long that takes a processor at its measured peak."""


def operations(shape, prefix, candidates, depth=None):
    """Multiplications and additions of the matrices and of attention, with the prefix computed once and shared. In the
    last layer that runs, only last tokens are computed past keys and values."""
    depth = depth or shape["layers"]
    width, heads = shape["width"], shape["heads"] * shape["head_size"]
    key_values = 2 * width * 2 * shape["key_heads"] * shape["head_size"]
    rest = 2 * 2 * width * heads + 3 * 2 * width * shape["hidden"]

    tokens = prefix + sum(candidates)
    seen = prefix * (prefix + 1) // 2 + sum(n * prefix + n * (n + 1) // 2 for n in candidates)
    linear = (depth - 1) * tokens * (key_values + rest) + tokens * key_values + len(candidates) * rest
    attention = 4 * heads * ((depth - 1) * seen + sum(prefix + n for n in candidates))
    return linear, attention


def least_seconds(mode, instructions, peak, linear, attention):
    """None where the peak of the numbers that a mode computes in was not measured. bf16 is multiplied by whatever does
    it fastest: bfloat16, or 16-bit integers. Attention of bf16 and int8 is int16 on AVX-512."""
    if instructions == "avx512":
        floats, shorts, bytes = peak["f32"], peak["int16"], peak["int8"]
        halves = max(shorts or 0, peak["bf16"] or 0)
    else:
        floats = halves = shorts = peak["f32_avx2"] if instructions == "avx2" else None
        bytes = None
    linear_peak = {"f32": floats, "bf16": halves, "int8": bytes}[mode]
    attention_peak = floats if mode == "f32" else shorts
    if not linear_peak or not attention_peak:
        return None
    return linear / linear_peak + attention / attention_peak
