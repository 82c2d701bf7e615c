"""The ways out against real servers: STARTTLS is taken when it is offered, and never given up for clear text."""

from __future__ import annotations

import contextlib
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from consult.notify.channels import DeliveryFailed, FileChannel, Mail, MailChannel
from consult.notify.templates import Letter
from tests import servers

SENDER = "consult@linden.example"
MAIL = Mail(
    id="a" * 32,
    host="linden.example",
    to_name="",
    to_address="maria@example.org",
    from_name="Linden Practice",
    language="en",
    letter=Letter("Subject", "Hello\n", "<p>Hello</p>", ("https://linden.example/join/1#s",)),
    calendar=None,
    date=datetime(2026, 3, 17, 8, tzinfo=UTC),
)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate and key for localhost, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TlsSink:
    """Remembers whether each mail came over TLS."""

    def __init__(self) -> None:
        self.encrypted: list[bool] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.encrypted.append(session.ssl is not None)
        return "250 kept"


@contextlib.contextmanager
def starttls_server(certificate: Path) -> Iterator[tuple[TlsSink, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    sink, port = TlsSink(), servers.free_port()
    controller = Controller(sink, hostname="127.0.0.1", port=port, tls_context=context)
    controller.start()
    try:
        yield sink, port
    finally:
        controller.stop()


async def test_starttls_is_taken_when_it_is_offered(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    with starttls_server(certificate) as (sink, port):
        await MailChannel(f"smtp://localhost:{port}", SENDER, tls_context=trusting).send(MAIL)
    assert sink.encrypted == [True]


async def test_a_certificate_that_is_not_trusted_sends_nothing(certificate: Path) -> None:
    with starttls_server(certificate) as (sink, port), pytest.raises(DeliveryFailed) as caught:
        await MailChannel(f"smtp://localhost:{port}", SENDER).send(MAIL)
    assert not caught.value.permanent
    assert sink.encrypted == []


async def test_nobody_there_is_worth_another_try() -> None:
    for scheme in ("smtp", "smtps"):
        with pytest.raises(DeliveryFailed) as caught:
            await MailChannel(f"{scheme}://127.0.0.1:{servers.free_port()}", SENDER).send(MAIL)
        assert not caught.value.permanent
        assert "example.org" not in caught.value.code


async def test_a_file_is_whole_private_and_the_same_when_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    channel = FileChannel(folder, SENDER)
    await channel.send(MAIL)
    await channel.send(MAIL)
    (path,) = folder.iterdir()
    assert path.name == f"{MAIL.id}.eml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"maria@example.org" in path.read_bytes()


async def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DeliveryFailed):
        await FileChannel(tmp_path / "outbox", SENDER).send(replace(MAIL, id="../escape"))
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_worth_another_try(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file stands here")
    with pytest.raises(DeliveryFailed) as caught:
        await FileChannel(tmp_path / "outbox", SENDER).send(MAIL)
    assert not caught.value.permanent
