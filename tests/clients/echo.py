"""A client of the echo example, on asyncio streams. Knows nothing of coring.

usage: echo.py MODE PORT

many        1,000 connections at once, several messages each, sizes from 1 B up
sizes       messages of 1 B to 1 MiB on a few connections
half-close  sends all, ends its side, reads the echo to the end
reset       abrupt resets: before a byte, between two, and in the middle of a megabyte
"""

import asyncio
import random
import socket
import struct
import sys

LIMIT = 1 << 21


async def round_trip(reader, writer, message):
    """Writes and reads at the same time: a large echo comes while we still send."""

    async def send():
        writer.write(message)
        await writer.drain()

    _, back = await asyncio.gather(send(), reader.readexactly(len(message)))
    assert back == message, f"{len(message)} bytes came back changed"


async def close(reader, writer):
    writer.write_eof()
    assert await reader.read() == b"", "the server ends after we did"
    writer.close()
    await writer.wait_closed()


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)


async def many(port):
    connections = await asyncio.gather(*(connect(port) for _ in range(1000)))
    for round in range(3):
        messages = [random.randbytes(1 + (index * 7 + round) % 5000) for index in range(1000)]
        await asyncio.gather(*(round_trip(*c, m) for c, m in zip(connections, messages)))
    await asyncio.gather(*(close(*c) for c in connections))
    return 1000


async def sizes(port):
    async def one():
        connection = await connect(port)
        for size in [1, 2, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 65537, 300_001, 1 << 20]:
            await round_trip(*connection, random.randbytes(size))
        await close(*connection)

    await asyncio.gather(*(one() for _ in range(4)))
    return 4


async def half_close(port):
    async def one(size):
        reader, writer = await connect(port)
        message = random.randbytes(size)

        async def send():
            writer.write(message)
            await writer.drain()
            writer.write_eof()

        _, back = await asyncio.gather(send(), reader.read(-1))
        assert back == message, "all of it, and then the end"
        writer.close()

    await asyncio.gather(*(one(1 + index * 5000) for index in range(100)))
    return 100


async def reset(port):
    async def one(index):
        reader, writer = await connect(port)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if index % 3 == 1:
            await round_trip(reader, writer, b"hello")
        if index % 3 == 2:
            writer.write(random.randbytes(1 << 20))
            await reader.readexactly(1000)
        writer.transport.abort()

    await asyncio.gather(*(one(index) for index in range(300)))
    # The server lives, and is as good as before.
    connection = await connect(port)
    await round_trip(*connection, b"still there")
    await close(*connection)
    return 301


def main():
    mode, port = sys.argv[1], int(sys.argv[2])
    modes = {"many": many, "sizes": sizes, "half-close": half_close, "reset": reset}
    print("connections:", asyncio.run(asyncio.wait_for(modes[mode](port), 50)))


main()
