"""LitServe: a worker per core, without batches, since decoding takes most of the time and cannot be batched."""

import sys

import litserve

from bench.peers.handler import NUM_WORKERS, Handler


class Api(litserve.LitAPI):
    """POST /classify with a form whose field `file` is the video."""

    def setup(self, device: str) -> None:
        self.handler = Handler()

    def decode_request(self, request) -> bytes:  # with a type, LitServe would parse it as one
        video: bytes = request["file"].file.read()
        return video

    def predict(self, video: bytes) -> list[float]:
        return self.handler.scores(video)

    def encode_response(self, scores: list[float]) -> list[float]:
        return scores


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(api_path="/classify"), accelerator="cpu", workers_per_device=NUM_WORKERS, timeout=600, fast_queue=True
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
