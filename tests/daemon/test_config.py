"""The configuration file: what is accepted, and what a person reads when it is not."""

import contextlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.config import (
    SECTIONS,
    Config,
    name_from_host,
    resolve,
    settings_of,
)
from meshd.config_checks import origin_of
from meshd.config_reload import changes_between, reloaded
from meshd.config_toml import MAX_CONFIG_SIZE, parse, toml_of
from meshd.daemon.document_config import FILES
from meshd.errors import ConfigError
from meshd.ids import is_name

ROOT = Path(__file__).parents[2]


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "meshd.toml")
    assert all(line.startswith("meshd.toml: ") for line in str(caught.value).splitlines())
    return str(caught.value)


def test_empty_file_is_the_default() -> None:
    assert parse("") == Config()


def test_defaults_are_themselves_allowed() -> None:
    lines = []
    for name, section in SECTIONS.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {toml_of(default)}" for key, (_, _, default) in settings_of(section).items()]
    assert parse("\n".join(lines)) == Config()


def test_values_arrive() -> None:
    config = parse(
        '[links]\naddresses = ["::1", "192.0.2.1"]\nice = "stun"\n'
        'stun_servers = ["stun:[2001:db8::1]:3478"]\ngather_timeout = 1\n'
        '[push]\nservices = ["ws://127.0.0.1:80/x", "mozilla"]\ntrusted_origins = ["http://[::1]:8080"]'
    )
    assert config.links.addresses == ("::1", "192.0.2.1")
    assert isinstance(config.links.gather_timeout, float)
    assert config.push.services == ("ws://127.0.0.1:80/x", "mozilla")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[link]", "did you mean [links]?"),
        ("[links]\nmax_link = 3", "[links] has no key 'max_link'; did you mean max_links?"),
        ("[links]\nxyzzy = 3", "there are: allow_loopback"),
        ("max_links = 3", "put it below [links]"),
        ("colour = 3", "every key belongs below a [section]"),
        ("links = 3", "write [links]"),
        ("[[links]]\nmax_links = 3", "write [links]"),
        ("[links]\nmax_links = 1", "a whole number from 2 to 4_096; the default is 256"),
        ("[links]\nmax_links = 2.5", "a whole number"),
        ("[links]\nmax_links = true", "a whole number"),
        ("[links]\ngather_timeout = nan", "a number of seconds from 0.1 to 30"),
        ("[links]\ngather_timeout = inf", "a number of seconds"),
        ("[links]\nmax_links = " + "9" * 400, "a whole number"),
        ("[links]\nmax_links = " + "9" * 5000, "meshd.toml: not TOML"),
        ('[links]\nallow_loopback = "yes"', "true or false, without quotes"),
        ('[links]\naddresses = "::1"', "a list of at most 64 texts"),
        ('[links]\naddresses = ["::1", "::1"]', "each entry once"),
        ('[links]\naddresses = ["localhost"]', "an IP address without port"),
        ('[links]\nstun_servers = ["stun.example.org"]', "stun:host:port"),
        ('[links]\nstun_servers = ["stun:h:99999"]', "stun:host:port"),
        ('[links]\nstun_servers = ["stun://192.0.2.7"]', "without //"),
        ('[links]\nstun_servers = ["stuns:h:5349"]', "stun: instead of stuns:"),
        ('[links]\nstun_servers = ["turn:h:3478"]', "stun:host:port"),
        ('[links]\nstun_servers = ["stun:2001:db8::7:3478"]', "stun:[2001:db8::7]:3478"),
        ('[links]\nturn_servers = ["turn:h:3478?transport=sctp"]', "?transport=udp or ?transport=tcp"),
        ('[links]\nturn_servers = ["turns:h?transport=udp"]', "DTLS is not supported"),
        ('[links]\nstun_servers = ["stun:h:3478"]', 'they are not asked then; write ice = "stun"'),
        ('[links]\nturn_servers = ["turn:h:3478"]', 'they are not used then; write ice = "turn"'),
        ('[links]\nice = "relay_only"', "without turn_servers"),
        ('[links]\nice = "turn"\nturn_servers = ["turn:h"]', "without turn_credentials"),
        ('[links]\nport = 7000\nannounce = ["192.0.2.7"]', "an IP address and a port, as 192.0.2.7:7000"),
        ('[links]\nport = 7000\nannounce = ["2001:db8::7:7000"]', "[2001:db8::7]:7000"),
        ('[links]\nport = 7000\nannounce = ["home.example.org:7000"]', "an IP address"),
        ('[links]\nport = 7000\nannounce = ["192.0.2.7:70000"]', "an IP address and a port"),
        ('[links]\nannounce = ["192.0.2.7:7000"]', "write the port that the router forwards to"),
        ('[links]\nice = "relay"', 'one of "none", "mesh", "stun", "turn", "relay_only"'),
        (
            "[push]\nservices = " + json.dumps([f"wss://{name}.example/" for name in "abcde"]),
            "a list of at most 4 texts",
        ),
        ('[push]\nservices = ["mozila"]', "did you mean 'mozilla'?"),
        ('[push]\nservices = ["https://push.example.org"]', "wss:// or ws://"),
        ('[push]\ntrusted_origins = ["http://127.0.0.1:80/"]', "scheme, host and port alone"),
        ('[push]\nsubject = "me"', "a mailto: or https: URL"),
        ('[node]\nname = "My Laptop"', "1 to 32 of a-z"),
        ('[node]\nstate_dir = "state"', "an absolute path"),
        ('[control]\nadmin_group = "a b"', "a group's name or number"),
        ('[log]\nlevel = "warn"', 'one of "debug", "info", "warning", "error"'),
        ("[mesh]\nheartbeat_interval = 5", "write link_timeout = 20"),
        ("[node\n", "not TOML"),
        ("[mesh]\nrelay = 1979-05-27", "relay = …: write true or false"),
        ("x" * (MAX_CONFIG_SIZE + 1), "is this the right file?"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_write(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_everything_wrong_is_said_at_once_within_bounds() -> None:
    assert len(complaint("[links]\nmax_links = 1\ngather_timeout = 0\n[logs]").splitlines()) == 3
    many = complaint("[links]\n" + "\n".join(f"wrong{n} = 1" for n in range(100)))
    assert many.endswith("… and 80 more")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_configuration_or_the_one_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(text), Config)


@given(
    st.sampled_from([(name, key) for name, section in SECTIONS.items() for key in settings_of(section)]),
    st.recursive(st.booleans() | st.integers() | st.floats() | st.text(), lambda some: st.lists(some, max_size=3)),
)
def test_any_value_is_accepted_or_refused_with_the_key(place: tuple[str, str], value: object) -> None:
    section, key = place
    said = ""
    try:
        config = parse(f"[{section}]\n{key} = {toml_of(value)}")
    except ConfigError as error:
        said = str(error)
    if said:
        assert f"[{section}] {key} = " in said
    else:
        read = getattr(getattr(config, section), key)
        assert read == (tuple(value) if isinstance(value, list) else value)


@given(st.text())
def test_text_survives_toml(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert tomllib.loads(f"a = {toml_of(text)}") == {"a": text}


@given(st.text())
def test_any_host_name_becomes_a_valid_name(host_name: str) -> None:
    assert is_name(name_from_host(host_name))


def test_host_name_is_used_as_far_as_it_can_be() -> None:
    assert name_from_host("Annas_MacBook.fritz.box") == "annas_macbook"
    assert name_from_host("-- --") == "node"


def test_socket_and_state_directory_follow_the_environment() -> None:
    everything = {
        "MESHD_SOCKET": "/a.sock",
        "RUNTIME_DIRECTORY": "/run/one:/run/two",
        "XDG_RUNTIME_DIR": "/run/user/7",
        "STATE_DIRECTORY": "/var/lib/x:/var/lib/y",
    }
    found = []
    for gone in ("", "MESHD_SOCKET", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        everything.pop(gone, None)
        found.append(resolve(Config(), everything, "h").control.socket)
    assert found == ["/a.sock", "/run/one/meshd.sock", "/run/user/7/meshd/meshd.sock", "/run/meshd/meshd.sock"]
    assert resolve(Config(), everything, "h").node.state_dir == "/var/lib/x"
    assert resolve(Config(), {}, "h").node.state_dir == "/var/lib/meshd"
    set_in_file = parse('[control]\nsocket = "/b.sock"\n[node]\nname = "desk"\nstate_dir = "/s"')
    assert resolve(set_in_file, {"MESHD_SOCKET": "/a.sock", "STATE_DIRECTORY": "/x"}, "h") == set_in_file


def test_origins_are_canonical() -> None:
    assert origin_of("HTTPS://Example.org:443/a?b") == "https://example.org"
    assert origin_of("http://[::1]:8080/x") == "http://[::1]:8080"


def test_changes_are_told_apart_by_when_they_take_effect() -> None:
    new = parse('[log]\nlevel = "debug"\n[links]\nmax_links = 7')
    assert changes_between(Config(), new) == (["log.level"], ["links.max_links"])
    assert reloaded(Config(), new) == parse('[log]\nlevel = "debug"')


@pytest.mark.parametrize("path", FILES)
def test_generated_files_are_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == FILES[path](), "run python -m meshd.daemon.document_config"


def test_example_names_every_key_and_is_valid_when_uncommented() -> None:
    text = re.sub(r"^#(\w+ = )", r"\1", FILES["systemd/meshd.toml"](), flags=re.M)
    assert parse(FILES["systemd/meshd.toml"]()) == Config()
    assert parse(text) == Config()
    named = {(name, key) for name, table in tomllib.loads(text).items() for key in table}
    assert named == {(name, key) for name, section in SECTIONS.items() for key in settings_of(section)}
