"""A worker in a process of its own, for tests that kill it: `python -m tests.integration.worker_process JSON`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from consult.db import Database
from consult.notify.channels import Channel, FileChannel, MailChannel
from consult.notify.worker import run_worker
from consult.privacy.keys import read_key_file
from consult.privacy.vault import Vault

SENDER = "consult@linden.example"


async def work(options: dict[str, str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database(options["database_url"])
    channel: Channel
    if "smtp_url" in options:
        channel = MailChannel(options["smtp_url"], SENDER)
    else:
        channel = FileChannel(Path(options["outbox"]), SENDER)
    await run_worker(
        database,
        Vault(read_key_file(Path(options["keys"]))),
        channel,
        lambda: datetime.now(UTC),
        stop,
        public_url="https://linden.example",
        translator=lambda _language: str,
        poll_s=0.1,
        lease=timedelta(seconds=float(options["lease_s"])),
    )
    await database.close()


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
