"""Settings are safe by default, strict, and read from arguments before the environment."""

from pathlib import Path

import pytest

from hilum.data_keys import new_data_key
from hilum.errors import ConfigError
from hilum.service.settings import is_loopback, read_settings

BUNDLE, KEY = Path("chest.hilum"), new_data_key()


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = read_settings(bundle=BUNDLE)
    assert (settings.host, settings.port, settings.dicom_port, settings.on_loopback) == ("127.0.0.1", 8042, 11112, True)
    assert settings.url.endswith("hilum-data/hilum.db")


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_PORT", "1234")
    monkeypatch.setenv("HILUM_ALLOWED_AE_TITLES", "ONE, TWO")
    assert read_settings(bundle=BUNDLE, port=None).port == 1234
    assert read_settings(bundle=BUNDLE, port=99).port == 99
    assert read_settings(bundle=BUNDLE).allowed_ae_titles == ("ONE", "TWO")
    named = read_settings(bundle=BUNDLE, pacs="archive=dicom://PACS@10.0.0.7:4242").named_ae_titles
    assert named == ("ONE", "TWO", "PACS")
    monkeypatch.setenv("HILUM_TRUSTED_KEYS", "site.pub, maker.pub")
    assert read_settings(bundle=BUNDLE).trusted_keys == (Path("site.pub"), Path("maker.pub"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Setting 'bundle' is missing. Give it, or set HILUM_BUNDLE."),
        ({"bundle": BUNDLE, "port": 70000}, "Setting 'port'"),
        ({"bundle": BUNDLE, "prot": 1}, "Setting 'prot'"),
        (
            {"bundle": BUNDLE, "host": "0.0.0.0"},
            "^Host '0.0.0.0' is reachable from the network and passwords and films would pass in the clear",
        ),
        (
            {"bundle": BUNDLE, "host": "0.0.0.0", "unprotected_network": True},
            "name the senders in HILUM_ALLOWED_AE_TITLES",
        ),
        (
            {"bundle": BUNDLE, "host": "0.0.0.0", "unprotected_network": True, "without_dicom": True},
            "would lie unencrypted: make a key with hilum keys new-data-key",
        ),
        ({"bundle": BUNDLE, "tls_key": "key.pem"}, "HILUM_TLS_CERTIFICATE and HILUM_TLS_KEY go together"),
        ({"bundle": BUNDLE, "allowed_ae_titles": ("MUCH-TOO-LONG-A-TITLE",)}, "are no AE titles"),
    ],
)
def test_what_is_wrong_or_unsafe_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_settings(**given)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HILUM_PACS", "x=dicom://A@h", "HILUM_PACS: PACS 'x' has no port. Write NAME=dicom"),
        ("HILUM_PORT", "70000", "HILUM_PORT: Input should be less than or equal to 65535."),
        ("HILUM_RESULTS_TO", "x", "HILUM_RESULTS_TO: a destination has no name of letters and digits. Write"),
        ("hilum_dicom_tls", "maybe", "HILUM_DICOM_TLS: Input should be 'off', 'on', 'optional' or 'required'."),
    ],
)
def test_what_is_wrong_with_a_variable_names_it(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as raised:
        read_settings(bundle=BUNDLE, hands=0)
    assert raised.value.problems[0].startswith(said)
    assert raised.value.problems[1].startswith("Setting 'hands': Input should be")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(port=-1, hands=0)
    assert len(raised.value.problems) == 3


def test_all_that_makes_a_network_address_unsafe_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(bundle=BUNDLE, host="10.0.0.5")
    assert len(raised.value.problems) == 4
    assert all(one.startswith("Host '10.0.0.5' is reachable from the network and ") for one in raised.value.problems)


def test_a_network_address_is_accepted_with_open_eyes() -> None:
    settings = read_settings(
        bundle=BUNDLE, host="0.0.0.0", unprotected_network=True, allowed_ae_titles="CR1", data_key=KEY.text
    )
    assert not settings.on_loopback


def test_without_dicom_nobody_needs_to_name_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DICOM_PORT", "104")
    given = {"bundle": BUNDLE, "host": "0.0.0.0", "unprotected_network": True, "data_key": KEY.text}
    settings = read_settings(without_dicom=True, **given)
    assert settings.dicom_port is None


@pytest.mark.parametrize(("host", "loopback"), [("localhost", True), ("::1", True), ("10.0.0.1", False), ("x", False)])
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
