"""Times side by side, without tuning and without a storage.

bench.py         configs, engine files or the engines' defaults, for ``bench``
config_files.py  engine files against each other, with a verdict by more than the noise
compare.py       providers against each other, for ``compare``
variants.py      the lines of ``compare``: a provider, and the source of its configs
"""
