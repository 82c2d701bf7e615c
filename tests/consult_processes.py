"""Consult as its operator starts it: `consult serve --demo`, or the Procfile's processes, on free ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import servers

ROOT = Path(__file__).parents[1]
CONSULT = str(Path(sys.executable).parent / "consult")


@dataclass
class Served:
    """A running server: `demo` is demo.json, `log` what the processes wrote."""

    base_url: str
    data_dir: Path
    demo: dict[str, Any]
    log: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)


def environment(data_dir: Path, port: int, **more: str) -> dict[str, str]:
    """The environment of a Consult process without what the developer's shell has set for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSULT_")}
    return {
        **kept,
        "CONSULT_PUBLIC_URL": f"http://localhost:{port}",
        "CONSULT_MEDIA_PORT": str(servers.free_port(socket.SOCK_DGRAM)),
        "CONSULT_MEDIA_IP": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def wait_until_ready(base_url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float = 180) -> None:
    """Until /readyz answers 200."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"consult ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=2) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{base_url} is not ready after {deadline_s} s:\n{log.read_text()[-4000:]}")


def start(arguments: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [CONSULT, *arguments], env=dict(environment), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
        )


@contextmanager
def serve_demo(folder: Path, **more_environment: str) -> Iterator[Served]:
    """One process with demo data: `consult serve --demo`."""
    port = servers.free_port()
    base_url = f"http://localhost:{port}"
    data_dir = folder / "data"
    log = folder / "consult.log"
    variables = environment(data_dir, port, **more_environment)
    process = start(["serve", "--port", str(port), "--data", str(data_dir), "--demo"], variables, log)
    try:
        wait_until_ready(base_url, process, log)
        demo = json.loads((data_dir / "demo.json").read_text())
        yield Served(base_url, data_dir, demo, log, variables, {"serve": process})
    finally:
        servers.end(process)


@contextmanager
def production(folder: Path, database_url: str, redis_url: str, **more_environment: str) -> Iterator[Served]:
    """The production shape: web, media, and worker by the Procfile, PostgreSQL and Redis."""
    with _filled(folder, database_url, redis_url, **more_environment) as served:
        with served.log.open("ab") as output:
            honcho = subprocess.Popen(
                [str(Path(CONSULT).with_name("honcho")), "start", "--no-colour"],
                env=served.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        try:
            wait_until_ready(served.base_url, honcho, served.log)
            served.processes["honcho"] = honcho
            yield served
        finally:
            servers.end(honcho)


@contextmanager
def separate_processes(folder: Path, database_url: str, redis_url: str) -> Iterator[Served]:
    """The production shape with each process under the test's own hand, to be killed and started again
    (`start_process`): honcho would stop them all with the first that dies."""
    with _filled(folder, database_url, redis_url) as served:
        try:
            for name in ("media", "web", "worker"):
                start_process(served, name)
            wait_until_ready(served.base_url, served.processes["web"], served.log)
            yield served
        finally:
            for process in served.processes.values():
                servers.end(process)


def start_process(served: Served, name: str) -> None:
    """(Re)start `consult NAME` of a served installation."""
    more = ["--port", served.environment["PORT"]] if name == "web" else []
    served.processes[name] = start([name, *more], served.environment, served.log)


@contextmanager
def _filled(folder: Path, database_url: str, redis_url: str, **more_environment: str) -> Iterator[Served]:
    """The settings of the production shape; a short `consult serve --demo` has filled in the demo data."""
    port = servers.free_port()
    base_url = f"http://localhost:{port}"
    data_dir = folder / "data"
    log = folder / "consult.log"
    variables = environment(data_dir, port, CONSULT_DATABASE_URL=database_url, **more_environment)
    filling = start(["serve", "--port", str(port), "--data", str(data_dir), "--demo"], variables, log)
    try:
        wait_until_ready(base_url, filling, log)
    finally:
        servers.end(filling)
    demo = json.loads((data_dir / "demo.json").read_text())
    variables |= {
        "CONSULT_REDIS_URL": redis_url,
        "CONSULT_KEYS": str(data_dir / "keys.json"),
        "PORT": str(port),
        "PATH": f"{Path(CONSULT).parent}{os.pathsep}{os.environ['PATH']}",
    }
    yield Served(base_url, data_dir, demo, log, variables)
