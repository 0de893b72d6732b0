"""Model name or path → model shape → the problem of one rank.

shape.py         ModelShape, a model's MoE layers before any of it is split over ranks
load.py          finds a model: a local folder, the catalogue, the Hugging Face cache or Hub
catalogue/       models.jsonl: configs of published models, a line each, so that no network is
                 needed
parse.py         reads a config.json, or the text of --shape, into a ModelShape
fields.py        the names under which each architecture keeps its experts
quantization.py  reads quantization_config: how a checkpoint stores its experts
problems.py      the problem of one rank: splits a shape, and fits --routing to a model
"""
