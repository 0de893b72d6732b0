"""Selection: which config of a study is written.

paired_ratio  one config's time over another's, with its confidence interval
finalists     the best few and their baselines, measured again, interleaved
select        the winner, from trials' samples or finalists'; by mean or by worst loss (Robust)
"""
