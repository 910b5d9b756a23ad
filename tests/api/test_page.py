"""The page at /, in a real browser where there is one: a clip, and a camera."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.api.page import FILES, FOLDER
from tests.browser import CHROMIUM, browsing
from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video
from tests.server import RunningServer

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

LABELS = "[...document.querySelectorAll('#labels li span')].map(item => item.textContent)"
SEGMENTS = "[...document.querySelectorAll('#timeline button')].map(item => item.textContent)"
STATUS = "document.getElementById('status').textContent"


def test_it_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    linked = re.findall(r'(?:src|href)="/web/([^"]+)"', page.text)
    assert linked == ["page.css", "page.js"]
    for name in FILES:
        text = client.get(f"/web/{name}").text
        assert text == (FOLDER / name).read_text()
        assert "//" not in re.sub(r"^\s*//.*| // .*", "", text, flags=re.M)  # no address


@pytest.mark.parametrize("name", ["other.js", "../config.py", "%2e%2e/config.py", "index.html"])
def test_nothing_else_is_there(client: httpx.Client, name: str) -> None:
    assert client.get(f"/web/{name}").status_code == 404


@needs_browser
def test_a_clip_in_the_browser(server: RunningServer, tmp_path: Path) -> None:
    clip = tmp_path / "clip.webm"
    write_video(clip, coloured_frames("green", "red", seconds=3.0), RATE, "libvpx", options={"cpu-used": "8"})
    with browsing(tmp_path / "profile") as browser:
        browser.go(server.url)
        browser.wait_for("document.getElementById('model').options.length > 0")
        browser.evaluate("document.getElementById('model').value = 'tiny-rate'")
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS}.includes('of video in')")
        assert browser.evaluate(SEGMENTS) == ["green", "red"]
        assert set(browser.evaluate(LABELS)) == {"red", "green", "blue"}
        browser.evaluate("document.querySelector('#timeline button:nth-of-type(2)').click()")
        assert browser.wait_for("document.getElementById('video').currentTime") == pytest.approx(3.0, abs=0.5)
        (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
        browser.choose_file("#file", tmp_path / "no.mp4")
        browser.wait_for(f"{STATUS}.includes('Unsupported media')")
        assert all("415" in complaint for complaint in browser.complaints)


@needs_browser
def test_a_clip_in_words(server: RunningServer, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", coloured_frames("red", "green", seconds=3.0), RATE)
    with browsing(tmp_path / "profile") as browser:
        browser.go(server.url)
        browser.wait_for("document.getElementById('model').options.length > 0")
        assert browser.evaluate("document.getElementById('model').value") == "tiny"
        browser.evaluate("document.getElementById('model').value = 'tiny-writer'")
        browser.evaluate("document.getElementById('model').dispatchEvent(new Event('change'))")
        assert browser.evaluate("document.getElementById('camera').disabled")
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS}.includes('of video in')")
        assert browser.evaluate(SEGMENTS) == ["A red film.", "A green film."]
        assert browser.evaluate(LABELS)[0].startswith("A red film")
        assert browser.complaints == []


@needs_browser
def test_a_camera_in_the_browser(server: RunningServer, tmp_path: Path) -> None:
    """Chromium sends its camera, which shows a file, through the page to /stream."""
    camera = tmp_path / "camera.mjpeg"
    frames = np.repeat(coloured_frames("blue", seconds=1.0, width=320, height=240), 3, axis=0)
    write_video(camera, frames, 30, "mjpeg", container="mjpeg", pixels="yuvj420p")
    with browsing(tmp_path / "profile", camera) as browser:
        browser.go(server.url)
        browser.wait_for("document.getElementById('model').options.length > 0")
        browser.evaluate("document.getElementById('model').value = 'tiny-rate'")
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait_for(f"{SEGMENTS}.length && {STATUS}.startsWith('Live')")
        assert browser.evaluate(SEGMENTS) == ["blue"]
        assert browser.evaluate(LABELS)[0] == "blue"
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait_for(f"{STATUS} === 'The camera is off.'")
        assert browser.evaluate("document.getElementById('video').srcObject") is None
        assert browser.complaints == []
    with server.client() as client:
        assert 'afterframe_stream_ends_total{code="1000"}' in client.get("/metrics").text
