"""Problems, configs and devices: pure values that everything else speaks in.

    problem.py      Problem, the MoE layer of one rank for one batch size
    config.py       Config and ConfigPair: the launch parameters that are tuned
    device.py       Device and Target: where times come from, and what is compiled for
    binary.py       the binary that a config needs, named by binary_key
    limits.py       rules for what a device cannot run; the shared memory that a config needs
    occupancy.py    the table of SMs, and the blocks that one of them holds
    measurement.py  Measurement in µs, Resources, CompileFailure
    ranges.py       ranges of the numbers that enter by flags, stored settings and files
    arrays.py       types of numpy arrays

Nothing here imports torch, triton or Optuna.
"""
