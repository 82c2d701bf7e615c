"""The `consult` command."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from consult.demo import NotEmpty
from consult.errors import Invalid, Refused, SettingsError
from consult.privacy.keys import create_key_file
from consult.settings import Settings, is_loopback
from migrations import upgrade
from web import doctor, logging, serving
from web.administration import create_admin
from web.serving import StartError

EXIT_WRONG_USE = 2  # also: a wrong environment variable
EXIT_FAILED = 1

ENVIRONMENT = """environment (unset: a working local default; wrong: an error at start that names the variable):
  CONSULT_DATABASE_URL   sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME
  CONSULT_REDIS_URL      redis://HOST:PORT, needed by web and media as processes of their own
  CONSULT_PUBLIC_URL     where browsers reach the pages, https://HOST
  CONSULT_MEDIA_PORT     the one UDP port of the relay (40000)
  CONSULT_MEDIA_IP       the addresses announced to browsers, by comma
  CONSULT_SMTP_URL       smtp://USER:PASSWORD@HOST:PORT; without it mails are files under DIR/outbox
  CONSULT_MAIL_FROM      the sender's address
  CONSULT_TURN_URLS      turn:HOST:PORT by comma, with CONSULT_TURN_SECRET
  CONSULT_KEYS           the file with the key-encryption keys (DIR/keys.json)
  CONSULT_METRICS_TOKEN  bearer token of /metrics; without it only this machine may read them"""


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="consult",
        description="Self-hosted video consultations: booking, waiting room, calls.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text, description=text, epilog=ENVIRONMENT, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        added.add_argument("--data", metavar="DIR", type=Path, default=Path("data"), help="data directory (./data)")
        return added

    serve = command("serve", "all roles in one process, with an embedded database under DIR")
    web = command("web", "the pages, the API, and the signaling hub")
    for one in (serve, web):
        one.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        one.add_argument("--port", type=_port, default=8080, help="TCP port to listen on (8080)")
    serve.add_argument(
        "--demo",
        action="count",
        default=0,
        help="fill an empty database with demo data, print the log-ins; given twice also where others can reach them",
    )
    serve.add_argument("--demo-anywhere", action="store_true", help="the second --demo")
    command("media", "one media relay, driven over Redis")
    command("worker", "mail and reminders")
    command("migrate", "bring the database to the newest revision")
    command("doctor", "check the database, Redis, mail, keys, the media port and TURN, with a verdict for each")
    admin = commands.add_parser("admin", help="administrators").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = admin.add_parser(
        "create", help="create an administrator; asks for the password, or reads it from standard input"
    )
    create.add_argument("--email", required=True)
    create.add_argument("--name", default="Administrator")
    create.add_argument("--data", metavar="DIR", type=Path, default=Path("data"), help="data directory (./data)")
    keys = commands.add_parser("keys", help="the key file").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    make = keys.add_parser("create", help="make the key file (CONSULT_KEYS, or DIR/keys.json) unless it exists")
    make.add_argument("--data", metavar="DIR", type=Path, default=Path("data"), help="data directory (./data)")
    return root


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError("expected a port from 1 to 65535")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 1: it failed; 2: wrong use or a wrong environment variable."""
    given = parser().parse_args(arguments)
    # whatever is written (the database, its journal, mails, keys) holds personal data or secrets: the owner's only
    os.umask(0o077)
    logging.configure()
    try:
        return _dispatch(given)
    except SettingsError as error:
        print(f"consult: {error.variable}: {error.expected}", file=sys.stderr)
        return EXIT_WRONG_USE
    except (StartError, NotEmpty) as error:
        print(f"consult: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (SQLAlchemyError, asyncpg.PostgresError) as error:
        # the driver's text can quote the URL with its password
        print(f"consult: CONSULT_DATABASE_URL: the database refused ({type(error).__name__})", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        # a directory that may not be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"consult: {where}{error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def _dispatch(given: argparse.Namespace) -> int:
    host, port = getattr(given, "host", "127.0.0.1"), getattr(given, "port", 8080)
    settings = Settings.from_env(os.environ, data_dir=given.data, host=host, port=port)
    match given.command:
        case "serve":
            if given.demo == 1 and not is_loopback(host) and not given.demo_anywhere:
                print(
                    f"consult: --demo creates log-ins with printed passwords; on {host} others could reach them. "
                    "Say --demo twice (or --demo --demo-anywhere) if you mean it.",
                    file=sys.stderr,
                )
                return EXIT_WRONG_USE
            return _run(serving.run_serve(settings, serving.bind(host, port), with_demo=given.demo > 0, say=_say))
        case "web":
            return _run(serving.run_web(settings, serving.bind(host, port), say=_say))
        case "media":
            return _run(serving.run_media(settings, say=_say))
        case "worker":
            return _run(serving.run_worker_process(settings, say=_say))
        case "migrate":
            given.data.mkdir(parents=True, exist_ok=True)
            with serving.database_needed():
                upgrade(settings.database_url)
            print("The database is at the newest revision.")
        case "doctor":
            return _report(asyncio.run(doctor.examine(settings)))
        case "admin":
            return _create_admin(settings, given.email, given.name)
        case "keys":
            existed = settings.keys_file.exists()
            create_key_file(settings.keys_file)
            print(f"{settings.keys_file} {'exists already; nothing changed' if existed else 'created (mode 0600)'}.")
            print("Keep a copy outside the database's backups: without it nothing personal can be read again.")
    return 0


def _run(role: Coroutine[Any, Any, None]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(role)
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _report(verdicts: Sequence[doctor.Verdict]) -> int:
    marks = {"ok": "ok     ", "note": "note   ", "failed": "FAILED "}
    for verdict in verdicts:
        print(f"{marks[verdict.state]} {verdict.what}: {verdict.text}")
    return EXIT_FAILED if any(verdict.state == "failed" for verdict in verdicts) else 0


def _create_admin(settings: Settings, email: str, name: str) -> int:
    if sys.stdin.isatty():
        password = getpass.getpass("Password (8 characters or more; 15 or more are better): ")
        if getpass.getpass("Again: ") != password:
            print("consult: the two passwords differ", file=sys.stderr)
            return EXIT_FAILED
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        asyncio.run(create_admin(settings, email=email, name=name, password=password))
    except Invalid as error:
        for problem in error.problems:
            print(f"consult: {problem.pointer.removeprefix('/')}: {problem.message}", file=sys.stderr)
        return EXIT_FAILED
    except Refused as error:
        print(f"consult: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    print(f"Administrator created. Sign in at {settings.public_url}/account/sign-in")
    print("The first sign-in sets up the authenticator app.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
