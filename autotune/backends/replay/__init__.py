"""A recorded GPU: ``--device replay:FILE``.

recording_format.py  the file that ``record`` writes: configs of problems, with raw samples
measurer.py          plays such a file as if its GPU were here
"""
