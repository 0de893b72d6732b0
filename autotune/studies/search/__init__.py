"""Search: which config of a space is measured next, and when a measurement is given up.

samplers        the samplers that ``--sampler`` offers
batch_sampler   the Protocol of a sampler that proposes several configs at once
surrogate/      our own sampler: a model of log time over the feasible set
unseen_sampler  Optuna's samplers, kept inside the space and from repeating
pair_sampler    any of these on each half of a pair
history         sibling studies to learn from
pruning         the paired test that ends a hopeless measurement
"""
