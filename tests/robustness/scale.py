"""How much of everything `make test-robustness` does; each can be set in the environment."""

import os

SEED = int(os.environ.get("SEED", "0"))
HTTP_MUTATIONS = int(os.environ.get("HTTP_MUTATIONS", "10000"))
WORKER_MUTATIONS = int(os.environ.get("WORKER_MUTATIONS", "100000"))
KILLS = int(os.environ.get("KILLS", "100"))
FLIPS = int(os.environ.get("FLIPS", "300"))
