"""How much of everything `make test-robustness` does; each can be set in the environment."""

import os

SEED = int(os.environ.get("SEED", "0"))
HTTP_MUTATIONS = int(os.environ.get("HTTP_MUTATIONS", "10000"))
WORKER_MUTATIONS = int(os.environ.get("WORKER_MUTATIONS", "100000"))
KILLS = int(os.environ.get("KILLS", "100"))
FLIPS = int(os.environ.get("FLIPS", "300"))
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
LEVEL_SECONDS = float(os.environ.get("LEVEL_SECONDS", "10"))
"""How long each level of load lasts, of which there are several, three times each."""
SHUTDOWNS = int(os.environ.get("SHUTDOWNS", "20"))
DISCONNECTS = int(os.environ.get("DISCONNECTS", "100"))
SLOW_CLIENTS = int(os.environ.get("SLOW_CLIENTS", "1000"))
SCHEMA_EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "200"))
