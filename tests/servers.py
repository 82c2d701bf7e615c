"""Real servers for tests, each on a free loopback port in a directory of its own, ended by process id."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None, deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port} after {deadline_s} s")


def end(process: subprocess.Popen[bytes], deadline_s: float = 15) -> None:
    """SIGTERM, and SIGKILL if it does not go."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_program(name: str, *folders: str) -> str:
    for folder in folders:
        for candidate in sorted(Path("/").glob(folder.lstrip("/") + "/" + name), reverse=True):
            return str(candidate)
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run `make test`, it installs what the tests need")
    return found


def _as_user(user: str, command: Sequence[str]) -> list[str]:
    # PostgreSQL refuses to run as root
    return ["runuser", "-u", user, "--", *command] if os.geteuid() == 0 else list(command)


def _wait_until_ready(pg_isready: Path, port: int, deadline_s: float = 30) -> None:
    """The port is open some time before the server takes connections."""
    end = time.monotonic() + deadline_s
    command = [str(pg_isready), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(command, check=False).returncode != 0:
        if time.monotonic() > end:
            raise TimeoutError(f"PostgreSQL on port {port} is not ready after {deadline_s} s")
        time.sleep(0.05)


@contextmanager
def postgres() -> Iterator[str]:
    """Yields postgresql://postgres@127.0.0.1:PORT (no database name) of a new cluster."""
    initdb = find_program("initdb", "/usr/lib/postgresql/*/bin")
    server = find_program("postgres", "/usr/lib/postgresql/*/bin")
    folder = Path(tempfile.mkdtemp(prefix="consult-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    subprocess.run(
        _as_user(
            "postgres",
            [
                initdb,
                "-D",
                str(data),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-N",
            ],
        ),
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    port = free_port()
    options = [
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-h",
        "127.0.0.1",
        "-F",
        "-c",
        "max_connections=200",
    ]
    process = subprocess.Popen(
        _as_user("postgres", [server, *options]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        wait_for_port(port, process)
        _wait_until_ready(Path(server).with_name("pg_isready"), port)
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server(port: int | None = None) -> Iterator[str]:
    """Yields redis://127.0.0.1:PORT."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="consult-redis-") as folder:
        process = subprocess.Popen(
            [
                find_program("redis-server"),
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port, process)
            yield f"redis://127.0.0.1:{port}"
        finally:
            end(process)


@contextmanager
def turn_server(secret: str) -> Iterator[int]:
    """coturn on loopback with REST credentials; yields its port (UDP and TCP)."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="consult-turn-") as folder:
        process = subprocess.Popen(
            [
                find_program("turnserver"), "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1",
                f"--listening-port={port}", "--use-auth-secret", f"--static-auth-secret={secret}", "--realm=consult",
                "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", f"--userdb={folder}/turn.db",
                f"--pidfile={folder}/turn.pid", "--log-file=stdout", "--min-port=49160", "--max-port=49960",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for_port(port, process)
            yield port
        finally:
            end(process)
