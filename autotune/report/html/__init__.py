"""The pages of ``report`` and ``compare``: one file each without scripts, that loads nothing.

| file | holds |
|---|---|
| page | the page of ``report`` and its PNG files |
| provider_page | the page of ``compare``: kernels side by side |
| templates | what every page looks like, in jinja2's language, and its style sheet |
| templating | the templates, filled |
| layer_section | the section of one layer: results and settings |
| nearest_keys | the loss of a batch size that is left out of the engine file |
| result_charts | charts of times, speed-ups and shares of the roofline |
| search_charts | charts of convergence, outcomes, time spent, and of which parameter decides |
| comparisons | the sections of two storages side by side, and of routings |
| roofline | the least time that a GPU's stated ceilings allow |
"""
