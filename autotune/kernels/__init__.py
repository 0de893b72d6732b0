"""Triton kernels of the MoE layer, and all that compiles, launches, verifies and times them.

    gemm.py            the grouped GEMM, up and down: the kernel whose launch config is tuned
    activation.py      SiLU-and-multiply between the GEMMs, quantising where the down GEMM needs it
    align.py           sorts slots by expert, padded to BLOCK_SIZE_M
    reduce.py          sums each token's slots
    quantize.py        quantises tensors as checkpoints and engines do
    launch.py          from operands, a problem and a config to the GEMM's arguments
    moe.py             the whole layer
    inputs.py          tensors of a layer, drawn by a seed
    reference.py       the reference implementation, in plain PyTorch
    verify.py          compares an output with the reference
    compile.py         compiles the GEMM for any target, without a GPU
    timing.py          timers and clocks
    storage_dtypes.py  a Dtype in PyTorch's words
    stderr_capture.py  keeps the compiler's dumps off the terminal

Nothing here knows Optuna.
"""
