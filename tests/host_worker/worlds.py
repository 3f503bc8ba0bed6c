"""Worlds for libvirt's test driver: it runs inside the process that opens it, and pretends to have guests and pools."""

from __future__ import annotations

from pathlib import Path

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30

IMAGE = "el9.original"

NODE = """<node>
  <cpu><mhz>2000</mhz><model>i686</model><active>8</active><nodes>1</nodes><sockets>1</sockets><cores>8</cores>
    <threads>1</threads></cpu>
  <memory>{memory}</memory>
  <network><name>default</name><bridge name='virbr0'/><ip address='192.0.2.1' netmask='255.255.255.0'/></network>
  <pool type='dir'><name>default-pool</name><target><path>/default-pool</path></target>{volumes}</pool>
  {domains}
</node>
"""

VOLUME = """<volume><name>{name}</name><capacity unit='GiB'>4</capacity><allocation unit='GiB'>1</allocation>
  <target><path>/default-pool/{name}</path></target></volume>"""

RUNNING, SHUT_OFF = 1, 5  # virDomainState


def domain(
    name: str, *, uuid: str = "", disk: str = "", memory: int = 512 * MiB, mac: str = "", state: int = 0, more: str = ""
) -> str:
    """A domain with a disk and a network card. `state` is for worlds only."""
    number = sum(name.encode()) % 256
    return f"""
  <domain type='test'>
    <name>{name}</name>
    {f"<uuid>{uuid}</uuid>" if uuid else ""}
    <memory unit='KiB'>{memory // KiB}</memory>
    <vcpu>1</vcpu>
    <os><type arch='x86_64'>hvm</type></os>
    <devices>
      <disk type='file' device='disk'>
        <source file='{disk or f"/default-pool/{name}.img"}'/><target dev='vda' bus='virtio'/>
      </disk>
      <interface type='network'>
        <mac address='{mac or f"52:54:00:00:00:{number:02x}"}'/><source network='default'/>
      </interface>
      {more}
    </devices>
    {f"<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{state}</test:runstate>" if state else ""}
  </domain>"""


def world(
    folder: Path, *running: str, off: tuple[str, ...] = (), volumes: list[str] | None = None, more: str = ""
) -> str:
    """The URI of a world with these VMs; every one has its disk as a volume unless `volumes` lists others."""
    names = [f"{name}.img" for name in (*running, *off)] if volumes is None else volumes
    domains = [domain(name, state=RUNNING) for name in running] + [domain(name, state=SHUT_OFF) for name in off]
    path = folder / "world.xml"
    path.write_text(
        NODE.format(
            memory=32 * GiB // KiB,
            volumes="".join(VOLUME.format(name=name) for name in names),
            domains="".join(domains) + more,
        )
    )
    return f"test://{path}"


def of_files(folder: Path, pool: Path, *names: str) -> str:
    """The URI of a world in which all are shut off, each with a raw disk that is a real file in the folder `pool`."""
    more = "".join(domain(name, disk=str(pool / f"{name}.img"), state=5) for name in names)
    uri = world(folder, volumes=[f"{name}.img" for name in names], more=more)
    file = folder / "world.xml"
    file.write_text(file.read_text().replace("/default-pool", str(pool)))
    for name in names:
        write(pool / f"{name}.img", b"")
    return uri


def write(path: Path, head: bytes) -> None:
    """A raw disk that begins so."""
    path.write_bytes(head.ljust(MiB, b"\0"))
