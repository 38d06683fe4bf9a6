"""The systemd units and udev rules of a board: its facts as text, nothing that runs here.

Order at boot: boot check -> power and CAN -> engine plan -> runtime -> confirm. Power, CAN and plan
are wanted by the runtime, where the board has something for them to do; the others are enabled.
What they call is `onboard.pyz` on the board and the release's own programs.
"""

from __future__ import annotations

from spikewire.board import Board

ONBOARD = "/usr/bin/python3 -I /opt/spikewire/onboard.pyz"
CURRENT = "/opt/spikewire/current"
ENABLED = ("mu-boot-check.service", "mu-confirm.service", "mu-runtime.service")
TARGET = "multi-user.target"

# What all programs of ours do without. Each line was weighed against what the runtime needs: serial
# lines, CAN, UDP and TCP, GPU, SCHED_FIFO, mlock, /proc/device-tree, /sys/class. Hence no
# ProcSubset=pid, PrivateNetwork=, RestrictRealtime= or PrivateUsers=.
HARDENED = """\
DynamicUser=yes
User=spikewire
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_CAN
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0022
Environment=XDG_CACHE_HOME=/var/cache
CacheDirectory=spikewire
"""
# engine -> more lines. A GPU's device nodes differ between JetPacks and have been seen on no board
# here, so TensorRT keeps those that its groups may open: no DevicePolicy=, no PrivateDevices=, and
# no ProtectClock=, which brings a list of devices with it. CUDA compiles, so its memory may be
# written and run.
OF_ENGINE = {
    "native": """\
SupplementaryGroups=dialout
DevicePolicy=closed
DeviceAllow=char-tty* rw
DeviceAllow=char-pts rw
ProtectClock=yes
MemoryDenyWriteExecute=yes
""",
    "tensorrt": """\
SupplementaryGroups=dialout video render
Environment=CUDA_CACHE_PATH=/var/cache/spikewire/cuda
""",
}
READY_IN = {"native": "1min", "tensorrt": "10min"}  # a plan of another precision may be built first
# For the oneshots, which are root: they set clocks, pins and links.
ROOTS = """\
Type=oneshot
RemainAfterExit=yes
NoNewPrivileges=yes
ProtectHome=yes
PrivateTmp=yes
"""


def units(board: Board) -> dict[str, str]:
    """Return the board's units, file name -> text."""
    made = {
        "mu-boot-check.service": _boot_check(),
        "mu-runtime.service": _runtime(board),
        "mu-confirm.service": _confirm(),
        "mu-rollback.service": _rollback(),
    }
    if board.power.mode or board.power.jetson_clocks:
        made["mu-power.service"] = _power()
    if board.can:
        made["mu-can@.service"] = _can()
    if board.engine == "tensorrt":
        made["mu-engine.service"] = _engine(board)
    return made


def udev_rules(board: Board) -> dict[str, str]:
    """Return the board's udev rules, file name -> text; none without UARTs."""
    lines = [
        f'SUBSYSTEM=="tty", KERNELS=="{uart.dt}", SYMLINK+="{uart.symlink}", '
        'GROUP="dialout", MODE="0660"\n' for uart in board.uart.values()
    ]
    if not lines:
        return {}
    return {"60-spikewire.rules": "# By address: the numbers of ttyTHS move between JetPacks.\n"
                                  + "".join(lines)}


def _before_runtime(board: Board) -> str:
    """What the runtime waits for, besides the boot check."""
    wanted = [f"mu-can@{name}.service" for name in board.can]
    if board.power.mode or board.power.jetson_clocks:
        wanted.append("mu-power.service")
    if board.engine == "tensorrt":
        wanted.append("mu-engine.service")
    return " ".join(wanted)


def _runtime(board: Board) -> str:
    """Return the decoder itself."""
    wanted = _before_runtime(board)
    logins = " ".join(sorted({uart.getty for uart in board.uart.values() if uart.getty}))
    cpus = " ".join(map(str, board.realtime.cpus))
    unit = [
        "Description=spikewire: EMG to spikes",
        f"Wants={wanted}" if wanted else "",
        f"After=network.target mu-boot-check.service {wanted} {logins}".rstrip(),
        f"Conflicts={logins}" if logins else "",  # a login that would hold the port
        f"ConditionPathExists={CURRENT}",
        # Three failed starts, each of which may take a while: the release is taken for bad.
        "StartLimitIntervalSec=300",
        "StartLimitBurst=3",
        "OnFailure=mu-rollback.service",
    ]
    realtime = f"--realtime {board.realtime.cpus[0]}" if cpus else "--realtime"
    service = [
        "Type=notify",
        "NotifyAccess=main",
        "EnvironmentFile=/etc/spikewire/run.env",
        # What run.env says comes last and wins.
        f"ExecStart={CURRENT}/bin/mu-run {CURRENT}/bundle.mub --engine {board.engine} {realtime} "
        "--status /run/spikewire/status.json $SPIKEWIRE_RUN",
        "WatchdogSec=1",
        f"TimeoutStartSec={READY_IN[board.engine]}",
        "TimeoutStopSec=5",
        "Restart=on-failure",
        "RestartSec=500ms",
        "RuntimeDirectory=spikewire",
        "RuntimeDirectoryPreserve=restart",
        "LogsDirectory=spikewire",
        f"LimitRTPRIO={board.realtime.priority}",
        "LimitMEMLOCK=infinity",
        f"CPUAffinity={cpus}" if cpus else "",
        # CAN: a bus that went off is taken down and up.
        "CapabilityBoundingSet=" + ("CAP_NET_ADMIN" if board.can else ""),
        "AmbientCapabilities=CAP_NET_ADMIN" if board.can else "",
    ]
    return _file(unit, service, HARDENED + OF_ENGINE[board.engine], enabled=True)


def _engine(board: Board) -> str:
    """Return the building of the TensorRT plan, at the power mode it will run at."""
    unit = [
        "Description=spikewire: TensorRT plan",
        f"ConditionPathExists={CURRENT}",
        "After=mu-boot-check.service mu-power.service",
    ]
    service = [
        "Type=oneshot",
        "RemainAfterExit=yes",
        f"ExecStart={CURRENT}/bin/mu-doctor {CURRENT}/bundle.mub --self-test --seconds 0 "
        f"--engine {board.engine}",
        "TimeoutStartSec=infinity",
        "CapabilityBoundingSet=",
    ]
    return _file(unit, service, HARDENED + OF_ENGINE[board.engine])


def _power() -> str:
    """Return power mode and clocks: nothing of them outlives a boot."""
    return _file(["Description=spikewire: power mode and clocks", "After=nvpmodel.service"],
                 [f"ExecStart={ONBOARD} power"], ROOTS)


def _can() -> str:
    """Return one CAN interface with its full bit timing: nothing of it outlives a boot."""
    device = "sys-subsystem-net-devices-%i.device"
    drivers = "modprobe@can_raw.service modprobe@mttcan.service"
    unit = [
        "Description=spikewire: CAN interface %i",
        f"Wants={drivers}",
        f"BindsTo={device}",
        f"After={device} {drivers}",
        "JobTimeoutSec=15",  # an interface that never comes must not hold the runtime back
    ]
    service = [f"ExecStart={ONBOARD} can-up %i", "ExecStop=-/sbin/ip link set %i down"]
    return _file(unit, service, ROOTS)


def _boot_check() -> str:
    """Return the check that `current` is a whole release that was found good."""
    unit = [
        "Description=spikewire: boot check",
        "ConditionPathExists=/opt/spikewire/onboard.pyz",
        "Before=mu-runtime.service",
    ]
    return _file(unit, [f"ExecStart={ONBOARD} boot-check"], ROOTS, enabled=True)


def _confirm() -> str:
    """Return the look at a release that was injected: who lives for a while has proven itself."""
    unit = ["Description=spikewire: confirm a first release", "After=mu-runtime.service",
            "ConditionPathExists=/opt/spikewire/onboard.pyz"]
    return _file(unit, [f"ExecStart={ONBOARD} confirm"], ROOTS, enabled=True)


def _rollback() -> str:
    """Return the way back to the last good release, after the runtime has failed for good."""
    once = ROOTS.replace("RemainAfterExit=yes\n", "")  # it may be needed again
    return _file(["Description=spikewire: rollback"], [f"ExecStart={ONBOARD} rollback"],
                 once)


def _file(unit: list[str], service: list[str], more: str, enabled: bool = False) -> str:
    """Join the sections of a unit, leaving out empty lines."""
    lines = ["[Unit]", *filter(None, unit), "", "[Service]", *filter(None, service)]
    text = "\n".join(lines) + "\n" + more
    return text + (f"\n[Install]\nWantedBy={TARGET}\n" if enabled else "")
