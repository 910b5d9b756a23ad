"""Every real and every broken file at hand, posted to the running service."""

from collections import Counter
from pathlib import Path

import httpx
import pytest

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data"),
]

WITHOUT_VIDEO = {".wav", ".mp3", ".flac", ".ogg", ".aac", ".m4a", ".png", ".jpg", ".bmp"}


ROUTES = [
    "/classify",
    "/predict?surprise=true&end_seconds=20",
    "/features?level=windows",
    "/classify?model=tiny-hearer&timeline=true",
]


def statuses(client: httpx.Client, folder: Path, route: str) -> dict[Path, httpx.Response]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: client.post(route, content=path.read_bytes()) for path in files}


def test_every_clip_with_a_video_is_classified(client: httpx.Client) -> None:
    answers = statuses(client, DATA / "clips", "/classify")
    print(Counter(answer.status_code for answer in answers.values()))  # noqa: T201
    refused = {
        path.name: answer.json()["detail"]
        for path, answer in answers.items()
        if answer.status_code != 200 and path.suffix not in WITHOUT_VIDEO
    }
    print(refused)  # noqa: T201
    assert {answer.status_code for answer in answers.values()} <= {200, 415, 422}
    for name, reason in refused.items():
        known = ("no moving picture", "not supported", "not of a supported kind", "No frame")
        assert any(why in reason for why in known), name


@pytest.mark.parametrize("route", ROUTES[1:])
def test_every_clip_is_answered_or_lacks_what_is_asked_of_it(client: httpx.Client, route: str) -> None:
    answers = statuses(client, DATA / "clips", route)
    print(Counter(answer.status_code for answer in answers.values()))  # noqa: T201
    refused = {path.name: answer.json()["detail"] for path, answer in answers.items() if answer.status_code != 200}
    print(refused)  # noqa: T201
    assert {answer.status_code for answer in answers.values()} <= {200, 415, 422}
    for name, reason in refused.items():
        known = ("no moving picture", "no sound", "not supported", "not of a supported kind", "No frame", "No sound")
        assert any(why in reason for why in known), name


@pytest.mark.parametrize("route", ROUTES)
def test_no_broken_file_is_the_servers_fault(client: httpx.Client, route: str) -> None:
    answers = statuses(client, DATA / "malformed", route)
    print(Counter(answer.status_code for answer in answers.values()))  # noqa: T201
    assert {answer.status_code for answer in answers.values()} <= {200, 400, 415, 422, 504}
    assert client.get("/health/ready").status_code == 200
