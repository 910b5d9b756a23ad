"""Decoder workers can do nothing but decode. Runs on Linux with Landlock and libseccomp, as the image has them."""

import asyncio
import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.media.confinement import LAYERS
from app.media.sandbox import DecoderPool
from tests.media.confined import attempts, needs, shut_in_and_try, try_under_landlock, try_under_seccomp


def tried_by(target: Callable[[socket.socket], None], upload: Path) -> Any:
    """What `target` sends from a process of the fork server."""
    ours, theirs = socket.socketpair()
    with ours, upload.open("r+b") as file:
        with theirs:
            process = multiprocessing.get_context("forkserver").Process(target=target, args=(theirs,))
            process.start()
        socket.send_fds(ours, [b"x"], [file.fileno()])
        told = b"".join(iter(lambda: ours.recv(1 << 16), b""))
        process.join()
    return json.loads(told)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(b"0123456789")
    return path


def test_a_worker_can_do_nothing_but_decode(upload: Path) -> None:
    layers, tried = tried_by(shut_in_and_try, upload)
    assert tuple(layers) == LAYERS
    refused, wanted = list(attempts(-1)), list(needs(-1))
    assert {name: tried[name] for name in refused} == dict.fromkeys(refused, "EPERM")
    assert {name: tried[name] for name in wanted} == dict.fromkeys(wanted, "done")
    assert tried["take 2 GB"] == "MemoryError"
    assert upload.read_bytes() == b"0123456789"


def test_landlock_alone_refuses_files_and_tcp(upload: Path) -> None:
    assert set(tried_by(try_under_landlock, upload).values()) == {"EACCES"}


def test_seccomp_alone_refuses_every_attempt(upload: Path) -> None:
    assert tried_by(try_under_seccomp, upload) == dict.fromkeys(attempts(-1), "EPERM")


def test_the_pools_own_workers_are_confined() -> None:
    async def pids() -> None:
        pool = DecoderPool(2)
        await pool.start()
        try:
            assert pool.missing_layers == ()
            for worker in pool._workers:
                process = Path(f"/proc/{worker._process.pid}")
                status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
                assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
                assert str((process / "cwd").readlink()).endswith("(deleted)")
                assert len(os.listdir(process / "fd")) == 4  # noqa: PTH208  stdin, stdout, stderr and its socket
        finally:
            await pool.close()

    asyncio.run(pids())
