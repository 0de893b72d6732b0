"""Triton kernels of the MoE layer, and all that compiles, launches, verifies and times them.

    gemm.py            the grouped GEMM, up and down: the kernel whose launch config is tuned
    activation.py      the activation between the GEMMs, and the sum of each token's slots after
    align.py           sorts slots by expert, padded to BLOCK_SIZE_M
    quantize.py        quantises tensors as checkpoints and engines do; types of what is stored
    launch.py          from operands, a problem and a config to the GEMM's arguments
    moe.py             the whole layer
    inputs.py          tensors of a layer, drawn by a seed
    reference.py       the reference implementation, in plain PyTorch
    verify.py          compares an output with the reference
    compile.py         compiles the GEMM for any target, without a GPU
    timing.py          timers and clocks: the L2 emptied before each call, rests, interleaving

Nothing here knows Optuna.
"""
