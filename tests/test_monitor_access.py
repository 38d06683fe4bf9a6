"""Who may look. Truth: the rules of docs/monitor.md, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.monitor.access import BURST, MOST_ADDRESSES, Access, Bucket, check_token
from spikewire.signals import InputError

TOKEN = "a" * 21 + "-_Z"


def refused(host: str = "127.0.0.1", method: str = "GET", target: str = "/", **headers: str
            ) -> int | None:
    """Status that a request gets, None if it is let in."""
    asked = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    found = Access(host, TOKEN).refuse("x", method, target, asked)
    return found[0] if found else None


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:8765", None), ("127.0.0.1", None), ("localhost:9000", None), ("[::1]:8765", None),
    ("LOCALHOST", None), ("evil.example:8765", 421), ("192.168.0.9:8765", 421),
    ("127.0.0.1.evil.example", 421), ("", 421), ("localhost.evil", 421), ("[::1", 421),
    ("a@127.0.0.1@b", 421), ("\xe9", 421),
])
def test_a_name_of_elsewhere_is_refused(host: str, status: int | None) -> None:
    assert refused(host=("127.0.0.1"), **{"Host": host}) == status


def test_a_request_has_one_host() -> None:
    access = Access("127.0.0.1", "")
    twice = [(b"host", b"127.0.0.1"), (b"host", b"127.0.0.1")]
    assert access.refuse("x", "GET", "/", [])[0] == 421
    assert access.refuse("x", "GET", "/", twice)[0] == 421


def test_an_address_of_the_network_may_be_named_but_no_foreign_name() -> None:
    assert refused("0.0.0.0", Host="10.1.2.3:8765") is None
    assert refused("0.0.0.0", Host="evil.example") == 421
    assert refused("lab.local", Host="lab.local:8765") is None


@pytest.mark.parametrize(("origin", "status"), [
    ("http://127.0.0.1:8765", None), ("https://127.0.0.1:8765", None),
    ("http://127.0.0.1:9999", 403), ("http://evil.example", 403), ("null", 403), ("", 403),
    ("file://", 403), ("http://127.0.0.1:8765.evil.example", 403), ("http://[", 403),
])
def test_another_pages_origin_is_refused(origin: str, status: int | None) -> None:
    assert refused(method="WEBSOCKET", Host="127.0.0.1:8765", Origin=origin) == status


def test_a_browser_that_says_where_it_stands_is_believed() -> None:
    same = {"Host": "127.0.0.1:1", "Sec_Fetch_Site": "same-origin"}
    assert refused(method="WEBSOCKET", **same) is None
    for site in ("cross-site", "same-site"):
        assert refused(method="WEBSOCKET", **same | {"Sec_Fetch_Site": site}) == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "XY"])
def test_nothing_but_get_and_head(method: str) -> None:
    assert refused(method=method, Host="localhost") == 405


def test_a_long_address_is_refused() -> None:
    assert refused(target="/" * 1025, Host="localhost") == 414


def lets_in(token: str = TOKEN, **headers: str) -> bool:
    return Access("0.0.0.0", token).lets_in(
        [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()])


def test_the_token_comes_beside_the_protocol_or_as_a_bearer() -> None:
    assert lets_in(Sec_WebSocket_Protocol=f"spikewire, {TOKEN}")
    assert lets_in(Authorization=f"Bearer {TOKEN}")
    assert lets_in(token="")
    for wrong in ({}, {"Authorization": TOKEN[:-1]}, {"Authorization": "Bearer " + TOKEN + "x"},
                  {"Sec_WebSocket_Protocol": "spikewire"}, {"Sec_WebSocket_Protocol": "\xe9"},
                  {"Sec_WebSocket_Protocol": ",".join("abcde") + "," + TOKEN},
                  {"Authorization": "Bearer " + TOKEN.lower()}):
        assert not lets_in(**wrong)


@given(st.text(max_size=40))
def test_no_other_words_open(word: str) -> None:
    offered = word.encode("utf-8", "replace").decode("latin-1")
    if word.strip() != TOKEN:
        assert not lets_in(Sec_WebSocket_Protocol=offered)


def test_which_tokens_may_be() -> None:
    assert check_token(None, "127.0.0.1") == check_token(None, "localhost") == ""
    made = {check_token("auto", host) for host in ("127.0.0.1", "0.0.0.0") for _ in range(50)}
    assert len(made) == 100
    assert min(map(len, made)) >= 32
    assert check_token(TOKEN, "0.0.0.0") == TOKEN
    for word, host in ((None, "0.0.0.0"), (None, "192.168.0.2"), (None, "::"), ("", "127.0.0.1"),
                       ("secret", "127.0.0.1"), ("x" * 129, "::1"), ("ü" * 30, "::1")):
        with pytest.raises(InputError, match="token"):
            check_token(word, host)


def test_who_asks_too_often_waits_and_the_others_do_not() -> None:
    now = [0.0]
    bucket = Bucket(lambda: now[0])
    assert sum(bucket.take("a") for _ in range(1000)) == BURST
    assert bucket.take("b")
    now[0] += 0.1
    assert sum(bucket.take("a") for _ in range(1000)) == 5
    for k in range(10_000):
        bucket.take(str(k))
    assert len(bucket._left) <= MOST_ADDRESSES
