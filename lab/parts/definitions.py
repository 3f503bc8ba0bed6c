"""What is handed to libvirt as XML: pool, network, domains. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr


def pool(name: str, path: str) -> str:
    """A storage pool that is a folder."""
    return f"<pool type='dir'><name>{escape(name)}</name><target><path>{escape(path)}</path></target></pool>\n"


def network(name: str, prefix: str, nat: bool) -> str:
    """A guest network PREFIX.0/24 with DHCP; with `nat` guests reach what their host reaches.

    Without, it is of libvirt's kind `open`, the only one that needs no packet filter: it works without iptables too.
    """
    forward = f"<forward mode='{'nat' if nat else 'open'}'/>"
    return f"""<network>
  <name>{escape(name)}</name>{forward}
  <bridge name='virbr0' stp='off' delay='0'/>
  <ip address='{prefix}.1' netmask='255.255.255.0'>
    <dhcp><range start='{prefix}.10' end='{prefix}.199'/></dhcp>
  </ip>
</network>
"""


# QEMU keeps translated code in up to 1 GiB for each guest; a booted Debian fills some 100 MiB of it, and thirty guests
# on one machine could not.
TRANSLATED_MIB = 64
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


def domain(
    name: str, memory_mib: int, vcpus: int, disks: Sequence[str], *, agent: bool = False, machine: str = "pc"
) -> str:
    """A guest for emulation, with its console at a pty and in a log file that `console_log` names.

    `disks` are paths of qcow2 files: vda, vdb, …; `agent` adds a channel for QEMU's guest agent; `machine` is QEMU's.
    """
    targets = "".join(_disk(path, f"vd{chr(ord('a') + number)}") for number, path in enumerate(disks))
    return f"""<domain type='qemu'>
  <name>{escape(name)}</name>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/><tcg><tb-cache unit='MiB'>{TRANSLATED_MIB}</tb-cache></tcg></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>{targets}
    <interface type='network'><source network='default'/><model type='virtio'/></interface>
    <serial type='pty'><log file={quoteattr(console_log(name))} append='off'/><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>{AGENT if agent else ""}
    <controller type='usb' model='none'/>
    <video><model type='none'/></video>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""


def console_log(name: str) -> str:
    """The file, as the host sees it, that holds what a guest of this lab wrote to its console."""
    return f"/var/log/libvirt/qemu/{name}.console.log"


def _disk(path: str, target: str) -> str:
    return f"""
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file={quoteattr(path)}/>
      <target dev='{target}' bus='virtio'/>
    </disk>"""
