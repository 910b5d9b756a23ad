"""Hundreds of clients that send next to nothing, in a process of their own. Each that is ended comes again."""

import asyncio
import contextlib
import sys

HEAD = b"POST /classify HTTP/1.1\r\nHost: here\r\n"
KINDS = {
    "idle": (b"", b""),
    "header": (HEAD, b"X-Drop: a\r\n"),
    "body": (HEAD + b"Content-Length: 100000000\r\n\r\n", b"a"),
    "form": (HEAD + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000000\r\n\r\n--x\r\n", b"a"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}
DROP_SECONDS = 1.0


async def drip(host: str, port: int, begin: bytes, drop: bytes) -> None:
    """One client, for ever."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(begin)
            while not writer.is_closing():
                await asyncio.sleep(DROP_SECONDS)
                writer.write(drop)
                await writer.drain()
        await asyncio.sleep(DROP_SECONDS)


async def main(host: str, port: int, count: int) -> None:
    kinds = list(KINDS.values())
    await asyncio.gather(*(drip(host, port, *kinds[number % len(kinds)]) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
