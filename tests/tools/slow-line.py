"""A slow line on the loopback address:  slow-line.py PORT TARGET_PORT BYTES_PER_SECOND

What comes to PORT goes to TARGET_PORT, all connections together no faster than that; what comes back is not held up.
"""
import asyncio
import sys

port, target, rate = map(int, sys.argv[1:])
BLOCK = 64 << 10
free_at = 0.0


async def carry(reader, writer, is_slow):
    global free_at
    loop = asyncio.get_running_loop()
    try:
        while block := await reader.read(BLOCK):
            if is_slow:
                free_at = max(free_at, loop.time()) + len(block) / rate
                await asyncio.sleep(free_at - loop.time())
            writer.write(block)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", target)
    await asyncio.gather(carry(reader, there[1], True), carry(there[0], writer, False))


async def main():
    # Little is taken ahead of what the line has carried.
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=BLOCK)
    await server.serve_forever()


asyncio.run(main())
