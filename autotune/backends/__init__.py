"""Backends say how long a config takes: a GPU, a model of a GPU, or a recording of one.

    protocol.py       Measurer, the seam that all three implement, and MeasurerOptions
    selectors.py      opens the measurer that a selector names: cuda:0, estimate:NVIDIA_H200, …
    gpu/              measures on a real GPU, over providers: our kernels, the engines', PyTorch's
    estimate/         compiles for a GPU that is not there, and models the time
    replay/           plays recorded times
    binaries.py       the compiles that a config needs, ours or an engine's, as data
    detect.py         finds GPUs without torch and without a CUDA context
    nvidia.py         what NVIDIA's driver says of GPUs, clocks and processes
    hardware.py       figures of known GPUs, from gpus.json
    stand_in.py       whose kernel is measured for an engine, and whether ours is a proven stand-in,
                      from stand_in.json
    compile_cache.py  the compiler's answers on disk, shared by processes; BinaryCompiler, which
                      asks it there first; and Footprints of them
    routed_rows.py    rows and padded blocks of each expert under a routing
    host_facts.py     versions of installed packages, driver and clocks of this machine

Importing the package, or any file here but those in gpu/, imports neither torch nor triton.
"""
