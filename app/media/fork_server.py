"""What the process has in memory that decoder workers are forked from."""

import gc

from app.media import worker  # noqa: F401

# Of numpy and PyAV, which come with it, nothing will be collected: a worker looks at what its jobs make alone, and
# shares the rest with the others. To look at all of it takes 15 ms, half of what a worker takes to be ready.
gc.collect()
gc.freeze()
