from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.sdp import MAX_SDP_LINES, MAX_SDP_SIZE, from_sdp, to_sdp
from meshd.wire.session_description import MAX_CANDIDATES, Candidate, SessionDescription, encode

FINGERPRINT = "2A:1B:" + ":".join(f"{n:02X}" for n in range(30))

CHROMIUM_OFFER = f"""v=0
o=- 8070143129245301846 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS
m=application 51742 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 203.0.113.40
a=candidate:2530088836 1 udp 2113937151 8c2e4bd6-0c7e-4c2c-9b6e-0a1e7a2f6b1d.local 51742 typ host generation 0 \
network-cost 999
a=candidate:1467250027 1 udp 1677729535 203.0.113.40 51742 typ srflx raddr 0.0.0.0 rport 0 generation 0 \
network-cost 999
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlFX
a=ice-options:trickle
a=fingerprint:sha-256 {FINGERPRINT}
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=max-message-size:262144
""".replace("\n", "\r\n")

FIREFOX_OFFER = f"""v=0
o=mozilla...THIS_IS_SDPARTA-99.0 4294967297 0 IN IP4 0.0.0.0
s=-
t=0 0
a=fingerprint:sha-256 {FINGERPRINT}
a=group:BUNDLE 0
a=ice-options:trickle
a=msid-semantic:WMS *
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=candidate:0 1 UDP 2122252543 192.168.1.23 55406 typ host
a=candidate:2 1 UDP 2122187007 2001:DB8:0:0:0:0:0:17 43210 typ host
a=candidate:1 1 TCP 2105524479 192.168.1.23 9 typ host tcptype active
a=candidate:3 1 UDP 1685921535 198.51.100.9 61002 typ srflx raddr 192.168.1.23 rport 55406
a=candidate:4 2 UDP 2122252542 192.168.1.23 55407 typ host
a=sendrecv
a=end-of-candidates
a=ice-pwd:a1ff9b7b2f7c3d7e8c2f1f0a6c5d4e3b
a=ice-ufrag:9bd2e1f0
a=mid:0
a=setup:actpass
a=sctp-port:5000
a=max-message-size:1073741823
""".replace("\n", "\r\n")

fingerprint = bytes.fromhex(FINGERPRINT.replace(":", ""))
ADDRESSES = ["192.0.2.1", "2001:db8::1", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0.local", "10.0.0.1"]
candidates = st.lists(
    st.tuples(
        st.sampled_from(["host", "prflx", "srflx", "relay"]),
        st.sampled_from(ADDRESSES),
        st.integers(1, 65_535),
        st.sampled_from(["udp", "tcp"]),
    ),
    max_size=MAX_CANDIDATES,
    unique=True,
).map(
    # By kind: SDP carries the order as priorities, in which the kind comes first.
    lambda rows: tuple(Candidate(*row) for row in sorted(rows, key=lambda r: "host prflx srflx relay".index(r[0])))
)
descriptions = st.builds(
    SessionDescription,
    ufrag=st.text("aZ09+/", min_size=4, max_size=32),
    pwd=st.text("aZ09+/", min_size=22, max_size=64),
    fingerprint=st.binary(min_size=32, max_size=32),
    setup=st.sampled_from(["active", "passive"]),
    candidates=candidates,
    sctp_port=st.integers(1, 65_535),
    max_message_size=st.integers(0, 2**32 - 1),
    mid=st.sampled_from(["0", "data", "1"]),
    ice_options=st.sampled_from([(), ("trickle",), ("ice2", "trickle")]),
)


@given(descriptions, st.sampled_from(["offer", "answer"]))
def test_descriptions_come_back(description, kind):
    assert from_sdp(to_sdp(description, kind)) == description


def test_a_literal_offer_of_chromium():
    assert from_sdp(CHROMIUM_OFFER) == SessionDescription(
        ufrag="4ZcD",
        pwd="2/1muCWoOi3uLifh0NuRHlFX",
        fingerprint=fingerprint,
        setup="actpass",
        candidates=(
            Candidate("host", "8c2e4bd6-0c7e-4c2c-9b6e-0a1e7a2f6b1d.local", 51_742),
            Candidate("srflx", "203.0.113.40", 51_742),
        ),
        max_message_size=262_144,
        ice_options=("trickle",),
    )
    assert len(encode(from_sdp(CHROMIUM_OFFER))) < 140


def test_a_literal_offer_of_firefox():
    assert from_sdp(FIREFOX_OFFER) == SessionDescription(
        ufrag="9bd2e1f0",
        pwd="a1ff9b7b2f7c3d7e8c2f1f0a6c5d4e3b",
        fingerprint=fingerprint,
        setup="actpass",
        candidates=(
            Candidate("host", "192.168.1.23", 55_406),
            Candidate("host", "2001:db8::17", 43_210),
            Candidate("host", "192.168.1.23", 9, "tcp"),
            Candidate("srflx", "198.51.100.9", 61_002),
        ),
        max_message_size=1_073_741_823,
        ice_options=("trickle",),
    )


def test_ice_options_with_the_comma_of_libdatachannel():
    offer = CHROMIUM_OFFER.replace("a=ice-options:trickle", "a=ice-options:ice2,trickle")
    assert from_sdp(offer).ice_options == ("ice2", "trickle")


def test_the_data_channel_section_is_found_among_others():
    audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:audio\r\na=ice-ufrag:aaaa\r\na=setup:passive\r\n"
    head, section = CHROMIUM_OFFER.split("m=application")
    assert from_sdp(head + audio + "m=application" + section + audio) == from_sdp(CHROMIUM_OFFER)


def test_aiortc_reads_what_we_write_and_writes_what_we_read():
    from aiortc.sdp import SessionDescription as AiortcDescription

    written = replace(from_sdp(CHROMIUM_OFFER), ice_options=("trickle",), mid="data")
    theirs = AiortcDescription.parse(to_sdp(written, "offer"))
    [media] = theirs.media
    assert (media.kind, media.profile, media.rtp.muxId) == ("application", "UDP/DTLS/SCTP", "data")
    assert (media.ice.usernameFragment, media.ice.password) == (written.ufrag, written.pwd)
    assert [(f.algorithm, f.value) for f in media.dtls.fingerprints] == [("sha-256", FINGERPRINT)]
    assert (media.dtls.role, media.sctp_port, media.sctpCapabilities.maxMessageSize) == ("auto", 5_000, 262_144)
    assert [(c.type, c.ip, c.port) for c in media.ice_candidates] == [
        (c.kind, c.host, c.port) for c in written.candidates
    ]
    assert not media.ice_candidates_complete
    again = from_sdp(str(theirs))
    assert again == replace(written, ice_options=again.ice_options)
    complete = AiortcDescription.parse(to_sdp(replace(written, ice_options=()), "offer"))
    assert complete.media[0].ice_candidates_complete


@pytest.mark.parametrize(
    ("line", "instead", "missing"),
    [
        ("m=application", "m=video", "data channel"),
        ("UDP/DTLS/SCTP", "DTLS/SCTP", "data channel"),
        ("a=ice-ufrag", "a=x", "ice-ufrag"),
        ("a=ice-pwd", "a=x", "ice-pwd"),
        ("a=setup", "a=x", "setup"),
        ("sha-256", "sha-1", "SHA-256"),
        ("2A:1B", "2A:XY", "hexadecimal"),
        ("2A:1B", "2A", "fingerprint"),
        ("actpass", "holdconn", "setup"),
        ("sctp-port:5000", "sctp-port:many", "number"),
        ("sctp-port:5000", "sctp-port:99999999999", "number"),
        ("sctp-port:5000", "sctp-port:70000", "port"),
        ("4ZcD", "4Z", "ufrag"),
    ],
)
def test_the_error_names_what_is_wrong(line, instead, missing):
    with pytest.raises(MalformedMessage, match=missing):
        from_sdp(CHROMIUM_OFFER.replace(line, instead))


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 udp 1 evil.example 5000 typ host",
        "1 1 udp 1 fe80::1%eth0 5000 typ host",
        "1 1 udp 1 192.0.2.1 0 typ host",
        "1 1 udp 1 192.0.2.1 99999 typ host",
        "1 2 udp 1 192.0.2.1 5000 typ host",
        "1 1 sctp 1 192.0.2.1 5000 typ host",
        "1 1 udp 1 192.0.2.1 5000 typ best",
        "1 1 udp -1 192.0.2.1 5000 typ host",
        "1 1 udp 1 192.0.2.1 5000",
        "",
    ],
)
def test_candidates_that_are_of_no_use_are_left_out(candidate):
    assert from_sdp(CHROMIUM_OFFER + f"a=candidate:{candidate}\r\n") == from_sdp(CHROMIUM_OFFER)


def test_what_is_too_much_is_cut_or_refused():
    lines = "".join(f"a=candidate:1 1 udp {n} 192.0.2.1 {n} typ host\r\n" for n in range(1, 40))
    assert [c.port for c in from_sdp(CHROMIUM_OFFER + lines).candidates[2:]] == list(range(39, 25, -1))
    for sdp in ("a" * (MAX_SDP_SIZE + 1), "\n" * (MAX_SDP_LINES + 1)):
        with pytest.raises(MalformedMessage, match="allowed"):
            from_sdp(sdp)


@given(
    st.text(max_size=200),
    st.lists(st.sampled_from([*CHROMIUM_OFFER.split("\r\n"), "a=candidate:1 1 udp x", "a=", "m=", "=", "a=setup"])),
)
def test_any_text_is_a_description_or_malformed(text, lines):
    for sdp in (text, "\n".join([*lines, text])):
        try:
            description = from_sdp(sdp)
        except MalformedMessage:
            continue
        assert from_sdp(to_sdp(description, "offer")) == description


def test_an_answer_must_say_its_role():
    with pytest.raises(LocalMisuse):
        to_sdp(from_sdp(CHROMIUM_OFFER), "answer")
    with pytest.raises(LocalMisuse):
        to_sdp(from_sdp(CHROMIUM_OFFER), "rollback")
    with pytest.raises(LocalMisuse):
        to_sdp(replace(from_sdp(CHROMIUM_OFFER), ufrag=""), "offer")
