"""The page at /, in a real browser where there is one: a clip, and a camera."""

import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.api.keys import make_key
from app.api.page import FILES, FOLDER
from tests.browser import CHROMIUM, Browser, browsing
from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video
from tests.server import RunningServer, running_server

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

LABELS = "[...document.querySelectorAll('#labels li span:first-child')].map(item => item.textContent)"
SEGMENTS = "[...document.querySelectorAll('#timeline button')].map(item => item.textContent)"
STATUS = "document.getElementById('status').textContent"
CAMERA = "document.getElementById('camera')"
HINT = "document.getElementById('camera-hint').textContent"
SHOWN = "!document.getElementById('result').hidden"


def test_it_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    linked = re.findall(r'(?:src|href)="web/([^"]+)"', page.text)
    assert linked == ["page.css", "page.js"]
    from_the_root = re.compile(r"[\"'`]/[^/]")  # behind a proxy the page may be further down
    assert not from_the_root.search(page.text)
    for name in FILES:
        text = client.get(f"/web/{name}").text
        assert text == (FOLDER / name).read_text()
        assert not from_the_root.search(text)
        assert not re.search(r"//\S", re.sub(r"^\s*//.*| // .*", "", text, flags=re.M))  # no address


@pytest.mark.parametrize("path", ["/", *(f"/web/{name}" for name in FILES)])
def test_who_has_it_is_told_so(client: httpx.Client, path: str) -> None:
    whole = client.get(path)
    had = client.get(path, headers={"if-none-match": whole.headers["etag"]})
    assert (had.status_code, had.content) == (304, b"")
    kept = ("etag", "cache-control", "content-security-policy")
    assert [had.headers[name] for name in kept] == [whole.headers[name] for name in kept]
    assert had.headers.get("permissions-policy") == whole.headers.get("permissions-policy")
    assert client.get(path, headers={"if-none-match": '"another"'}).content == whole.content


@pytest.mark.parametrize("part", ["bytes=0-9", "bytes=5-2", "bytes=99999999-", "bytes=x", "lines=1-2"])
def test_whoever_asks_for_a_part_has_it_whole(client: httpx.Client, part: str) -> None:
    answer = client.get("/web/page.js", headers={"range": part})
    assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "none")
    assert answer.text == (FOLDER / "page.js").read_text()


@pytest.mark.parametrize("name", ["other.js", "../config.py", "%2e%2e/config.py", "index.html"])
def test_nothing_else_is_there(client: httpx.Client, name: str) -> None:
    assert client.get(f"/web/{name}").status_code == 404


def write_camera(folder: Path) -> Path:
    """What a camera shows that sees blue."""
    frames = np.repeat(coloured_frames("blue", seconds=1.0, width=320, height=240), 3, axis=0)
    return write_video(folder / "camera.mjpeg", frames, 30, "mjpeg", container="mjpeg", pixels="yuvj420p")


def go(browser: Browser, server: RunningServer, model: str) -> None:
    """Opens the page and chooses `model`."""
    browser.go(server.url)
    browser.wait_for("document.getElementById('model').options.length > 0")
    choose_model(browser, model)


def choose_model(browser: Browser, name: str) -> None:
    browser.evaluate(f"document.getElementById('model').value = '{name}'")
    browser.evaluate("document.getElementById('model').dispatchEvent(new Event('change'))")


def drop_text(name: str) -> str:
    """What drops a file that is no video."""
    dropped = f"dataTransfer.items.add(new File(['no video'.repeat(99)], '{name}'))"
    sent = "document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer }))"
    return f"{{ const dataTransfer = new DataTransfer(); {dropped}; {sent} }}"


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
        assert not browser.evaluate(SHOWN)
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
    camera = write_camera(tmp_path)
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


@needs_browser
def test_a_camera_goes_with_the_model(server: RunningServer, tmp_path: Path) -> None:
    """Another one goes on from what the camera shows; one that cannot answer live ends it, and cannot be started."""
    look = f"['color', 'borderStyle', 'cursor'].map(name => getComputedStyle({CAMERA})[name])"
    with browsing(tmp_path / "profile", write_camera(tmp_path)) as browser:
        go(browser, server, "tiny-rate")
        enabled = browser.evaluate(look)
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(f"/^Live: .* by tiny-rate/.test({STATUS})")
        assert browser.evaluate("document.querySelector('#result output, #result [aria-live]') === null")
        choose_model(browser, "tiny")
        browser.wait_for(f"/^Live: .* by tiny/.test({STATUS})")
        assert browser.evaluate(f"{CAMERA}.innerText") == "Stop the camera"
        for model in ("tiny-listener", "tiny-writer"):
            choose_model(browser, model)
            assert browser.evaluate(STATUS) == "The camera is off."
            assert browser.evaluate("document.getElementById('video').srcObject") is None
            assert browser.evaluate(f"{CAMERA}.disabled")
            assert browser.evaluate(HINT) == "This model cannot answer live."
        browser.wait_for("document.getAnimations().length === 0")  # the colour changes in steps
        disabled = browser.evaluate(look)
        assert all(one != other for one, other in zip(enabled, disabled, strict=True))
        choose_model(browser, "tiny-rate")
        assert not browser.evaluate(f"{CAMERA}.disabled")
        assert browser.evaluate(HINT) == ""
        assert browser.complaints == []


@needs_browser
def test_one_clip_for_several_models(server: RunningServer, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", coloured_frames("red", "green", seconds=3.0), RATE)
    with browsing(tmp_path / "profile") as browser:
        go(browser, server, "tiny-rate")
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS}.endsWith('by tiny-rate.')")
        choose_model(browser, "tiny-writer")
        browser.wait_for(f"{STATUS}.endsWith('by tiny-writer.')")
        assert browser.evaluate(SEGMENTS) == ["A red film.", "A green film."]
        browser.evaluate("document.getElementById('model').value = 'tiny-rate'")
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS}.endsWith('by tiny-rate.')")
        assert browser.evaluate(SEGMENTS) == ["red", "green"]
        assert browser.complaints == []


@needs_browser
def test_a_sound_is_for_models_that_listen(server: RunningServer, tmp_path: Path) -> None:
    accepted = "document.getElementById('file').accept.split(',')"
    with browsing(tmp_path / "profile") as browser:
        go(browser, server, "tiny-rate")
        assert "audio/*" not in browser.evaluate(accepted)
        choose_model(browser, "tiny-listener")
        assert {"audio/*", "video/*", ".mxf"} <= set(browser.evaluate(accepted))
        browser.choose_file("#file", write_sound(tmp_path / "sound.wav", sine(2.0, 8000), 8000))
        browser.wait_for(f"/of sound in .* by tiny-listener/.test({STATUS})")
        choose_model(browser, "tiny-rate")
        assert browser.evaluate(STATUS) == "sound.wav is a sound, and tiny-rate looks at pictures."
        assert not browser.evaluate(SHOWN)
        choose_model(browser, "tiny-hearer")
        browser.wait_for(f"/of sound in .* by tiny-hearer/.test({STATUS})")
        assert browser.evaluate(SHOWN)
        assert browser.complaints == []


@needs_browser
def test_what_was_chosen_last_is_shown(server: RunningServer, tmp_path: Path) -> None:
    """A camera, a clip, another clip: each ends what was before it, and is not disturbed by its end."""
    first = write_video(tmp_path / "first.mp4", coloured_frames("red", seconds=3.0), RATE)
    second = write_video(tmp_path / "second.mp4", coloured_frames("green", seconds=3.0), RATE)
    with browsing(tmp_path / "profile", write_camera(tmp_path)) as browser:
        go(browser, server, "tiny-rate")
        browser.evaluate("{ window.signals = []; const ask = fetch; window.ask = ask; }")
        browser.evaluate("window.fetch = (url, options) => { signals.push(options.signal); return ask(url, options); }")
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(f"{STATUS}.startsWith('Live')")
        browser.evaluate("window.track = document.getElementById('video').srcObject.getTracks()[0]; 0")
        with server.workers_stopped():  # the first clip is not answered before the second one is there
            browser.choose_file("#file", first)
            browser.wait_for("track.readyState === 'ended'")
            time.sleep(0.5)  # for the stream to be closed too
            assert browser.evaluate(STATUS) != "The camera is off."
            assert browser.evaluate(f"{CAMERA}.innerText") == "Start the camera"
            browser.choose_file("#file", second)
            assert browser.wait_for("signals.length === 2 && signals.map(signal => signal.aborted)") == [True, False]
        browser.wait_for(f"{STATUS}.includes('of video in')")
        assert browser.evaluate(SEGMENTS) == ["green"]
        assert browser.complaints == []


@needs_browser
@pytest.mark.parametrize("has_camera", [True, False])
def test_a_clip_while_the_camera_is_asked_for(server: RunningServer, tmp_path: Path, has_camera: bool) -> None:
    """The camera, once it is there or known not to be, does not take the place of what was chosen meanwhile."""
    with browsing(tmp_path / "profile", write_camera(tmp_path) if has_camera else None) as browser:
        go(browser, server, "tiny-rate")
        browser.evaluate("window.WebSocket = class { constructor() { window.isStreaming = true; } }")
        browser.evaluate(
            "{ const { mediaDevices } = navigator; const ask = mediaDevices.getUserMedia.bind(mediaDevices);"
            "mediaDevices.getUserMedia = (wanted) => window.asked = ask(wanted); }"
        )
        browser.evaluate(f"{CAMERA}.click(); {drop_text('no.mp4')}")
        off = "camera.getTracks().every(track => track.readyState === 'ended')"
        browser.wait_for(f"asked.then(camera => {off}, () => true)")
        browser.wait_for(f"{STATUS}.includes('Unsupported media')")
        assert browser.evaluate(f"{CAMERA}.innerText") == "Start the camera"
        assert browser.evaluate("window.isStreaming === undefined")
        assert all("415" in complaint for complaint in browser.complaints)


@needs_browser
def test_no_camera_where_browsers_allow_none(server: RunningServer, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile") as browser:
        go(browser, server, "tiny-rate")
        browser.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")  # as on http://
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(f"{STATUS} === 'Browsers allow the camera only on https:// and localhost.'")
        assert browser.evaluate(f"{CAMERA}.innerText") == "Start the camera"
        assert not browser.evaluate(SHOWN)
        assert browser.complaints == []


@needs_browser
def test_the_key_comes_first(store: Path, tmp_path: Path) -> None:
    key, entry = make_key("lab")
    (tmp_path / "keys.toml").write_text(entry)
    clip = write_video(tmp_path / "clip.mp4", coloured_frames("red", seconds=3.0), RATE)
    settings = {"api_keys_file": tmp_path / "keys.toml", "models": "tiny-rate", "decoder_workers": 1}
    enabled = "['file', 'camera'].map(name => !document.getElementById(name).disabled)"
    camera = write_camera(tmp_path)
    with running_server(store, **settings) as server, browsing(tmp_path / "profile", camera) as browser:
        browser.go(server.url)
        browser.wait_for(f"{STATUS} === 'Enter the API key first.'")
        assert browser.evaluate(enabled) == [False, False]
        browser.evaluate(drop_text("no.mp4"))
        assert browser.evaluate(STATUS) == "Enter the API key first."
        assert not browser.evaluate(SHOWN)
        browser.evaluate(f"document.getElementById('api-key').value = '{key} '")  # as it is copied
        browser.evaluate("document.getElementById('api-key').dispatchEvent(new Event('change'))")
        browser.wait_for("document.getElementById('model').options.length > 0")
        assert browser.evaluate(enabled) == [True, True]
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS}.includes('of video in')")
        assert browser.evaluate(SEGMENTS) == ["red"]
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(f"{STATUS}.startsWith('Live')")
        assert all("401" in complaint for complaint in browser.complaints)


@needs_browser
def test_what_cannot_be_asked_is_told_in_words(store: Path, tmp_path: Path) -> None:
    """A service that is gone, a proxy's own page, no camera."""
    clip = write_video(tmp_path / "clip.mp4", coloured_frames("red", seconds=3.0), RATE)
    with (
        running_server(store, models="tiny-rate", decoder_workers=1) as server,
        browsing(tmp_path / "profile") as browser,
    ):
        go(browser, server, "tiny-rate")
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(f"{STATUS} === 'There is no camera, or it may not be used.'")
        browser.evaluate("window.ask = fetch; window.fetch = async () => new Response('<h1>', { status: 502 }); 0")
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS} === 'The service answered with status 502.'")
        browser.evaluate("window.fetch = ask; 0")
        server.stop()
        browser.choose_file("#file", clip)
        browser.wait_for(f"{STATUS} === 'The service cannot be reached, or the clip not be read.'")
        assert not browser.evaluate(SHOWN)


@needs_browser
def test_why_a_live_stream_has_ended(store: Path, tmp_path: Path) -> None:
    """The camera has been unplugged, or the service has gone without a word."""
    live = f"{STATUS}.startsWith('Live')"
    with (
        running_server(store, models="tiny-rate", decoder_workers=1) as server,
        browsing(tmp_path / "profile", write_camera(tmp_path)) as browser,
    ):
        go(browser, server, "tiny-rate")
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(live)
        track = "document.getElementById('video').srcObject.getTracks()[0]"
        browser.evaluate(f"{{ const track = {track}; track.stop(); track.dispatchEvent(new Event('ended')) }}")
        browser.wait_for(f"{STATUS} === 'The camera is off.'")
        browser.evaluate(f"{CAMERA}.click()")
        browser.wait_for(live)
        server.process.kill()
        browser.wait_for(f"{STATUS} === 'The service cannot be reached any more.'")
        assert browser.evaluate(f"{CAMERA}.innerText") == "Start the camera"


@needs_browser
def test_a_clip_that_the_browser_cannot_play(server: RunningServer, tmp_path: Path) -> None:
    """It is judged all the same, and shows no player that plays nothing; the next one does."""
    stage = "document.getElementById('stage').hidden"
    with browsing(tmp_path / "profile") as browser:
        go(browser, server, "tiny-rate")
        frames = coloured_frames("red", seconds=3.0)
        browser.choose_file("#file", write_video(tmp_path / "clip.avi", frames, RATE, "mpeg4", container="avi"))
        browser.wait_for(f"{STATUS}.includes('of video in')")
        browser.wait_for(stage)
        assert browser.evaluate(SHOWN)
        browser.choose_file("#file", write_video(tmp_path / "clip.mp4", frames, RATE))
        browser.wait_for("document.getElementById('video').duration")
        assert not browser.evaluate(stage)
        assert not browser.evaluate("document.getElementById('video').muted")


@needs_browser
def test_a_segment_is_as_wide_as_it_is_long(server: RunningServer, tmp_path: Path) -> None:
    """A cut is a moment, and no other one lies below it."""
    with browsing(tmp_path / "profile") as browser:
        browser.go(server.url)
        cuts = "[0, 5, 300].map(at => ({ label: 'cut', start_seconds: at, end_seconds: at + 0.083, score: 1 }))"
        show = f"document.getElementById('result').hidden = false; new Timeline(root, () => 0).show({cuts}, 0, 600)"
        width = "[...root.children].map(item => item.offsetWidth).slice(0, 3)"
        root = "const root = document.getElementById('timeline')"
        widths = browser.evaluate(
            f"import('/web/timeline.js').then(({{ Timeline }}) => {{ {root}; {show}; return {width} }})"
        )
        assert all(2 <= width <= 5 for width in widths), widths
