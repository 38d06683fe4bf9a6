"""Which source answers to a URI. Truth: the grammar `scheme:where?option=value`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from spikewire.io.source import SOURCES, open_source, refuse_unknown
from spikewire.runtime.clock import VirtualClock
from spikewire.signals import InputError


@pytest.mark.parametrize("uri", ["", "replay", "tcp:host", ":", "REPLAY:x.npz", "x.npz"])
def test_unknown_scheme_names_what_came_and_what_is_allowed(uri: str) -> None:
    with pytest.raises(InputError, match="allowed are replay:") as caught:
        open_source(uri, VirtualClock())
    assert repr(uri) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_replay_opens_with_its_option(recording_path: Path) -> None:
    source = open_source(f"replay:{recording_path}?span=1:2", VirtualClock())
    assert (source.fs_hz, source.channels, source.block_samples) == (2048.0, 16, 10)
    assert source.uri.startswith("replay:")


def test_unknown_option_is_named(recording_path: Path) -> None:
    with pytest.raises(InputError, match=r"option 'speed' is unknown, allowed are .*span"):
        open_source(f"replay:{recording_path}?speed=2", VirtualClock())


def test_refuse_unknown_takes_what_is_allowed() -> None:
    refuse_unknown("x:", {"a": "1"}, {"a", "b"})


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_listed_module_opens_uris(scheme: str) -> None:
    if scheme == "simulate":
        pytest.importorskip("scipy")
    assert callable(import_module(SOURCES[scheme]).open_uri)
