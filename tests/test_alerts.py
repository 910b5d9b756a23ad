"""The alerts of deploy/prometheus are about metrics that there are."""

import re
from pathlib import Path

import yaml

from tests.server import read_answer, running_server

PROMETHEUS = Path(__file__).parents[1] / "deploy/prometheus"
SELECTOR = re.compile(r"(afterframe_\w+)(?:\{(.*?)\})?")


def alerts() -> list[dict]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def test_alerts_are_about_what_a_service_tells(store: Path, red_video: Path) -> None:
    with running_server(store, models="tiny", decoder_jobs_per_worker=1) as server, server.client() as client:
        # Prometheus sees no increase in a series that begins with more than nothing.
        assert server.metrics()['afterframe_decoder_worker_restarts_total{reason="crashed"}'] == 0
        assert client.post("/classify", content=red_video.read_bytes()).status_code == 200
        with server.connect() as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: here\r\nContent-Length: 999999999999\r\n\r\n")
            assert read_answer(connection)[0] == 413
        server.wait_for_metric('afterframe_decoder_worker_restarts_total{reason="recycled"}', 1)
        told = [SELECTOR.fullmatch(line) for line in server.metrics() if line.startswith("afterframe_")]
    labels = {match[1]: set(re.findall(r'(\w+)="', match[2] or "")) for match in told if match}

    for alert in alerts():
        for name, matchers in SELECTOR.findall(alert["expr"]):
            assert set(re.findall(r'(\w+)(?:=|!=|=~|!~)"', matchers)) <= labels[name], alert["alert"]
        assert alert["annotations"].keys() == {"summary", "description"}
