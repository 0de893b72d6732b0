"""Compiles ahead of the GPU: a config's way is client, pipe, pool with its queue, compile process.

client.py        a worker's end: items that wait until their configs are compiled
ahead.py         the whole way for commands that wait for it: ``bench``, ``compare``, ``record``
pool.py          the parent's handle of the pool
pool_process.py  the pool's process: serves the clients, keeps compile processes at work, and kills
                 those that take too long
queue.py         what to compile next and who waits for it; knows no processes
first_builds.py  what an engine has built at its first call: not Triton's, and not in the pool
process.py       one compile process: what it runs under the operating system's limits, its handle
"""
