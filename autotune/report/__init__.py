"""The pages, pictures and displays that people see of runs: made from what runs and storages say.

| file or folder | holds |
|---|---|
| terminal | displays of a run and of a recording, tables, the time left |
| dashboard | notes and pictures for optuna-dashboard |
| html | the pages of ``report`` and ``compare``: sections and charts |
| rows | rows of results, studies, files and models, as documents and tables have them |
| run_document | the document of a run |
| layers | the subject of the page: the tuned batch sizes of one layer |
| traffic | gains weighted by the steps that a server ran |
| baseline | what speed-ups are over, where no engine was asked |
| kept | the word for what users have today and nothing beat, and its count |
| comparison | what ``compare`` measured, as rows and CSV files |
| routing_stats | the rows and the picture of ``routing-stats`` |
| style | colours, axes and the file formats of every picture |
"""
