"""protocol.js is what the messages say, and JavaScript can read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from signaling import generate, messages


def test_the_file_in_the_tree_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_a_changed_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "protocol.js"
    monkeypatch.setattr(generate, "TARGET", target)
    assert generate.main(["--check"]) == 1
    target.write_text(generate.generate(), "utf-8")
    assert generate.main(["--check"]) == 0
    target.write_text(generate.generate() + "\n", "utf-8")
    assert generate.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert generate.main(["--nonsense"]) == 2


def test_every_message_has_a_typedef_with_all_its_fields() -> None:
    text = generate.generate()
    for kind in [*get_args(messages.ClientMessage), *get_args(messages.ServerMessage)]:
        _, _, rest = text.partition(f" * @typedef {{object}} {kind.__name__}\n")
        block = rest.partition("*/")[0]
        assert f'@property {{"{kind.__struct_config__.tag}"}} type' in block
        for field in kind.__struct_fields__:
            assert f" {field}\n" in block or f" [{field}]\n" in block, (kind, field)


def test_what_the_server_always_writes_is_not_optional() -> None:
    text = generate.generate()
    block = text.partition("@typedef {object} ParticipantInfo\n")[2].partition("*/")[0]
    assert "@property {boolean} microphone" in block
    assert "[microphone]" in text.partition("@typedef {object} Join\n")[2].partition("*/")[0]


def test_javascript_encodes_and_decodes(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node is not None, "the tests need node"
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "protocol.js").write_text(generate.generate(), "utf-8")
    (tmp_path / "run.js").write_text(
        """
        import { decode, encode, HEARTBEAT_MS, PROTOCOL_VERSION } from './protocol.js';
        console.log(JSON.stringify([
          encode({ type: 'ping', n: 3 }),
          decode('{"type":"pong","n":3}'),
          decode('{"type":"from_the_future"}'),
          HEARTBEAT_MS,
          PROTOCOL_VERSION,
        ]));
        """
    )
    output = subprocess.run([node, "run.js"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == ['{"type":"ping","n":3}', {"type": "pong", "n": 3}, None, 2000, 1]
