"""What is plugged into a VM: disks, CD-ROMs, any other device, and what it boots from."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.devices import (
    VmAttachDevice,
    VmAttachDisk,
    VmAttachIso,
    VmDetachDevice,
    VmDetachDisk,
    VmEject,
    VmSetBootDevice,
    VmUpdateDevice,
)
from maglica.host_worker.device import attaching, boot, detaching, elements, generic, media, plugging
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def vm_attach_disk(want: VmAttachDisk, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle takes the disk out again and removes it if it is new; after the last step it stays."""
    return attaching.attach(want, host, work)


def vm_detach_disk(want: VmDetachDisk, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle plugs the disk in again; a file that was to be removed is still there until the end."""
    return detaching.detach(want, host, work)


def vm_attach_iso(want: VmAttachIso, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle puts the medium before it back; after the last step the new one stays."""
    return media.insert(want, host, work)


def vm_eject(want: VmEject, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle puts the medium back."""
    return media.eject(want, host, work)


def vm_set_boot_device(want: VmSetBootDevice, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old order or the new one."""
    subject = plugging.look(want.name, host)
    before = boot.order(subject.config)
    told: dict[str, Any] = {"name": want.name, "host": host.name, "boot": want.dev, "before": before}
    if before == want.dev:
        return {**told, "changed": False}
    text = boot.with_order(subject.config, want.dev)
    work.will({"boot": want.name, "from": want.dev, "before": before})
    told |= {"restart_needed": subject.live is not None, "changed": True}
    with work.step("define", sign=sign("boots_from", told, uuid=subject.uuid, order=want.dev)):
        plugging.define(subject, text, host, work)
    return told


def vm_attach_device(want: VmAttachDevice, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle takes the device out again."""
    kind = elements.described(want.file, "vm attach-device")
    return generic.attach(want.name, kind, want.file, want.apply, host, work)


def vm_detach_device(want: VmDetachDevice, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle plugs the device in again."""
    kind = elements.described(want.file, "vm detach-device")
    return generic.detach(want.name, kind, want.file, want.apply, want.timeout, host, work)


def vm_update_device(want: VmUpdateDevice, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle changes the device back."""
    kind = elements.described(want.file, "vm update-device")
    return generic.update(want.name, kind, want.file, want.apply, host, work, force=want.force)
