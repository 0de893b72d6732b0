"""Measuring on a real GPU: one measurer over providers, which compute the layer.

    measurer.py       GpuMeasurer: compile, verify, time, and the outcome
    provider_measurers.py
                      several of them on one testbed, for ``compare``
    launches.py       an engine's launches, held back: written down, compiled, read as a config
    testbed.py        the GPU or CPU that a process has taken, its facts, clock and timers
    tensor_cache.py   weights, inputs and layers, kept as long as there is room; what is given up
                      when memory runs out
    device_errors.py  which errors leave the process whole
    providers/        our kernels, the engines' and PyTorch's

Importing the package imports no torch; its files do, but for providers/.
"""
