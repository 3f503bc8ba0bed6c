"""Real daemons for tests: started and ended by their handles, on free ports, everything in one folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import zlib
from pathlib import Path
from typing import Any

import maglica
from maglica import config, keys
from maglica.bus import Client, new_pair
from maglica.errors import MaglicaError
from maglica.keys import Key
from maglica.nouns import Cloud
from tests.waiting import until

HOME = Path(__file__).resolve().parents[1]

RUNNING, SHUT_OFF = 1, 5  # virDomainState

DOMAIN = """
  <domain type='test'>
    <name>{name}</name>
    <memory unit='MiB'>{memory}</memory>
    <vcpu>1</vcpu>
    <os><type arch='x86_64'>hvm</type></os>
    <devices>
      <disk type='file' device='disk'>
        <source file='/default-pool/{name}.img'/>
        <target dev='vda' bus='virtio'/>
      </disk>
      <interface type='network'>
        <mac address='{mac}'/>
        <source network='default'/>
      </interface>
    </devices>
    <test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{state}</test:runstate>
  </domain>"""

NODE = """<node>
  <cpu><mhz>2000</mhz><model>i686</model><active>16</active><nodes>2</nodes><sockets>2</sockets><cores>2</cores>
    <threads>2</threads></cpu>
  <memory>33554432</memory>
  <network><name>default</name><bridge name='virbr0'/><forward/>
    <ip address='192.168.122.1' netmask='255.255.255.0'/></network>
  <pool type='dir'><name>default-pool</name><target><path>/default-pool</path></target>{volumes}</pool>{domains}
</node>
"""

VOLUME = """
    <volume><name>{name}.img</name><capacity unit='GiB'>4</capacity>
      <target><path>/default-pool/{name}.img</path></target></volume>"""


def _mac(name: str) -> str:
    """One for each name: two VMs of one address, on whatever hosts, do not run at a time."""
    number = zlib.crc32(name.encode()) & 0xFFFFFF
    return f"52:54:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def node(vms: dict[str, int], memory: int = 512) -> str:
    """A world for libvirt's test driver: these VMs in these states, 32 GiB of memory, one pool, one network."""
    domains = [DOMAIN.format(name=name, state=state, memory=memory, mac=_mac(name)) for name, state in vms.items()]
    return NODE.format(domains="".join(domains), volumes="".join(VOLUME.format(name=name) for name in vms))


def free_ports(count: int) -> list[int]:
    """Ports that nobody used a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Daemon:
    """One process of ours; its log is a file."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self.argv, self._log = argv, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def start(self, *options: str) -> None:
        """`options`: for this start only."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.argv, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, timeout: float = 15.0) -> int:
        """End it in good order; its exit status."""
        if self.alive:
            self.signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it at once, as a power cut would; also when it was stopped by SIGSTOP."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


class House:
    """A client worker and as many host workers as a test wants, and the command line and the library for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pub_port, self.rep_port = free_ports(2)
        self.config = folder / "maglica.conf"
        self.hosts: dict[str, Daemon] = {}
        self._scripts: list[Any] = []
        self._spawned: list[subprocess.Popen[str]] = []
        self.configure()
        self._make_keys()
        self.client_worker = self.daemon("maglica_client_worker", f"--config={self.config}", log="client_worker")

    def configure(self, *sections: str, client: str = "", host_worker: str = "", beat: str = "0.2s") -> None:
        """Write the settings file: more lines for two sections, and more sections."""
        text = f"""
[client]
address = 127.0.0.1
bind = 127.0.0.1
pub_port = {self.pub_port}
rep_port = {self.rep_port}
beat = {beat}
{client}
[host_worker]
acceleration = tcg
{host_worker}
[paths]
state = {self.folder}/state
keys = {self.folder}/keys
"""
        self.config.write_text(text + "\n".join(sections))

    def _make_keys(self) -> None:
        """As the client worker would at its first start: commands have a key also while it is not there."""
        server, admin, folder = new_pair(), new_pair(), str(self.folder / "keys")
        keys.save(os.path.join(folder, keys.SERVER_FILE), Key("client worker", *server))
        where = ("127.0.0.1", self.pub_port, self.rep_port)
        own = Key(keys.ADMIN_NAME, admin.public, admin.secret, server.public, *where)
        keys.save(os.path.join(folder, keys.ADMIN_FILE), own)

    def daemon(self, program: str, *options: str, log: str) -> Daemon:
        return Daemon([str(HOME / "bin" / program), *options], self.folder / f"{log}.log")

    # ---------------------------------------------------------------------------------------- daemons

    def start(self) -> None:
        """Start the client worker and wait until it answers."""
        self.client_worker.start()
        until(lambda: self._answers() or self._ended(self.client_worker), 30, "the client worker answers")

    def _ended(self, daemon: Daemon) -> bool:
        assert daemon.alive, daemon.log
        return False

    def _answers(self) -> bool:
        client = Client("127.0.0.1", self.rep_port, None if self.is_open else self.admin())
        try:
            return bool(client.ask({"op": "ping"}, 0.2)["ok"])
        except MaglicaError:
            return False
        finally:
            client.close()

    @property
    def is_open(self) -> bool:
        return self.settings().client.security == "none"

    def admin(self) -> Key:
        """The key that the client worker made for root on its machine."""
        return keys.load(str(self.folder / "keys" / keys.ADMIN_FILE))

    def start_host(self, name: str, vms: dict[str, int] | None = None, *, wait: bool = True) -> Daemon:
        """Start a host worker on a world of the test driver, and wait until it is up."""
        world = self.folder / f"{name}.xml"
        if vms is not None or not world.exists():
            world.write_text(node(vms or {}))
        settings = self.folder / f"{name}.conf"
        settings.write_text(
            self.config.read_text().replace("[host_worker]", f"[host_worker]\nlibvirt_uri = test://{world}")
        )
        self.hosts[name] = self.daemon("maglica_host_worker", f"--config={settings}", f"--name={name}", log=name)
        self.hosts[name].start(*self.invitation(name))
        if wait:
            with self.connect() as cloud:
                until(lambda: self._up(cloud, name) or self._ended(self.hosts[name]), 30, f"{name} is up")
        return self.hosts[name]

    def invitation(self, name: str) -> list[str]:
        """The option by which a host worker joins, when it has not yet."""
        if self.is_open or os.path.exists(keys.host_file(str(self.folder / "keys"), name)):
            return []
        with self.connect() as cloud:
            return [f"--join={cloud.host.invite(name=name)['token']}"]

    def host_key(self, name: str) -> Key:
        """A key for a host that a test plays itself."""
        with self.connect() as cloud:
            invited = keys.invitation(cloud.host.invite(name=name)["token"])
        key = Key(name, *new_pair(), self.admin().server, "127.0.0.1", self.pub_port, self.rep_port)
        client = Client("127.0.0.1", self.rep_port, key)
        try:
            client.ask({"op": "join", "host": name, "secret": invited.secret}, 10)
        finally:
            client.close()
        return key

    def _up(self, cloud: Cloud, name: str) -> bool:
        return any(
            host["name"] == name and host["state"] == "up" and host["libvirt"] == "ok" for host in cloud.host.list()
        )

    def close(self) -> None:
        """End every process."""
        for process in self._spawned:
            with process:  # closes its pipes and waits
                process.kill()
        for script in self._scripts:
            script.stop()
        for daemon in [*self.hosts.values(), self.client_worker]:
            daemon.kill()

    def add(self, script: Any) -> Any:
        """Something with `stop()` that shall end with the house."""
        self._scripts.append(script)
        return script

    # --------------------------------------------------------------------------------------- its users

    def connect(self) -> Cloud:
        """The library; to be closed."""
        return maglica.connect(config_file=str(self.config))

    def settings(self) -> config.Settings:
        return config.load(str(self.config))

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the command line: nothing of the tester's own settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAGLICA_")}
        return {**kept, "MAGLICA_CONFIG": str(self.config), "NO_COLOR": "1", **more}

    def cli(self, *words: str, timeout: float = 20.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command without a terminal."""
        return subprocess.run(
            [str(HOME / "bin" / "maglica"), *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            env=self.environment(**environment), check=False,
        )  # fmt: skip

    def spawn(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start one command without a terminal, and do not wait for it."""
        process = subprocess.Popen(
            [str(HOME / "bin" / "maglica"), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(**environment), start_new_session=True,
        )  # fmt: skip
        self._spawned.append(process)
        return process
