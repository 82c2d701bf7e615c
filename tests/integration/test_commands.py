"""The `consult` command as an operator meets it: processes, exit codes, files, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import servers
from tests.consult_processes import CONSULT, ROOT, environment, serve_demo, start, wait_until_ready


def consult(*arguments: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSULT_")}
    return subprocess.run(
        [CONSULT, *arguments], input=typed, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**kept, **env}
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONSULT_DATABASE_URL", "mysql://x"),
        ("CONSULT_REDIS_URL", "http://x"),
        ("CONSULT_PUBLIC_URL", "ftp://x"),
        ("CONSULT_MEDIA_PORT", "media"),
        ("CONSULT_MEDIA_IP", "here"),
        ("CONSULT_SMTP_URL", "mail.example"),
        ("CONSULT_TURN_URLS", "example.org"),
        ("CONSULT_METRICS_TOKEN", "short"),
        ("CONSULT_KEYS", "/nonexistent/keys.json"),
    ],
)
def test_a_wrong_variable_stops_the_start_with_its_name(variable: str, value: str, tmp_path: Path) -> None:
    done = consult("serve", "--data", str(tmp_path), "--port", str(servers.free_port()), **{variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"consult: {variable}: expected") or variable in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("CONSULT_DATABASE_URL", "postgresql://me:secret@127.0.0.1:{}/consult"),
        ("CONSULT_REDIS_URL", "redis://127.0.0.1:{}/0"),
    ],
)
def test_a_server_that_does_not_answer_stops_the_start_with_its_variable(
    variable: str, url: str, tmp_path: Path
) -> None:
    where = {variable: url.format(servers.free_port())}
    media = str(servers.free_port(socket.SOCK_DGRAM))
    done = consult(
        "serve", "--data", str(tmp_path), "--port", str(servers.free_port()), CONSULT_MEDIA_PORT=media, **where
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"consult: {variable}: ")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = consult("serve", "--data", str(tmp_path), "--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_media_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = consult(
            "serve",
            "--data",
            str(tmp_path),
            "--port",
            str(servers.free_port()),
            CONSULT_MEDIA_PORT=str(port),
            CONSULT_MEDIA_IP="127.0.0.1",
        )
    assert done.returncode == 1
    assert "CONSULT_MEDIA_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_is_for_this_machine_unless_told_twice(tmp_path: Path) -> None:
    done = consult("serve", "--demo", "--host", "0.0.0.0", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "--demo twice" in done.stderr
    assert not (tmp_path / "demo.json").exists()
    # told twice it goes on, here until it meets a database that is not there
    nowhere = f"postgresql://me@127.0.0.1:{servers.free_port()}/none"
    for twice in (("--demo", "--demo"), ("--demo", "--demo-anywhere")):
        port = str(servers.free_port())
        done = consult(
            "serve", *twice, "--host", "0.0.0.0", "--port", port, "--data", str(tmp_path), CONSULT_DATABASE_URL=nowhere
        )
        assert (done.returncode, "CONSULT_DATABASE_URL" in done.stderr) == (1, True), done.stderr


def test_web_and_media_need_redis(tmp_path: Path) -> None:
    assert consult("migrate", "--data", str(tmp_path)).returncode == 0
    assert consult("keys", "create", "--data", str(tmp_path)).returncode == 0
    for role in (["web", "--port", str(servers.free_port())], ["media"]):
        done = consult(*role, "--data", str(tmp_path), CONSULT_MEDIA_PORT=str(servers.free_port(socket.SOCK_DGRAM)))
        assert done.returncode == 2
        assert "CONSULT_REDIS_URL" in done.stderr


def test_a_database_without_tables_is_not_served(tmp_path: Path) -> None:
    assert consult("keys", "create", "--data", str(tmp_path)).returncode == 0
    done = consult("worker", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "consult migrate" in done.stderr


def test_separate_processes_never_make_keys_of_their_own(tmp_path: Path) -> None:
    assert consult("migrate", "--data", str(tmp_path)).returncode == 0
    done = consult("worker", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "CONSULT_KEYS" in done.stderr
    assert not (tmp_path / "keys.json").exists()


def test_the_first_administrator(tmp_path: Path) -> None:
    arguments = ("admin", "create", "--email", "admin@example.org", "--data", str(tmp_path))
    weak = consult(*arguments, typed="short\n")
    assert weak.returncode == 1
    assert "8 characters" in weak.stderr
    made = consult(*arguments, typed="quiet-harbour-lantern-42\n")
    assert made.returncode == 0, made.stderr
    assert "authenticator" in made.stdout
    again = consult(*arguments, typed="quiet-harbour-lantern-42\n")
    assert again.returncode == 1
    assert "already an account" in again.stderr
    assert "Traceback" not in again.stderr
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_doctor_gives_a_verdict_for_everything(tmp_path: Path) -> None:
    port = str(servers.free_port(socket.SOCK_DGRAM))
    fresh = consult("doctor", "--data", str(tmp_path / "new"), CONSULT_MEDIA_PORT=port)
    assert fresh.returncode == 0, fresh.stdout
    assert not (tmp_path / "new").exists(), "doctor changes nothing"
    for what in ("data directory", "database", "keys", "redis", "mail", "media port", "turn", "metrics"):
        assert f" {what}: " in fresh.stdout
    assert consult("migrate", "--data", str(tmp_path)).returncode == 0
    tmp_path.chmod(0o755)
    proxied = consult(
        "doctor", "--data", str(tmp_path), CONSULT_PUBLIC_URL="https://x.example", CONSULT_MEDIA_PORT=port
    )
    assert "note    data directory" in proxied.stdout
    assert "note    metrics" in proxied.stdout
    closed = servers.free_port()
    ill = consult(
        "doctor",
        "--data",
        str(tmp_path),
        CONSULT_MEDIA_PORT=port,
        CONSULT_REDIS_URL=f"redis://:hidden-password@127.0.0.1:{closed}",
        CONSULT_SMTP_URL=f"smtp://user:hidden-password@127.0.0.1:{closed}",
        CONSULT_TURN_URLS=f"turn:127.0.0.1:{closed}?transport=tcp",
        CONSULT_TURN_SECRET="hidden-password-of-turn",
    )
    assert ill.returncode == 1
    assert [line.split()[0] for line in ill.stdout.splitlines() if line.startswith("FAILED")] == ["FAILED"] * 3
    assert "ok      database" in ill.stdout
    assert "hidden-password" not in ill.stdout + ill.stderr


def test_serve_with_demo_data_starts_twice_and_stops_gracefully(tmp_path: Path) -> None:
    with serve_demo(tmp_path) as served:
        demo_file = served.data_dir / "demo.json"
        assert stat.S_IMODE(demo_file.stat().st_mode) == 0o600
        first = json.loads(demo_file.read_text())
        assert first["base_url"] == served.base_url
        patience = time.monotonic() + 60
        while not list(served.data_dir.glob("outbox/*.eml")):
            assert time.monotonic() < patience, "the worker writes no mail"
            time.sleep(0.1)
        for path in (served.data_dir, *served.data_dir.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, f"others may read {path.name}"
        with urllib.request.urlopen(f"{served.base_url}/healthz") as answer:
            assert answer.status == 200
        output = served.log.read_text()
        for person in (first["admin"], *first["specialists"]):
            assert person["email"] in output
            assert person["totp_secret"] in output
        process = served.processes["serve"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert "Traceback" not in served.log.read_text()
        port = int(served.base_url.rpartition(":")[2])
        again = start(
            ["serve", "--demo", "--port", str(port), "--data", str(served.data_dir)],
            environment(served.data_dir, port),
            served.log,
        )
        try:
            wait_until_ready(served.base_url, again, served.log)
            second = json.loads(demo_file.read_text())
            assert second["admin"] == first["admin"]
        finally:
            servers.end(again)


def test_help_names_every_command_and_variable() -> None:
    text = consult("--help").stdout
    for word in ("serve", "web", "media", "worker", "migrate", "doctor", "admin", "CONSULT_KEYS", "CONSULT_SMTP_URL"):
        assert word in text
    assert subprocess.run([sys.executable, "-m", "web", "serve", "--help"], capture_output=True).returncode == 0
