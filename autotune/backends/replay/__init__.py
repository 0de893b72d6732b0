"""A recorded GPU: ``--device replay:FILE``.

recording_format  the file that ``record`` writes: configs of one or more problems, with raw samples
measurer          plays such a file as if its GPU were here
"""
