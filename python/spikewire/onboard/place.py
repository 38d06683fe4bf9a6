"""Where things lie on a board, all below one root folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A board's folders.

    Attributes
    ----------
    root : Path
        `/` on a board, another folder in tests and in root file systems that are not running.
    """

    root: Path = Path("/")

    @property
    def home(self) -> Path:
        """Releases and the links to them."""
        return self.root / "opt/spikewire"

    @property
    def staging(self) -> Path:
        """Where releases arrive."""
        return self.home / "staging"

    @property
    def current(self) -> Path:
        """Link to the release that runs."""
        return self.home / "current"

    @property
    def previous(self) -> Path:
        """Link to the proven release before it."""
        return self.home / "previous"

    @property
    def program(self) -> Path:
        """What the units call."""
        return self.home / "onboard.pyz"

    @property
    def run_env(self) -> Path:
        """The person's own options of mu-run; written once."""
        return self.root / "etc/spikewire/run.env"

    @property
    def signers(self) -> Path:
        """Whose releases this board takes; written once."""
        return self.root / "etc/spikewire/allowed_signers"

    @property
    def state(self) -> Path:
        """What has proven itself and what is on trial."""
        return self.root / "var/lib/spikewire/state.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that may change any of this."""
        return self.root / "var/lib/spikewire/lock"

    @property
    def status(self) -> Path:
        """What mu-run says twice a second."""
        return self.root / "run/spikewire/status.json"

    @property
    def installed(self) -> dict[str, Path]:
        """A release's folder -> where its files are copied to."""
        return {"units": self.root / "etc/systemd/system", "udev": self.root / "etc/udev/rules.d"}

    def release(self, name: str) -> Path:
        """Return the folder of an installed release."""
        return self.home / "releases" / name

    def names(self) -> list[str]:
        """Return the names in releases/, whole or not."""
        folder = self.home / "releases"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def named(self, link: Path) -> str | None:
        """Return the release that a link names; None where it names none."""
        try:
            folder, _, name = os.readlink(link).rpartition("/")
        except OSError:
            return None
        return name if folder == "releases" and name else None
