"""A media process for drills that kill it: python -m tests.integration.media_process REDIS_URL NODE"""

from __future__ import annotations

import asyncio
import sys

from media.relay import start
from media.settings import RelaySettings
from signaling.redis_directory import RedisDirectory, connect
from signaling.remote_relay import RelayServer


async def main(redis_url: str, node: str) -> None:
    relay = await start(RelaySettings(port=0, announced_ips=("127.0.0.1",)))
    directory = RedisDirectory(connect(redis_url), node, kind="media")
    RelayServer(directory, relay)
    await directory.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
