"""What an installed engine itself makes of a checkpoint: its own code is asked for a file's name.

Importing an engine takes a GPU's packages and up to half a minute, so the few functions that decide
are taken out of its files and run by themselves. Our rules remain what is tuned by: the answer is
only held against them, and a version whose functions have moved costs one line.

    asking.py    finds an engine's code, and holds our name of a problem against its name
    question.py  Question: a checkpoint and how it is served; RefusalError, what the engine raises
    pieces.py    takes functions, and the parts of constructors, out of files, and runs them
    vllm.py      the pieces of vLLM that decide, in their order, and its classes with experts
    sglang.py    SGLang's
"""
