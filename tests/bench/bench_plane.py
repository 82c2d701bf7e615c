"""What forwarding costs: CPU time of a process that runs nothing but the packet plane, per packet it
forwards.

Real UDP on loopback, real SRTP (AES-256-GCM, as browsers negotiate it) on both ends. The load comes from this
process, whose own CPU time does not count; the plane runs in a process of its own under uvloop, with the
timers it has in production. The load is spread evenly (about 18 packets a millisecond), which is harder than
bursts: fewer datagrams are read per wake. Compare: Janus 1.1.2 49 µs at the same load, the prototype of this
relay 62 µs.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import selectors
import socket
import time
from multiprocessing.connection import Connection
from typing import TypedDict

from pylibsrtp import Policy, Session

from media import packets
from media.plane import ForwardSpec, HeaderExtensions, SrtpKeys, TrackSpec

PROFILE = 0x0008
WARM_UP_S = 1.0
MEASURE_S = 5.0
VIDEO_PER_SECOND, AUDIO_PER_SECOND = 410, 50
VIDEO_BYTES, AUDIO_BYTES = 1100, 90
SAMPLE = 64  # one packet in so many is decrypted for its latency
IDS = HeaderExtensions(mid=1, transport_cc=4)
SUBSCRIBER_IDS = HeaderExtensions(mid=9, transport_cc=3)
TRACKS = (
    TrackSpec("video", "VP8", 90_000, 96, 97, IDS, True),
    TrackSpec("audio", "opus", 48_000, 111, None, IDS, True),
)


class Figure(TypedDict):
    name: str
    value: float
    unit: str


class _Report(TypedDict):
    cpu_s: float
    forwarded: int
    dropped: dict[str, int]
    memory_mb: float


def _serve(pipe: Connection, keys: list[SrtpKeys], addresses: list[tuple[str, int]], viewers: int) -> None:
    """The plane's process. Transport 0…n-1 publish; then come `viewers` subscribers per publisher."""
    import asyncio

    import uvloop

    from media.python_plane import PythonPlane

    _stay_on(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        relay.bind(("127.0.0.1", 0))
        plane = PythonPlane([relay], time.monotonic)
        publishers = len(keys) // (1 + viewers)
        for transport, (key, address) in enumerate(zip(keys, addresses, strict=True)):
            plane.add_transport(transport, key, IDS if transport < publishers else SUBSCRIBER_IDS)
            plane.set_address(transport, address)
        for publisher in range(publishers):
            for kind, spec in enumerate(TRACKS):
                track = publisher * 2 + kind
                plane.add_track(publisher, track, spec)
                plane.bind_ssrc(publisher, 1000 + track, track)
                for viewer in range(viewers):
                    transport = publishers + publisher * viewers + viewer
                    rtx = None if kind else 3000 + track
                    forward = ForwardSpec(
                        2000 + track, rtx, spec.payload_type, spec.rtx_payload_type, str(kind), SUBSCRIBER_IDS
                    )
                    plane.add_forward(track * viewers + viewer, transport, track, forward)

        def readable() -> None:
            plane.read_ready(0)
            plane.drain()

        loop.add_reader(relay, readable)
        stop = asyncio.Event()
        began: list[float] = []

        def command() -> None:
            word = pipe.recv()
            if word == "begin":
                began[:] = [time.process_time(), plane.counters.forwarded]
                return
            report: _Report = {
                "cpu_s": time.process_time() - began[0],
                "forwarded": plane.counters.forwarded - int(began[1]),
                "dropped": plane.counters.dropped,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            pipe.send(report)
            stop.set()

        loop.add_reader(pipe.fileno(), command)
        pipe.send(relay.getsockname())
        while not stop.is_set():
            plane.tick(time.monotonic())
            plane.drain()
            await asyncio.sleep(0.02)
        loop.remove_reader(relay)
        relay.close()

    uvloop.run(main())


def _stay_on(index: int) -> None:
    """Keep the load and the plane on different cores, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[index]})


class _Load:
    """The browsers: who sends what next, and what came back."""

    def __init__(self, publishers: int, viewers: int) -> None:
        self.publishers = publishers
        count = publishers * (1 + viewers)
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        self.keys: list[SrtpKeys] = []
        self.outbound: list[Session] = []
        self.inbound: list[Session] = []
        code = Policy.SRTP_PROFILE_AEAD_AES_256_GCM
        for each in self.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
            mine, theirs = os.urandom(44), os.urandom(44)
            self.keys.append(SrtpKeys(PROFILE, mine, theirs))
            self.outbound.append(Session(Policy(mine, Policy.SSRC_ANY_OUTBOUND, 0, code)))
            self.inbound.append(Session(Policy(theirs, Policy.SSRC_ANY_INBOUND, 0, code)))
        self.selector = selectors.DefaultSelector()
        for index, each in enumerate(self.sockets[publishers:], publishers):
            self.selector.register(each, selectors.EVENT_READ, index)
        self.sequence = [[0, 0] for _ in range(publishers)]
        self.transport_sequence = [0] * publishers
        self.sent = 0
        self.received = 0
        self.latencies_ms: list[float] = []
        # VP8 with a 15-bit picture id; the lowest bit of the byte behind it is 0 on a key frame
        self.video_body = b"\x90\x80\x85\x01\x01" + bytes(VIDEO_BYTES - 5 - 8)
        self.key_frame_body = b"\x90\x80\x85\x01\x00" + bytes(VIDEO_BYTES - 5 - 8)
        self.audio_body = bytes(AUDIO_BYTES - 8)

    def send(self, turn: int, relay: tuple[str, int]) -> None:
        publisher = turn % self.publishers
        step = turn // self.publishers % (VIDEO_PER_SECOND + AUDIO_PER_SECOND)
        audio = step * AUDIO_PER_SECOND % (VIDEO_PER_SECOND + AUDIO_PER_SECOND) < AUDIO_PER_SECOND
        number = self.sequence[publisher][audio]
        self.sequence[publisher][audio] = number + 1
        body = self.audio_body if audio else self.video_body if number % 410 else self.key_frame_body
        transport_sequence = self.transport_sequence[publisher]
        self.transport_sequence[publisher] = (transport_sequence + 1) & 0xFFFF
        plain = (
            packets.HEADER.pack(0x90, 111 if audio else 96, number & 0xFFFF, number * 220, 1000 + publisher * 2 + audio)
            + b"\xbe\xde\0\1\x41"
            + transport_sequence.to_bytes(2, "big")
            + b"\0"
            + body
            + time.perf_counter_ns().to_bytes(8, "big")
        )
        self.sockets[publisher].sendto(self.outbound[publisher].protect(plain), relay)
        self.sent += 1

    def receive(self, wait_s: float) -> None:
        for key, _ in self.selector.select(wait_s):
            each = self.sockets[key.data]
            while True:
                try:
                    data = each.recv(2048)
                except BlockingIOError:
                    break
                self.received += 1
                if data[3] % SAMPLE == 0:
                    now = time.perf_counter_ns()
                    plain = self.inbound[key.data].unprotect(data)
                    self.latencies_ms.append((now - int.from_bytes(plain[-8:], "big")) / 1e6)

    def run(self, relay: tuple[str, int], seconds: float, turn: int) -> int:
        per_second = self.publishers * (VIDEO_PER_SECOND + AUDIO_PER_SECOND)
        begin = time.perf_counter()
        first = turn
        while (elapsed := time.perf_counter() - begin) < seconds:
            due = first + int(elapsed * per_second)
            while turn < due:
                self.send(turn, relay)
                turn += 1
            self.receive(0.001)
        return turn

    def close(self) -> None:
        self.selector.close()
        for each in self.sockets:
            each.close()


def _measure(publishers: int, viewers: int) -> tuple[_Report, _Load]:
    load = _Load(publishers, viewers)
    ours, theirs = multiprocessing.Pipe()
    addresses = [each.getsockname() for each in load.sockets]
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, load.keys, addresses, viewers), daemon=True
    )
    process.start()
    everywhere = os.sched_getaffinity(0)
    _stay_on(0)
    try:
        if not ours.poll(30):
            raise TimeoutError("the plane's process did not start")
        relay = ours.recv()
        turn = load.run(relay, WARM_UP_S, 0)
        ours.send("begin")
        load.sent = load.received = 0
        load.latencies_ms.clear()
        load.run(relay, MEASURE_S, turn)
        load.receive(0.05)
        ours.send("end")
        if not ours.poll(30):
            raise TimeoutError("the plane's process did not report")
        report: _Report = ours.recv()
        process.join(10)
    finally:
        if process.is_alive():
            process.terminate()
        load.close()
        os.sched_setaffinity(0, everywhere)
    # Premise: nothing was refused. On a busy machine the kernel drops packets before the plane sees them, which
    # `plane_packets_lost` tells; the CPU per forwarded packet holds all the same.
    if report["dropped"] or report["forwarded"] < 0.5 * load.sent * viewers:
        raise RuntimeError(
            f"too busy a machine: {load.sent} sent, {report['forwarded']} forwarded, dropped: {report['dropped']}"
        )
    return report, load


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run() -> list[Figure]:
    """CPU per forwarded packet at 20 one-to-one calls of 460 packets/s each way and at 1→3; latency;
    memory."""
    calls, load = _measure(40, 1)
    fan_out, _ = _measure(10, 3)
    return [
        {
            "name": "plane_cpu_per_forwarded_packet_1_to_1",
            "value": round(calls["cpu_s"] / calls["forwarded"] * 1e6, 1),
            "unit": "µs",
        },
        {
            "name": "plane_cpu_per_forwarded_packet_1_to_3",
            "value": round(fan_out["cpu_s"] / fan_out["forwarded"] * 1e6, 1),
            "unit": "µs",
        },
        {
            "name": "plane_forwarded_packets_per_second",
            "value": round(calls["forwarded"] / MEASURE_S),
            "unit": "packets/s",
        },
        {
            "name": "plane_latency_p50",
            "value": round(_quantile(load.latencies_ms, 0.5), 3),
            "unit": "ms",
        },
        {
            "name": "plane_latency_p99",
            "value": round(_quantile(load.latencies_ms, 0.99), 3),
            "unit": "ms",
        },
        {
            "name": "plane_packets_lost",
            "value": round(max(0.0, 1 - calls["forwarded"] / load.sent) * 100, 2),
            "unit": "%",
        },
        {"name": "plane_memory_20_calls", "value": round(calls["memory_mb"], 1), "unit": "MB"},
    ]


if __name__ == "__main__":
    import json

    for figure in run():
        print(json.dumps(figure))
