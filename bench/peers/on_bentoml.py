"""BentoML: a worker per core."""

from pathlib import Path

import bentoml

from bench.peers.handler import NUM_WORKERS, Handler


@bentoml.service(workers=NUM_WORKERS, traffic={"timeout": 600, "max_concurrency": 64})
class Classify:
    """POST /classify with a form whose field `file` is the video."""

    def __init__(self) -> None:
        self.handler = Handler()

    @bentoml.api
    def classify(self, file: Path) -> list[float]:
        return self.handler.scores(file.read_bytes())
