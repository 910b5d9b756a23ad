"""Files that ask whoever reads them to read another file, or to call somebody; and who notices if it is done."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECRET = "the-secret-of-the-working-folder"
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"


@dataclass(frozen=True)
class Canaries:
    """Sockets on loopback that nobody should speak to. Their ports have four digits, as those in old exploits do."""

    tcp: socket.socket
    udp: socket.socket

    @property
    def tcp_port(self) -> int:
        port: int = self.tcp.getsockname()[1]
        return port

    @property
    def udp_port(self) -> int:
        port: int = self.udp.getsockname()[1]
        return port

    def hits(self) -> int:
        """Connections and datagrams since the last time."""
        count = 0
        for take in (lambda: self.tcp.accept()[0].close(), lambda: self.udp.recv(1)):
            try:
                while True:
                    take()
                    count += 1
            except BlockingIOError:
                continue
        return count


@contextmanager
def canaries() -> Iterator[Canaries]:
    with _bound(socket.SOCK_STREAM) as tcp, _bound(socket.SOCK_DGRAM) as udp:
        tcp.listen()
        yield Canaries(tcp, udp)


def _bound(kind: socket.SocketKind) -> socket.socket:
    for port in range(5100, 9999):
        bound = socket.socket(socket.AF_INET, kind)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            bound.close()
            continue
        bound.setblocking(False)
        return bound
    raise RuntimeError("no port of four digits is free")


def hostile_files(tcp_port: int, udp_port: int, secret: Path) -> dict[str, bytes]:
    """By name, files that name the canaries or `secret`, which lies in the working folder of whoever reads them too."""
    url = f"http://127.0.0.1:{tcp_port}/{secret.name}"
    texts = {
        "relative.ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
        "absolute.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "remote.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "file.m3u8": PLAYLIST.format(f"file://{secret}"),
        "relative.m3u8": PLAYLIST.format(secret.name),
        "http.m3u8": PLAYLIST.format(url),
        "concat.m3u8": PLAYLIST.format(f"concat:{url}|file://{secret}"),
        "key.m3u8": PLAYLIST.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n{secret.name}'),
        "stream.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {udp_port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "manifest.mpd": f'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>{url}</BaseURL></Period></MPD>',
        "file.mpd": f'<?xml version="1.0"?><MPD type="static"><Period><BaseURL>file://{secret}</BaseURL></Period></MPD>',
        "list.asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "redirect.rtsp": f"rtsptext\nrtsp://127.0.0.1:{tcp_port}/x\n",
        "pattern.txt": "image%03d.png\n",
        "device.txt": "/dev/video0\n",
        "graph.txt": f"movie={secret}[out0]\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    for name in ("http.m3u8", "file.m3u8", "relative.ffconcat"):
        files[f"{name}.gab2.avi"] = _avi_with_subtitles(files[name])
    return files


def aimed_at(content: bytes, tcp_port: int, udp_port: int) -> bytes:
    """A file of the corpus with its ports exchanged for those of the canaries."""
    return content.replace(b"127.0.0.1:8000", b"127.0.0.1:%d" % tcp_port).replace(b"video 5004", b"video %d" % udp_port)


def _avi_with_subtitles(subtitles: bytes) -> bytes:
    """An AVI file whose one stream is a GAB2 subtitle: a whole file within a file, once opened by its own demuxer."""
    main_header = struct.pack("<14I", 40_000, 0, 0, 0x10, 1, 0, 1, 0, 320, 240, 0, 0, 0, 0)
    stream_header = b"txts" + bytes(16) + struct.pack("<7I", 1, 25, 0, 1, 0, 0, 0) + bytes(8)
    name = "x".encode("utf-16-le")
    gab2 = b"GAB2\0\2\0" + struct.pack("<I", len(name)) + name + struct.pack("<HI", 4, len(subtitles)) + subtitles
    header = _chunk(b"avih", main_header) + _list(b"strl", _chunk(b"strh", stream_header) + _chunk(b"strf", b""))
    return _riff(b"AVI ", _list(b"hdrl", header) + _list(b"movi", _chunk(b"00tx", gab2)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(kind: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", kind + data)


def _riff(kind: bytes, data: bytes) -> bytes:
    return _chunk(b"RIFF", kind + data)
