"""A TCP proxy that delays the connection to a database: `python -m benchmarks.delay PORT MILLISECONDS HOST HOST_PORT`.

MILLISECONDS is the round-trip time. HOST is a host name or the folder of a Unix socket, as in libpq.
"""

import asyncio
import selectors
import sys


async def main(port: int, milliseconds: float, host: str, host_port: int) -> None:
    one_way, loop = milliseconds / 2000, asyncio.get_running_loop()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 18):
            loop.call_later(one_way, writer.write, data)  # not sleep, which would also delay the reading of the next data
        loop.call_later(one_way, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host.startswith("/"):
            far_reader, far_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{host_port}")
        else:
            far_reader, far_writer = await asyncio.open_connection(host, host_port)
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    await (await asyncio.start_server(accept, "127.0.0.1", port)).serve_forever()


if __name__ == "__main__":
    # select() waits with microsecond precision. epoll rounds up to the next millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
