"""mosec: a worker per core takes the raw body; it decodes and runs the model itself, so that no frames travel."""

from mosec import Server, Worker

from bench.peers.handler import NUM_WORKERS, Handler


class Classify(Worker):
    """POST /inference with the video as the body."""

    def __init__(self) -> None:
        self.handler = Handler()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> list[float]:
        return self.handler.scores(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classify, num=NUM_WORKERS, timeout=600)
    server.run()
