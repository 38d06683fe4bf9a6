"""Who is connected to whom. Truth: the addresses that sockets have themselves."""

from __future__ import annotations

import socket

import pytest
from amplifier_bench import free_port

from spikewire.io.dial import Answer, Call, address
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import InputError


def calling(own: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((own, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def test_a_stranger_who_calls_first_does_not_keep_the_amplifier_out() -> None:
    port = free_port()
    dial = Answer("muovi:", ("0.0.0.0", port))
    with calling("127.0.0.2", port):
        [stranger] = dial.poll(2.0)
        stranger.close()  # sent nothing that was a sample
    with calling("127.0.0.1", port):
        [amplifier] = dial.poll(2.0)
        dial.trust()
        amplifier.close()
    with calling("127.0.0.2", port) as again:
        assert dial.poll(2.0) == []
        again.settimeout(5)
        assert again.recv(1) == b""
    with calling("127.0.0.1", port):
        [amplifier] = dial.poll(2.0)
        assert amplifier.getpeername()[0] == "127.0.0.1"
        assert amplifier.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not amplifier.getblocking()
        amplifier.close()
    dial.close()


def test_a_box_that_is_away_is_called_again() -> None:
    port, clock = free_port(), MonotonicClock()
    dial = Call("x:", (("127.0.0.1", port),), clock)
    assert dial.poll(0.01) == []
    with socket.socket() as door:
        door.bind(("127.0.0.1", port))
        door.listen(1)
        until, made = clock.now() + 5, []
        while not made and clock.now() < until:
            made = dial.poll(0.05)
        [sock] = made
        sock.close()
    dial.close()


def test_a_name_that_nobody_knows_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"'no\.such\.machine\.invalid' is no machine"):
        Call("x:", (("no.such.machine.invalid", 1),), MonotonicClock())


@pytest.mark.parametrize(("where", "expected"), [
    ("", ("h", 7)), ("box", ("box", 7)), ("box:9", ("box", 9)), (":9", ("h", 9))])
def test_addresses(where: str, expected: tuple[str, int]) -> None:
    assert address("x:" + where, where, "h", 7) == expected


@pytest.mark.parametrize("where", ["a:0", "a:65536", "a:-1", "a:b", "a:", "[::1]:5:6x"])
def test_ports_that_are_none(where: str) -> None:
    with pytest.raises(InputError, match="allowed are 1 to 65535; type x:h:7"):
        address("x:" + where, where, "h", 7)
