"""Imported by the fork server alone: what decoder workers need, which they then share with it in memory."""

import gc

from app.media import worker  # noqa: F401 - imported so that it is there

# A collection writes to every object that it looks at, and a worker then has a copy of its page: 5 MB for each.
gc.collect()
gc.freeze()
