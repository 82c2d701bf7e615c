"""SDP: what is taken from browsers, what the relay says, and that hostile input has one error only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st

from media import negotiation, sdp
from media.api import RelayError, Track
from media.negotiation import Local, Slot
from media.plane import HeaderExtensions
from tests.unit.media.mutations import mutated

FOLDER = Path(__file__).parent / "sdp"
CHROMIUM = (FOLDER / "chromium_publish.sdp").read_text()
CHROMIUM_RECEIVE = (FOLDER / "chromium_receive.sdp").read_text()
FIREFOX = (FOLDER / "firefox_publish.sdp").read_text()
FIREFOX_ANSWER = (FOLDER / "firefox_answer.sdp").read_text()
LOCAL = Local(
    ufrag="relayuf1",
    password="relaypassword0123456789a",
    fingerprint=":".join(["AB"] * 32),
    candidates=(("192.0.2.50", 40000), ("2001:db8::50", 40000)),
    session_id=42,
    version=1,
)
CAMERA = Track(id="t1", participant="anna", kind="video", source="camera", codec="VP8")
MICROPHONE = Track(id="t2", participant="anna", kind="audio", source="microphone", codec="opus")


def answer_to(offer: str) -> str:
    description = sdp.parse(offer)
    _, accepted = negotiation.accept_publish(description)
    return negotiation.publish_answer(description, accepted, LOCAL, 1500)


def refusal(take: Callable[[str], object], text: str) -> str | None:
    """The code of the RelayError, None when the text was taken. Any other exception is a failure."""
    try:
        take(text)
    except RelayError as error:
        return error.code
    return None


def section_lines(text: str, index: int) -> list[str]:
    """The lines of one m-section."""
    return text.split("\r\nm=")[index + 1].split("\r\n")


def device_offer(video: str, setup: str) -> str:
    """`video`: the payload types in order, 102 H.264 and 96 VP8."""
    names = {"102": "H264/90000", "96": "VP8/90000"}
    common = [
        "c=IN IP4 0.0.0.0",
        f"a=setup:{setup}",
        "a=ice-ufrag:user",
        "a=ice-pwd:passwordpasswordpassword",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=sendonly",
    ]
    return "\r\n".join(
        [
            "v=0",
            "o=- 1234567 0 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            "a=ice-options:trickle",
            "a=group:BUNDLE audio0 video1",
            "m=audio 9 UDP/TLS/RTP/SAVPF 97",
            *common,
            "a=mid:audio0",
            "a=rtpmap:97 OPUS/48000/2",
            f"m=video 9 UDP/TLS/RTP/SAVPF {video}",
            *common,
            "a=x-video",
            "a=mid:video1",
            *(f"a=rtpmap:{number} {names[number]}" for number in video.split()),
            "",
        ]
    )


class TestPublish:
    def test_chromium_offers_what_the_relay_needs(self) -> None:
        peer, (audio, video) = negotiation.accept_publish(sdp.parse(CHROMIUM))
        assert peer.ufrag
        assert peer.fingerprints[0][0] == "sha-256"
        assert (audio.kind, audio.spec.codec, audio.spec.payload_type) == ("audio", "opus", 111)
        assert (video.spec.codec, video.spec.payload_type, video.spec.rtx_payload_type) == ("VP8", 96, 97)
        assert video.ssrc is not None
        assert video.rtx_ssrc is not None
        assert audio.rtx_ssrc is None
        assert audio.spec.extensions.mid == video.spec.extensions.mid == 4
        assert video.spec.extensions.transport_cc == 3
        assert video.spec.extensions.abs_send_time == 0
        assert video.spec.extensions.video_orientation == 0, "offered (13) and left: Firefox would not turn the picture"
        assert "urn:3gpp:video-orientation" in CHROMIUM
        assert "urn:3gpp:video-orientation" not in answer_to(CHROMIUM)

    def test_firefox_has_other_payload_types_and_a_bundle_only_section(self) -> None:
        peer, (audio, video) = negotiation.accept_publish(sdp.parse(FIREFOX))
        assert peer.fingerprints[0][1].startswith("26:A1")  # from the session level
        assert (audio.spec.payload_type, video.spec.payload_type, video.spec.rtx_payload_type) == (109, 120, 124)
        assert (video.ssrc, video.rtx_ssrc) == (4275005326, 103900446)
        assert audio.spec.extensions.transport_cc == video.spec.extensions.transport_cc == 7

    @pytest.mark.parametrize("offer", [CHROMIUM, FIREFOX])
    def test_the_answer_is_read_by_another_implementation(self, offer: str) -> None:
        parsed = SessionDescription.parse(answer_to(offer))
        offered = sdp.parse(offer)
        assert [one.kind for one in parsed.media] == [one.kind for one in offered.sections]
        for media in parsed.media[:2]:
            assert media.ice is not None
            assert media.dtls is not None
            assert media.ice.iceLite
            assert media.dtls.role == "server"
            assert media.direction == "recvonly"
            assert media.ice_candidates_complete
            assert {one.ip for one in media.ice_candidates} == {"192.0.2.50", "2001:db8::50"}
        assert [one.port for one in parsed.media[2:]] == [0] * (len(parsed.media) - 2)

    def test_the_answer_carries_exactly_what_was_agreed(self) -> None:
        answer = answer_to(CHROMIUM)
        assert "a=ice-lite" in answer
        assert "a=extmap-allow-mixed" in answer
        assert "a=group:BUNDLE 0 1\r\n" in answer
        audio, video, data = (section_lines(answer, index) for index in range(3))
        assert "a=rtcp-fb:111 nack" in audio
        assert "a=rtcp-fb:111 transport-cc" in audio
        assert "a=fmtp:111 minptime=10;useinbandfec=1" in audio
        assert video[0] == "video 40000 UDP/TLS/RTP/SAVPF 96 97"
        assert {one for one in video if one.startswith("a=rtcp-fb")} == {
            "a=rtcp-fb:96 transport-cc",
            "a=rtcp-fb:96 ccm fir",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
        }
        assert "a=fmtp:96 x-google-start-bitrate=1500" in video
        assert "a=fmtp:97 apt=96" in video
        for needed in ("a=setup:passive", "a=rtcp-mux", "a=rtcp-rsize", "a=recvonly", "a=mid:1"):
            assert needed in video
        assert not any("abs-send-time" in one or "goog-remb" in one for one in audio + video)
        assert data[0] == "application 0 UDP/DTLS/SCTP webrtc-datachannel"

    def test_a_section_that_stopped_sending_stays_as_inactive(self) -> None:
        offer = CHROMIUM.replace("a=sendonly", "a=inactive", 1)
        _, accepted = negotiation.accept_publish(sdp.parse(offer))
        assert [one.sending for one in accepted] == [False, True]
        assert "a=inactive" in section_lines(answer_to(offer), 0)

    def test_a_rejected_first_section_leaves_the_bundle_to_the_next(self) -> None:
        offer = CHROMIUM.replace("m=audio 57441", "m=audio 0").replace("BUNDLE 0 1 2", "BUNDLE 1")
        answer = answer_to(offer)
        assert section_lines(answer, 0)[0].startswith("audio 0 ")
        assert "a=group:BUNDLE 1\r\n" in answer

    @pytest.mark.parametrize(
        ("why", "change"),
        [
            ("no bundle", lambda text: text.replace("a=group:BUNDLE 0 1 2\n", "")),
            ("no credentials", lambda text: text.replace("a=ice-ufrag:", "a=x-ufrag:")),
            ("no password", lambda text: text.replace("a=ice-pwd:", "a=x-pwd:")),
            ("no fingerprint", lambda text: text.replace("a=fingerprint:", "a=x-fingerprint:")),
            ("only SHA-1", lambda text: text.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1")),
            ("short digest", lambda text: text.replace("sha-256 ", "sha-256 00:")),
            ("the peer as the server", lambda text: text.replace("setup:actpass", "setup:passive")),
            ("no rtcp-mux", lambda text: text.replace("a=rtcp-mux\n", "")),
            ("no known codec", lambda text: text.replace("VP8/", "XP8/").replace("opus/", "supo/")),
            ("plain RTP", lambda text: text.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")),
            ("a mid twice", lambda text: text.replace("a=mid:1", "a=mid:0")),
            ("no mid", lambda text: text.replace("a=mid:1\n", "")),
            ("an SSRC twice", lambda text: text.replace("1363767384", "1840038624")),
            ("no session", lambda text: text.replace("o=-", "x=-")),
            ("not SDP", lambda text: "hello"),
            ("empty", lambda text: ""),
            ("a huge number", lambda text: text.replace("m=audio 57441", "m=audio 99999999")),
            ("a payload type of 128", lambda text: text.replace("SAVPF 111", "SAVPF 128 111")),
        ],
    )
    def test_what_cannot_be_used_is_named(self, why: str, change: Callable[[str], str]) -> None:
        changed = change(CHROMIUM)
        assert changed != CHROMIUM, why
        with pytest.raises(RelayError) as caught:
            answer_to(changed)
        assert caught.value.code == "bad_sdp"

    def test_payload_types_that_look_like_rtcp_are_passed_over(self) -> None:
        moved = CHROMIUM.replace("SAVPF 96 97", "SAVPF 72 97").replace("rtpmap:96 VP8", "rtpmap:72 VP8")
        with pytest.raises(RelayError, match="video is offered without VP8"):
            negotiation.accept_publish(sdp.parse(moved))
        moved = CHROMIUM.replace("SAVPF 96 97", "SAVPF 96 73").replace(":97 rtx", ":73 rtx")
        moved = moved.replace("fmtp:97 apt=96", "fmtp:73 apt=96")
        _, (_, video) = negotiation.accept_publish(sdp.parse(moved))
        assert (video.spec.rtx_payload_type, video.rtx_ssrc) == (None, None)

    @pytest.mark.parametrize("setup", ["actpass", "active"])
    def test_a_device_that_prefers_h264_gets_vp8(self, setup: str) -> None:
        """What GStreamer's whipclientsink and libdatachannel write: few attributes, H.264 first, no SSRCs, no mid
        extension, no candidates."""
        offer = device_offer("102 96", setup)
        peer, (audio, video) = negotiation.accept_publish(sdp.parse(offer))
        assert peer.ufrag == "user"
        assert (audio.mid, audio.ssrc, audio.sending) == ("audio0", None, True)
        assert (video.spec.payload_type, video.spec.rtx_payload_type, video.ssrc) == (96, None, None)
        assert video.spec.extensions == HeaderExtensions()
        answer = answer_to(offer)
        lines = section_lines(answer, 1)
        assert lines[0].startswith("video ")
        assert lines[0].endswith(" UDP/TLS/RTP/SAVPF 96")
        assert {"a=recvonly", "a=setup:passive", "a=rtpmap:96 VP8/90000"} <= set(lines)
        assert "a=group:BUNDLE audio0 video1" in answer

    def test_a_device_without_vp8_is_told_so(self) -> None:
        for offer in (device_offer("102", "actpass"), device_offer("96", "actpass").replace("OPUS", "PCMU")):
            with pytest.raises(RelayError, match="VP8 and Opus are needed") as caught:
                answer_to(offer)
            assert caught.value.code == "bad_sdp"

    def test_a_section_that_only_receives_may_have_any_codec(self) -> None:
        offer = device_offer("102", "actpass").replace("a=sendonly\r\na=x-video", "a=recvonly\r\na=x-video")
        assert section_lines(answer_to(offer), 1)[0].startswith("video 0 ")

    def test_only_the_own_ice_bundle_counts(self) -> None:
        """A section outside the group is refused, the others go on."""
        answer = answer_to(CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 1 2"))
        assert section_lines(answer, 0)[0].startswith("audio 0 ")


class TestSubscribe:
    def slots(self) -> list[Slot]:
        return [
            Slot("0", "audio", MICROPHONE, ssrc=1001, rtx_ssrc=1002),
            Slot("1", "video", CAMERA, ssrc=2001, rtx_ssrc=2002),
            Slot("2", "video", None),
        ]

    def test_the_offer_is_read_by_another_implementation(self) -> None:
        parsed = SessionDescription.parse(negotiation.subscribe_offer(self.slots(), LOCAL))
        assert [(one.kind, one.direction) for one in parsed.media] == [
            ("audio", "sendonly"),
            ("video", "sendonly"),
            ("video", "inactive"),
        ]
        assert parsed.media[1].msid == "anna t1"
        assert [one.ssrc for one in parsed.media[1].ssrc] == [2001, 2002]
        assert [one.cname for one in parsed.media[1].ssrc] == ["anna", "anna"]
        assert parsed.media[1].ssrc_group[0].items == [2001, 2002]
        assert parsed.media[0].dtls is not None
        assert parsed.media[0].dtls.role == "auto"  # actpass
        assert parsed.media[2].ssrc == []

    def answer(self) -> str:
        """A browser's answer, made from the relay's offer."""
        offer = negotiation.subscribe_offer(self.slots(), LOCAL)
        kept = [
            line.replace("setup:actpass", "setup:active").replace("sendonly", "recvonly")
            for line in offer.split("\r\n")
            if not line.startswith(("a=ssrc", "a=candidate", "a=ice-lite", "a=end-of"))
        ]
        return "\r\n".join(kept)

    def test_the_answer_names_what_to_forward(self) -> None:
        _, forwards = negotiation.accept_subscribe(sdp.parse(self.answer()), self.slots(), ["0", "1", "2"])
        assert set(forwards) == {"0", "1"}
        video = forwards["1"]
        assert (video.ssrc, video.rtx_ssrc, video.payload_type, video.rtx_payload_type) == (2001, 2002, 96, 97)
        assert (video.extensions.mid, video.extensions.transport_cc) == (1, 2)
        assert forwards["0"].rtx_ssrc is None

    def test_firefox_answers_with_what_was_offered(self) -> None:
        _, forwards = negotiation.accept_subscribe(sdp.parse(FIREFOX_ANSWER), self.slots()[:2], ["0", "1"])
        assert set(forwards) == {"0", "1"}
        video = forwards["1"]
        assert (video.payload_type, video.rtx_payload_type, video.extensions.transport_cc) == (96, 97, 2)
        assert video.rtx_ssrc is not None

    def test_a_refused_retransmission_or_extension_is_left_out(self) -> None:
        answer = self.answer().replace("SAVPF 96 97", "SAVPF 96")
        answer = answer.replace("a=extmap:2 ", "a=x-extmap:2 ").replace("a=rtpmap:97 rtx/90000\r\n", "")
        answer = answer.replace("a=fmtp:97 apt=96\r\n", "")
        _, forwards = negotiation.accept_subscribe(sdp.parse(answer), self.slots(), ["0", "1", "2"])
        assert forwards["1"].rtx_ssrc is None
        assert forwards["1"].extensions.transport_cc == 0

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace("setup:active", "setup:passive"),
            lambda text: text.replace("a=mid:1", "a=mid:7"),
            lambda text: text.split("\r\nm=video")[0] + "\r\n",
            lambda text: text.replace("m=video", "m=audio"),
            lambda text: text.replace(" 40000 UDP", " 0 UDP"),
        ],
    )
    def test_an_answer_that_does_not_fit_is_refused(self, change: Callable[[str], str]) -> None:
        with pytest.raises(RelayError) as caught:
            negotiation.accept_subscribe(sdp.parse(change(self.answer())), self.slots(), ["0", "1", "2"])
        assert caught.value.code == "bad_sdp"


class TestWatch:
    def test_a_whep_viewer_is_answered_with_its_own_payload_types(self) -> None:
        description = sdp.parse(CHROMIUM_RECEIVE)
        _, accepted = negotiation.accept_watch(description)
        slots = [Slot(one.mid, one.kind, None, 10 + i, 20 + i) for i, one in enumerate(accepted)]
        parsed = SessionDescription.parse(negotiation.watch_answer(description, accepted, slots, LOCAL))
        assert [one.direction for one in parsed.media] == ["sendonly", "sendonly"]
        assert [one.ssrc for one in parsed.media[1].ssrc] == [11, 21]
        assert parsed.media[1].dtls is not None
        assert parsed.media[1].dtls.role == "server"
        spec = accepted[1].forward_spec(11, 21)
        assert (spec.payload_type, spec.rtx_payload_type, spec.mid) == (96, 97, "1")

    def test_an_offer_to_send_is_refused(self) -> None:
        with pytest.raises(RelayError):
            negotiation.accept_watch(sdp.parse(CHROMIUM))


class TestFragment:
    def test_a_restart_is_read_and_answered(self) -> None:
        fragment = (
            "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:ysXw\r\n"
            "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\na=candidate:1 1 udp 1 192.0.2.1 61764 typ host\r\n"
            "a=end-of-candidates\r\n"
        )
        parsed = sdp.parse_fragment(fragment)
        assert (parsed.ufrag, parsed.mids) == ("ysXw", ("0",))
        again = sdp.parse_fragment(negotiation.restart_fragment(LOCAL, ["0", "1"], parsed.mids))
        assert (again.ufrag, again.password) == (LOCAL.ufrag, LOCAL.password)

    def test_without_credentials_it_is_refused(self) -> None:
        with pytest.raises(RelayError):
            sdp.parse_fragment("a=mid:0\r\n")


class TestHostile:
    @pytest.mark.parametrize(
        "text",
        [
            "v=0\n" + "a=x\n" * 20_000,
            "v=0\n" + "a=" + "x" * 70_000,
            "v=0\n" + "é" * 40_000,
            CHROMIUM + "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:x\n" * 20,
            CHROMIUM + "".join(f"a=ssrc:{n} cname:x\n" for n in range(1, 100)),
            CHROMIUM.replace("v=0", "v=0\na=group:"),
            CHROMIUM.replace("a=mid:0", "a=mid:0\x00"),
            CHROMIUM.replace("a=mid:0", "a=mid:" + "0" * 40),
            CHROMIUM.replace("a=rtpmap:111 opus/48000/2", "a=rtpmap:111"),
            CHROMIUM.replace("a=rtpmap:111 opus/48000/2", "a=rtpmap:١١١ opus/48000/2"),
            CHROMIUM.replace("a=ssrc-group:FID 1840038624", "a=ssrc-group:FID x"),
        ],
    )
    def test_the_only_error_is_bad_sdp(self, text: str) -> None:
        assert refusal(answer_to, text) in (None, "bad_sdp")

    @given(st.text(max_size=2000))
    def test_any_text(self, text: str) -> None:
        for start in ("", "v=0\n"):
            with pytest.raises(RelayError, match="bad_sdp"):
                answer_to(start + text)

    @settings(max_examples=300)
    @given(
        seed=st.integers(0, 2**32),
        original=st.sampled_from([CHROMIUM, FIREFOX, CHROMIUM_RECEIVE, FIREFOX_ANSWER]),
        edits=st.integers(1, 12),
    )
    def test_mutated_browser_offers(self, seed: int, original: str, edits: int) -> None:
        """Lines are dropped, doubled, moved and damaged: there is an answer that can be parsed, or
        bad_sdp."""
        text = mutated(original, seed, edits)
        for accept in (self._publish, self._watch):
            refused = refusal(accept, text)
            assert refused in (None, "bad_sdp")
            if refused is None:
                assert len(sdp.parse(accept(text)).sections) == len(sdp.parse(text).sections)

    @staticmethod
    def _publish(text: str) -> str:
        return answer_to(text)

    @staticmethod
    def _watch(text: str) -> str:
        description = sdp.parse(text)
        _, accepted = negotiation.accept_watch(description)
        slots = [Slot(one.mid, one.kind, None, 10 + i, 20 + i) for i, one in enumerate(accepted)]
        return negotiation.watch_answer(description, accepted, slots, LOCAL)

    @given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
    def test_any_fragment(self, text: str) -> None:
        assert refusal(sdp.parse_fragment, text) in (None, "bad_sdp")
