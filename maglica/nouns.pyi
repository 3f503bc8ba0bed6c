"""Made from the table by `make derive`; not to be edited."""

from typing import Any

from maglica import config
from maglica.cloud import Connection, GroupHandle, Items, JobHandle

class _AuditList:
    def __call__(self, *, last: int = 50, who: str | None = None, outcome: str | None = None, object: str | None = None) -> Items:
        """List who did what, from where, and whether it was allowed; the newest last."""

class _DiskInfo:
    def __call__(self, *, name: str, target: str) -> dict[str, Any]:
        """Show all about one disk of a VM: size, what it takes on its host, what it rests on, its snapshots."""

class _DiskList:
    def __call__(self, *, name: str) -> Items:
        """List the disks and CD-ROM drives of a VM, of what runs and of its definition."""

class _FleetCreate:
    def __call__(self, *, name: str, template: str | None = None, count: int = 1, forks: int | None = None, ignore_missing: bool = False, image: str | None = None, start: bool | None = None, vcpus: int | None = None, memory: int | str | None = None, mode: str | None = None, pool: str | None = None, customize: str | None = None, wait: str | None = None, wait_timeout: float | str | None = None, on_timeout: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, ssh_key: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, run_at_first_boot: list[str] | str | None = None, timezone: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> list[dict[str, Any]]:
        """Clone VMs called NAME-1, NAME-2, … from a template or an image; numbers continue after the highest."""
    def submit(self, *, name: str, template: str | None = None, count: int = 1, forks: int | None = None, ignore_missing: bool = False, image: str | None = None, start: bool | None = None, vcpus: int | None = None, memory: int | str | None = None, mode: str | None = None, pool: str | None = None, customize: str | None = None, wait: str | None = None, wait_timeout: float | str | None = None, on_timeout: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, ssh_key: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, run_at_first_boot: list[str] | str | None = None, timezone: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, template: str | None = None, count: int = 1, forks: int | None = None, ignore_missing: bool = False, image: str | None = None, start: bool | None = None, vcpus: int | None = None, memory: int | str | None = None, mode: str | None = None, pool: str | None = None, customize: str | None = None, wait: str | None = None, wait_timeout: float | str | None = None, on_timeout: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, ssh_key: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, run_at_first_boot: list[str] | str | None = None, timezone: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> dict[str, Any]: ...

class _FleetList:
    def __call__(self) -> Items:
        """List the fleets: how many VMs they have, how many of them run, and where they are."""

class _FleetRemove:
    def __call__(self, *, name: str, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> list[dict[str, Any]]:
        """Delete VMs of a fleet with their disks, those with the highest numbers first, also when they run."""
    def submit(self, *, name: str, count: int = 1, all: bool = False, forks: int | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> dict[str, Any]: ...

class _FleetRestart:
    def __call__(self, *, name: str, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> list[dict[str, Any]]:
        """Shut down running VMs of a fleet and start them again, those with the lowest numbers first."""
    def submit(self, *, name: str, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> dict[str, Any]: ...

class _FleetStart:
    def __call__(self, *, name: str, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> list[dict[str, Any]]:
        """Start VMs of a fleet, those with the lowest numbers first; those that run already are not counted."""
    def submit(self, *, name: str, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, ignore_missing: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> dict[str, Any]: ...

class _FleetStop:
    def __call__(self, *, name: str, timeout: float | str = 60.0, force: bool = False, kill: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> list[dict[str, Any]]:
        """Shut down running VMs of a fleet, those with the highest numbers first."""
    def submit(self, *, name: str, timeout: float | str = 60.0, force: bool = False, kill: bool = False, count: int = 1, all: bool = False, forks: int | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, timeout: float | str = 60.0, force: bool = False, kill: bool = False, count: int = 1, all: bool = False, forks: int | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> dict[str, Any]: ...

class _HostInfo:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show a host: processors, memory, pools, guests, versions, acceleration."""

class _HostInvite:
    def __call__(self, *, name: str, expires: float | str = 3600.0, address: str | None = None) -> dict[str, Any]:
        """Let a host join: print the one command that is to be run there."""

class _HostList:
    def __call__(self) -> Items:
        """List the hosts: up, degraded, down or not heard of yet, why, and what their last message said."""

class _HostRemove:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Forget a host that is down for good: nobody waits for its answers any more, and what it had begun is lost."""

class _HostRevoke:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Shut a host out: its key is good no more. Its VMs run on; `host invite` lets it in again."""

class _ImageCopy:
    def __call__(self, *, name: str, dest: str, as_: str | None = None, from_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Copy an image to another host, encrypted: its definition and its disks."""
    def submit(self, *, name: str, dest: str, as_: str | None = None, from_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], dest: str, as_: str | None = None, from_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, dest: str, as_: str | None = None, from_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _ImageDependents:
    def __call__(self, *, name: str) -> Items:
        """List what rests on the disks of an image: linked clones, and overlays that no VM has."""

class _ImageExport:
    def __call__(self, *, name: str, format: str = 'qcow2', compress: bool = False, on: str | None = None) -> dict[str, Any]:
        """Write the disks of an image as files into the export folder of a host that has it."""
    def submit(self, *, name: str, format: str = 'qcow2', compress: bool = False, on: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], format: str = 'qcow2', compress: bool = False, on: str | None = None, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, format: str = 'qcow2', compress: bool = False, on: str | None = None) -> dict[str, Any]: ...

class _ImageImport:
    def __call__(self, *, source: str, name: str, on: str | None = None, checksum: str | None = None, format: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str = 'default', efi: bool = False, os: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Make an image of a disk from a URL, or from a file in the import folder of a host."""
    def submit(self, *, source: str, name: str, on: str | None = None, checksum: str | None = None, format: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str = 'default', efi: bool = False, os: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, source: list[str], name: str, on: str | None = None, checksum: str | None = None, format: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str = 'default', efi: bool = False, os: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, source: str, name: str, on: str | None = None, checksum: str | None = None, format: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str = 'default', efi: bool = False, os: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _ImageInfo:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show all that is known of an image: its hosts, whether its copies are the same, its disks as QEMU sees them."""

class _ImageLabel:
    def __call__(self, *, name: str, as_: str, remove: bool = False) -> dict[str, Any]:
        """Let a label mean an image from now on: NAME:LABEL can be used wherever an image is named."""

class _ImageList:
    def __call__(self, *, all: bool = False) -> Items:
        """List the original images: inactive domains whose name ends in .original, or that are marked as images."""

class _ImagePromote:
    def __call__(self, *, name: str, to: str = 'stable') -> dict[str, Any]:
        """Let a label, stable by default, mean what another label means, or a version."""

class _ImageRemove:
    def __call__(self, *, name: str, keep_disks: bool = False) -> dict[str, Any]:
        """Delete an image from a host, with its disks; refused while anything rests on them."""
    def submit(self, *, name: str, keep_disks: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], keep_disks: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, keep_disks: bool = False) -> dict[str, Any]: ...

class _ImageRollback:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Let a label mean again what it meant before."""

class _ImageSeal:
    def __call__(self, *, name: str, as_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Make an image of a copy of a VM that is shut off: what was the machine's own is taken away."""
    def submit(self, *, name: str, as_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], as_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, as_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _ImageUpgrade:
    def __call__(self, *, name: str, as_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Make a new version of an image with all its packages upgraded; the old version stays."""
    def submit(self, *, name: str, as_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], as_: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, as_: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _JobCancel:
    def __call__(self, *, id: str) -> dict[str, Any]:
        """Stop a job. What it has made so far is undone."""

class _JobExplain:
    def __call__(self, *, id: str) -> dict[str, Any]:
        """Tell in plain words what was asked, where it went and why, what happened, what it waits for, what to do next."""

class _JobList:
    def __call__(self, *, last: int = 20, state: str | None = None, vm: str | None = None, host: str | None = None, owner: str | None = None, action: str | None = None, group: str | None = None, since: float | str | None = None, until: float | str | None = None) -> Items:
        """List jobs, the newest last."""

class _JobLog:
    def __call__(self, *, id: str) -> dict[str, Any]:
        """Print a job's story: its steps, the commands they ran with their exit status and last words, its end."""

class _JobPrune:
    def __call__(self, *, older_than: float | str) -> dict[str, Any]:
        """Forget ended jobs before [client] keep_jobs does. Open ones and lost ones without a verdict stay."""

class _JobShow:
    def __call__(self, *, id: str) -> dict[str, Any]:
        """Show everything that is known of a job, or of a group and each of its jobs."""

class _KeyAdd:
    def __call__(self, *, name: str, public_key: str, role: str = 'operator', expires: float | str | None = None) -> dict[str, Any]:
        """Let a public key in whose secret was made elsewhere and stays there."""

class _KeyList:
    def __call__(self) -> Items:
        """List the keys of people and programs, also those that are no longer good."""

class _KeyRevoke:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Shut somebody out, at once: the key is good no more."""

class _LockList:
    def __call__(self, *, vm: str | None = None, host: str | None = None) -> Items:
        """List who holds what since when, and who waits behind it. A lock ends with its job, however that ends."""

class _NicAttach:
    def __call__(self, *, name: str, network: str | None = None, bridge: str | None = None, model: str | None = None, mac: str | None = None, link: str = 'up', apply: str = 'both') -> dict[str, Any]:
        """Give a VM another network card."""
    def submit(self, *, name: str, network: str | None = None, bridge: str | None = None, model: str | None = None, mac: str | None = None, link: str = 'up', apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], network: str | None = None, bridge: str | None = None, model: str | None = None, mac: str | None = None, link: str = 'up', apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, network: str | None = None, bridge: str | None = None, model: str | None = None, mac: str | None = None, link: str = 'up', apply: str = 'both') -> dict[str, Any]: ...

class _NicDetach:
    def __call__(self, *, name: str, mac: str, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]:
        """Take a network card away from a VM, and wait until its guest has let go of it."""
    def submit(self, *, name: str, mac: str, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], mac: str, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, mac: str, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]: ...

class _NicLink:
    def __call__(self, *, name: str, state: str, mac: str | None = None, apply: str = 'both') -> dict[str, Any]:
        """Plug the cable of a network card in, or pull it."""
    def submit(self, *, name: str, state: str, mac: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], state: str, mac: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, state: str, mac: str | None = None, apply: str = 'both') -> dict[str, Any]: ...

class _NicList:
    def __call__(self, *, name: str) -> Items:
        """List the network cards of a VM, of what runs and of its definition."""

class _SnapshotCreate:
    def __call__(self, *, name: str, label: str | None = None, disk_only: bool = False, external: bool = False, memory: bool | None = None, quiesce: bool = False, description: str | None = None) -> dict[str, Any]:
        """Keep the state of a VM: its disks, and its memory when it runs."""
    def submit(self, *, name: str, label: str | None = None, disk_only: bool = False, external: bool = False, memory: bool | None = None, quiesce: bool = False, description: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], label: str | None = None, disk_only: bool = False, external: bool = False, memory: bool | None = None, quiesce: bool = False, description: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, label: str | None = None, disk_only: bool = False, external: bool = False, memory: bool | None = None, quiesce: bool = False, description: str | None = None) -> dict[str, Any]: ...

class _SnapshotCurrent:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show the snapshot that a VM's present state goes back to."""

class _SnapshotInfo:
    def __call__(self, *, name: str, label: str) -> dict[str, Any]:
        """Show all about one snapshot, and why it cannot be reverted to or removed where that is so."""

class _SnapshotList:
    def __call__(self, *, name: str) -> Items:
        """List the snapshots of a VM as a tree."""

class _SnapshotParent:
    def __call__(self, *, name: str, label: str | None = None) -> dict[str, Any]:
        """Show the snapshot from which another one was made."""

class _SnapshotRemove:
    def __call__(self, *, name: str, label: str, created_at: str | None = None, children: bool = False, metadata_only: bool = False) -> dict[str, Any]:
        """Forget a snapshot. The VM keeps its present state."""
    def submit(self, *, name: str, label: str, created_at: str | None = None, children: bool = False, metadata_only: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], label: str, created_at: str | None = None, children: bool = False, metadata_only: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, label: str, created_at: str | None = None, children: bool = False, metadata_only: bool = False) -> dict[str, Any]: ...

class _SnapshotRevert:
    def __call__(self, *, name: str, label: str, state: str = 'same', force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Bring a VM back to a snapshot. What happened since is lost."""
    def submit(self, *, name: str, label: str, state: str = 'same', force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], label: str, state: str = 'same', force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, label: str, state: str = 'same', force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _TemplateAdd:
    def __call__(self, *, name: str, file: str | None = None, replace: bool = False, image: str | None = None, start: bool | None = None, vcpus: int | None = None, memory: int | str | None = None, mode: str | None = None, pool: str | None = None, customize: str | None = None, wait: str | None = None, wait_timeout: float | str | None = None, on_timeout: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, ssh_key: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, run_at_first_boot: list[str] | str | None = None, timezone: str | None = None) -> dict[str, Any]:
        """Keep a template: an image, and whatever else `vm clone` takes that is not of one VM alone."""

class _TemplateList:
    def __call__(self) -> Items:
        """List the templates."""

class _TemplateRemove:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Forget a template. VMs that were made of it stay as they are."""

class _TemplateRender:
    def __call__(self, *, name: str, hostname: str | None = None, image: str | None = None, start: bool | None = None, vcpus: int | None = None, memory: int | str | None = None, mode: str | None = None, pool: str | None = None, customize: str | None = None, wait: str | None = None, wait_timeout: float | str | None = None, on_timeout: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, ssh_key: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, run_at_first_boot: list[str] | str | None = None, timezone: str | None = None) -> dict[str, Any]:
        """Show the command that a template stands for, with what is given beside it."""

class _TemplateShow:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show what a template says."""

class _VmAdopt:
    def __call__(self, *, name: str, owner: str | None = None, tags: list[str] | str | None = None) -> dict[str, Any]:
        """Take a VM over that others made: a mark in its definition says so from now on."""
    def submit(self, *, name: str, owner: str | None = None, tags: list[str] | str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], owner: str | None = None, tags: list[str] | str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, owner: str | None = None, tags: list[str] | str | None = None) -> dict[str, Any]: ...

class _VmAttachDevice:
    def __call__(self, *, name: str, file: str, apply: str = 'both') -> dict[str, Any]:
        """Plug in a device that is described in libvirt's XML."""
    def submit(self, *, name: str, file: str, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: str, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: str, apply: str = 'both') -> dict[str, Any]: ...

class _VmAttachDisk:
    def __call__(self, *, name: str, size: int | str | None = None, source: str | None = None, pool: str | None = None, format: str | None = None, bus: str | None = None, target: str | None = None, cache: str | None = None, serial: str | None = None, apply: str = 'both') -> dict[str, Any]:
        """Give a VM another disk: a new, empty one, or one that lies in a storage pool of its host."""
    def submit(self, *, name: str, size: int | str | None = None, source: str | None = None, pool: str | None = None, format: str | None = None, bus: str | None = None, target: str | None = None, cache: str | None = None, serial: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], size: int | str | None = None, source: str | None = None, pool: str | None = None, format: str | None = None, bus: str | None = None, target: str | None = None, cache: str | None = None, serial: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, size: int | str | None = None, source: str | None = None, pool: str | None = None, format: str | None = None, bus: str | None = None, target: str | None = None, cache: str | None = None, serial: str | None = None, apply: str = 'both') -> dict[str, Any]: ...

class _VmAttachIso:
    def __call__(self, *, name: str, iso: str, target: str | None = None, force: bool = False, apply: str = 'both') -> dict[str, Any]:
        """Put an ISO file into a VM's CD-ROM drive; one that is off gets a drive when it has none."""
    def submit(self, *, name: str, iso: str, target: str | None = None, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], iso: str, target: str | None = None, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, iso: str, target: str | None = None, force: bool = False, apply: str = 'both') -> dict[str, Any]: ...

class _VmAutostart:
    def __call__(self, *, name: str, off: bool = False) -> dict[str, Any]:
        """Have a VM started together with its host, or no longer."""
    def submit(self, *, name: str, off: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], off: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, off: bool = False) -> dict[str, Any]: ...

class _VmBuild:
    def __call__(self, *, name: str, archive: str | None = None, checksum: str | None = None, image: str | None = None, barebones: bool = False, rebuild: bool = False, hook: list[str] | str | None = None, postboot: str | None = None, postboot_timeout: float | str = 600.0, keep_failed: bool = False, disk: int | str | None = None, on: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str | None = None, mac: list[str] | str | None = None, tags: list[str] | str | None = None, start: bool | None = None, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ip: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None) -> dict[str, Any]:
        """Build a VM from an archive of a root file system, from an image, or with an empty disk; or build it anew."""
    def submit(self, *, name: str, archive: str | None = None, checksum: str | None = None, image: str | None = None, barebones: bool = False, rebuild: bool = False, hook: list[str] | str | None = None, postboot: str | None = None, postboot_timeout: float | str = 600.0, keep_failed: bool = False, disk: int | str | None = None, on: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str | None = None, mac: list[str] | str | None = None, tags: list[str] | str | None = None, start: bool | None = None, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ip: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], archive: str | None = None, checksum: str | None = None, image: str | None = None, barebones: bool = False, rebuild: bool = False, hook: list[str] | str | None = None, postboot: str | None = None, postboot_timeout: float | str = 600.0, keep_failed: bool = False, disk: int | str | None = None, on: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str | None = None, mac: list[str] | str | None = None, tags: list[str] | str | None = None, start: bool | None = None, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ip: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, archive: str | None = None, checksum: str | None = None, image: str | None = None, barebones: bool = False, rebuild: bool = False, hook: list[str] | str | None = None, postboot: str | None = None, postboot_timeout: float | str = 600.0, keep_failed: bool = False, disk: int | str | None = None, on: str | None = None, pool: str | None = None, vcpus: int | None = None, memory: int | str | None = None, network: str | None = None, mac: list[str] | str | None = None, tags: list[str] | str | None = None, start: bool | None = None, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ip: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None) -> dict[str, Any]: ...

class _VmChangeAddress:
    def __call__(self, *, name: str, address: str, mac: str | None = None, interface: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Give a network card of a VM another static address, or have it ask by DHCP, in the files of the guest itself."""
    def submit(self, *, name: str, address: str, mac: str | None = None, interface: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], address: str, mac: str | None = None, interface: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, address: str, mac: str | None = None, interface: str | None = None, gateway: str | None = None, dns: list[str] | str | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmClone:
    def __call__(self, *, image: str, hostname: str, on: str | None = None, start: bool = True, vcpus: int | None = None, memory: int | str | None = None, ip: str | None = None, mac: list[str] | str | None = None, mode: str = 'auto', pool: str | None = None, customize: str = 'guestfs', wait: str | None = None, wait_timeout: float | str = 300.0, on_timeout: str = 'keep', format: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, template: str | None = None, fleet: str | None = None, copy_image: str | None = None, ignore_missing: bool = False, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None) -> dict[str, Any]:
        """Clone an image into a new VM that answers to its own name."""
    def submit(self, *, image: str, hostname: str, on: str | None = None, start: bool = True, vcpus: int | None = None, memory: int | str | None = None, ip: str | None = None, mac: list[str] | str | None = None, mode: str = 'auto', pool: str | None = None, customize: str = 'guestfs', wait: str | None = None, wait_timeout: float | str = 300.0, on_timeout: str = 'keep', format: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, template: str | None = None, fleet: str | None = None, copy_image: str | None = None, ignore_missing: bool = False, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, image: str, hostname: list[str] | str, on: str | None = None, start: bool = True, vcpus: int | None = None, memory: int | str | None = None, ip: str | None = None, mac: list[str] | str | None = None, mode: str = 'auto', pool: str | None = None, customize: str = 'guestfs', wait: str | None = None, wait_timeout: float | str = 300.0, on_timeout: str = 'keep', format: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, template: str | None = None, fleet: str | None = None, copy_image: str | None = None, ignore_missing: bool = False, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, image: str, hostname: str, on: str | None = None, start: bool = True, vcpus: int | None = None, memory: int | str | None = None, ip: str | None = None, mac: list[str] | str | None = None, mode: str = 'auto', pool: str | None = None, customize: str = 'guestfs', wait: str | None = None, wait_timeout: float | str = 300.0, on_timeout: str = 'keep', format: str | None = None, disks: list[int | str] | str | None = None, swap: int | str | None = None, networks: list[str] | str | None = None, tags: list[str] | str | None = None, template: str | None = None, fleet: str | None = None, copy_image: str | None = None, ignore_missing: bool = False, gateway: str | None = None, dns: list[str] | str | None = None, ssh_key: str | None = None, root_password_hash: str | None = None, customize_profile: str | None = None, write: list[str] | dict[str, str] | None = None, upload: list[dict[str, Any]] | dict[str, bytes] | None = None, run_at_first_boot: list[str] | str | None = None, user: list[dict[str, Any]] | str | None = None, timezone: str | None = None) -> dict[str, Any]: ...

class _VmConf:
    def __call__(self, *, name: str, stored: bool = False, format: str = 'xml', secrets: bool = False) -> dict[str, Any]:
        """Print a VM's definition as XML, or as a tree: of what runs, where it runs; passwords are masked."""

class _VmDefine:
    def __call__(self, *, name: str, file: str | None = None, on: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Define a VM from a file, or from what its host remembers of it; its disks are there already."""
    def submit(self, *, name: str, file: str | None = None, on: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: str | None = None, on: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: str | None = None, on: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmDescribe:
    def __call__(self, *, name: str, text: str) -> dict[str, Any]:
        """Keep a line of text with a VM."""
    def submit(self, *, name: str, text: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], text: str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, text: str) -> dict[str, Any]: ...

class _VmDestroy:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Pull the plug of a VM. Its disks stay."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmDetachDevice:
    def __call__(self, *, name: str, file: str, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]:
        """Unplug the device that libvirt's XML describes, and wait until the guest has let go of it."""
    def submit(self, *, name: str, file: str, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: str, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: str, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]: ...

class _VmDetachDisk:
    def __call__(self, *, name: str, target: str, path: str | None = None, remove: bool = False, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]:
        """Take a disk away from a VM, and wait until its guest has let go of it. The disk itself stays, or is removed."""
    def submit(self, *, name: str, target: str, path: str | None = None, remove: bool = False, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], target: str, path: str | None = None, remove: bool = False, timeout: float | str = 60.0, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, target: str, path: str | None = None, remove: bool = False, timeout: float | str = 60.0, apply: str = 'both') -> dict[str, Any]: ...

class _VmDiff:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show what will be otherwise in a VM after its next start: what runs against its stored definition."""

class _VmDisplay:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show how a VM's screen is reached: VNC or SPICE, address, port, and whether it has a password."""

class _VmDump:
    def __call__(self, *, name: str, memory_only: bool = False, live: bool = False, pool: str | None = None) -> dict[str, Any]:
        """Write a core dump of a VM to a file in a pool of its host, for crash(8) or gdb; it stands still meanwhile."""
    def submit(self, *, name: str, memory_only: bool = False, live: bool = False, pool: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], memory_only: bool = False, live: bool = False, pool: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, memory_only: bool = False, live: bool = False, pool: str | None = None) -> dict[str, Any]: ...

class _VmEject:
    def __call__(self, *, name: str, target: str | None = None, path: str | None = None, force: bool = False, apply: str = 'both') -> dict[str, Any]:
        """Take the medium out of a VM's CD-ROM drive."""
    def submit(self, *, name: str, target: str | None = None, path: str | None = None, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], target: str | None = None, path: str | None = None, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, target: str | None = None, path: str | None = None, force: bool = False, apply: str = 'both') -> dict[str, Any]: ...

class _VmExec:
    def __call__(self, *, name: str, command: list[str] | str, timeout: float | str = 60.0, input: bytes | str | dict[str, Any] | None = None) -> dict[str, Any]:
        """Run a command in a guest as root; its output and its exit status are this command's."""
    def submit(self, *, name: str, command: list[str] | str, timeout: float | str = 60.0, input: bytes | str | dict[str, Any] | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], command: list[str] | str, timeout: float | str = 60.0, input: bytes | str | dict[str, Any] | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, command: list[str] | str, timeout: float | str = 60.0, input: bytes | str | dict[str, Any] | None = None) -> dict[str, Any]: ...

class _VmFind:
    def __call__(self, *, what: str) -> Items:
        """Find VMs by a MAC or IP address, a UUID or its beginning, or the path of a disk or of what it rests on."""

class _VmFlatten:
    def __call__(self, *, name: str, bandwidth: int | str | None = None) -> dict[str, Any]:
        """Make the disks of a linked clone its own, so that it depends on its image no more; it may run meanwhile."""
    def submit(self, *, name: str, bandwidth: int | str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], bandwidth: int | str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, bandwidth: int | str | None = None) -> dict[str, Any]: ...

class _VmForget:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Leave a VM to itself that was adopted: our mark is taken from its definition, and nothing else."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmFstrim:
    def __call__(self, *, name: str, minimum: int | str | None = None) -> dict[str, Any]:
        """Let a running guest tell its disks which blocks are free, so that thin ones get smaller."""
    def submit(self, *, name: str, minimum: int | str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], minimum: int | str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, minimum: int | str | None = None) -> dict[str, Any]: ...

class _VmHistory:
    def __call__(self, *, name: str, last: int = 20) -> Items:
        """Show what was done to a VM: its jobs, the newest last; also of one that is gone."""

class _VmImport:
    def __call__(self, *, name: str, qemu_args: str, on: str | None = None, network: str | None = None, ignore_missing: bool = False) -> dict[str, Any]:
        """Define a VM from a file of QEMU's options, one on a line; its disks are there already."""
    def submit(self, *, name: str, qemu_args: str, on: str | None = None, network: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], qemu_args: str, on: str | None = None, network: str | None = None, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, count: int | None = None, first: int | str = 1, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, qemu_args: str, on: str | None = None, network: str | None = None, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmInfo:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show all that is known of a VM: state, resources, disks, network cards, addresses, console."""

class _VmInterfaces:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show the network cards of a running guest with their addresses, as it sees them itself."""

class _VmList:
    def __call__(self, *, all: bool = False, host: str | None = None, state: str | None = None, name: str | None = None, tag: str | None = None, owner: str | None = None) -> Items:
        """List the VMs of all hosts, as they are at this moment."""

class _VmManagedsave:
    def __call__(self, *, name: str, discard: bool = False) -> dict[str, Any]:
        """Switch a VM off so that its next start lets it go on where it was; libvirt keeps its memory."""
    def submit(self, *, name: str, discard: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], discard: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, discard: bool = False) -> dict[str, Any]: ...

class _VmNmi:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Send a non-maskable interrupt to a VM: many a kernel writes a crash dump then, or panics."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmOwner:
    def __call__(self, *, name: str, owner: str) -> dict[str, Any]:
        """Say whose a VM is."""
    def submit(self, *, name: str, owner: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], owner: str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, owner: str) -> dict[str, Any]: ...

class _VmPasswd:
    def __call__(self, *, name: str, user: str, password_hash: str) -> dict[str, Any]:
        """Set the password of a user of a running guest, given as a hash."""
    def submit(self, *, name: str, user: str, password_hash: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], user: str, password_hash: str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, user: str, password_hash: str) -> dict[str, Any]: ...

class _VmPin:
    def __call__(self, *, name: str, cpus: str, vcpus: str = 'all', emulator: bool = False, apply: str = 'both') -> dict[str, Any]:
        """Let the virtual CPUs of a VM, or what emulates its devices, run on some of the host's CPUs only."""
    def submit(self, *, name: str, cpus: str, vcpus: str = 'all', emulator: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], cpus: str, vcpus: str = 'all', emulator: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, cpus: str, vcpus: str = 'all', emulator: bool = False, apply: str = 'both') -> dict[str, Any]: ...

class _VmPinning:
    def __call__(self, *, name: str) -> Items:
        """Show on which of the host's CPUs a VM may run."""

class _VmPmsuspend:
    def __call__(self, *, name: str, to: str = 'mem', timeout: float | str = 60.0) -> dict[str, Any]:
        """Have a guest put itself to sleep; its agent does that."""
    def submit(self, *, name: str, to: str = 'mem', timeout: float | str = 60.0, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], to: str = 'mem', timeout: float | str = 60.0, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, to: str = 'mem', timeout: float | str = 60.0) -> dict[str, Any]: ...

class _VmPmwakeup:
    def __call__(self, *, name: str, ignore_missing: bool = False) -> dict[str, Any]:
        """Wake a guest up that sleeps in memory."""
    def submit(self, *, name: str, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmProtect:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Protect a VM: whatever could destroy something of it is refused."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmPut:
    def __call__(self, *, name: str, file: bytes | str | dict[str, Any], to: str, mode: int | str | None = None, owner: str | None = None) -> dict[str, Any]:
        """Copy a file of this machine into a running guest; who looks sees the old one or the new one, whole."""
    def submit(self, *, name: str, file: bytes | str | dict[str, Any], to: str, mode: int | str | None = None, owner: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: bytes | str | dict[str, Any], to: str, mode: int | str | None = None, owner: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: bytes | str | dict[str, Any], to: str, mode: int | str | None = None, owner: str | None = None) -> dict[str, Any]: ...

class _VmReadFile:
    def __call__(self, *, name: str, path: str, offset: int = 0, length: int = 1048576) -> dict[str, Any]:
        """Show a piece of a file of a running guest; `vm get` brings whole ones."""

class _VmReboot:
    def __call__(self, *, name: str, through: str = 'auto', timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0) -> dict[str, Any]:
        """Ask the guest of a VM to boot anew, and wait until it has come down and up; its QEMU goes on."""
    def submit(self, *, name: str, through: str = 'auto', timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], through: str = 'auto', timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, through: str = 'auto', timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0) -> dict[str, Any]: ...

class _VmRedefine:
    def __call__(self, *, name: str, file: str | None = None) -> dict[str, Any]:
        """Give a VM another definition; what runs takes it with its next start."""
    def submit(self, *, name: str, file: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: str | None = None) -> dict[str, Any]: ...

class _VmRemove:
    def __call__(self, *, name: str, keep_disks: bool = False, force: bool = False, uuid: str | None = None, made_by: str | None = None) -> dict[str, Any]:
        """Delete a VM that is shut off, with its disks; refused while another VM uses them."""
    def submit(self, *, name: str, keep_disks: bool = False, force: bool = False, uuid: str | None = None, made_by: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], keep_disks: bool = False, force: bool = False, uuid: str | None = None, made_by: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, keep_disks: bool = False, force: bool = False, uuid: str | None = None, made_by: str | None = None) -> dict[str, Any]: ...

class _VmRename:
    def __call__(self, *, name: str, to: str, offline: bool = False, customize: str = 'guestfs', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Give a VM another name: its disks, its console's log and its host name inside follow."""
    def submit(self, *, name: str, to: str, offline: bool = False, customize: str = 'guestfs', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], to: str, offline: bool = False, customize: str = 'guestfs', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, to: str, offline: bool = False, customize: str = 'guestfs', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmReset:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Press the reset button of a VM: what its guest has not written is lost."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmRestart:
    def __call__(self, *, name: str, timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, redefine: bool = False) -> dict[str, Any]:
        """Shut a VM down gracefully and start it again."""
    def submit(self, *, name: str, timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, redefine: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, redefine: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, timeout: float | str = 60.0, force: bool = False, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, redefine: bool = False) -> dict[str, Any]: ...

class _VmRestore:
    def __call__(self, *, name: str, paused: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Let a VM go on where `vm save` left it, and delete the file; refused when its disks were written since."""
    def submit(self, *, name: str, paused: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], paused: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, paused: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmResume:
    def __call__(self, *, name: str, ignore_missing: bool = False) -> dict[str, Any]:
        """Let a VM go on that was held still."""
    def submit(self, *, name: str, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmSave:
    def __call__(self, *, name: str, pool: str | None = None) -> dict[str, Any]:
        """Write the memory of a VM to a file in a pool of its host, and switch it off; `vm restore` lets it go on."""
    def submit(self, *, name: str, pool: str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], pool: str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, pool: str | None = None) -> dict[str, Any]: ...

class _VmScreenshot:
    def __call__(self, *, name: str, file: str | None = None, screen: int = 0) -> dict[str, Any]:
        """Write what a VM shows on its screen to a PNG file of this terminal's machine."""

class _VmSendKey:
    def __call__(self, *, name: str, keys: list[str] | str, hold: float | str = 0.1) -> dict[str, Any]:
        """Press keys of a VM's keyboard, one stroke after the other."""
    def submit(self, *, name: str, keys: list[str] | str, hold: float | str = 0.1, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], keys: list[str] | str, hold: float | str = 0.1, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, keys: list[str] | str, hold: float | str = 0.1) -> dict[str, Any]: ...

class _VmSetBootDevice:
    def __call__(self, *, name: str, dev: list[str] | str) -> dict[str, Any]:
        """Say what a VM boots from, in which order. It matters from its next start on."""
    def submit(self, *, name: str, dev: list[str] | str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], dev: list[str] | str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, dev: list[str] | str) -> dict[str, Any]: ...

class _VmSetDisk:
    def __call__(self, *, name: str, size: int | str, target: str | None = None, grow: bool = True) -> dict[str, Any]:
        """Make a disk of a VM larger, with the partition and the file system at its end; it may run meanwhile."""
    def submit(self, *, name: str, size: int | str, target: str | None = None, grow: bool = True, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], size: int | str, target: str | None = None, grow: bool = True, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, size: int | str, target: str | None = None, grow: bool = True) -> dict[str, Any]: ...

class _VmSetIoWeight:
    def __call__(self, *, name: str, weight: int, apply: str = 'both') -> dict[str, Any]:
        """Set a VM's share of the host's disks against other VMs: 500 is what most have."""
    def submit(self, *, name: str, weight: int, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], weight: int, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, weight: int, apply: str = 'both') -> dict[str, Any]: ...

class _VmSetMaxMemory:
    def __call__(self, *, name: str, size: int | str, slots: int | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Set how much memory a VM can be given while it runs; it takes effect at its next start."""
    def submit(self, *, name: str, size: int | str, slots: int | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], size: int | str, slots: int | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, size: int | str, slots: int | None = None, offline: bool = False, timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmSetMemory:
    def __call__(self, *, name: str, size: int | str, offline: bool = False, shrink: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Give a VM more or less memory, while it runs where that is possible."""
    def submit(self, *, name: str, size: int | str, offline: bool = False, shrink: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], size: int | str, offline: bool = False, shrink: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, size: int | str, offline: bool = False, shrink: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmSetState:
    def __call__(self, *, name: str, state: str) -> dict[str, Any]:
        """Say of a VM that it is online, in maintenance, or retired; one that is retired is not started."""
    def submit(self, *, name: str, state: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], state: str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, state: str) -> dict[str, Any]: ...

class _VmSetTime:
    def __call__(self, *, name: str, to: str = 'now') -> dict[str, Any]:
        """Set a guest's clock through its agent: to its host's time, or to another one."""
    def submit(self, *, name: str, to: str = 'now', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], to: str = 'now', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, to: str = 'now') -> dict[str, Any]: ...

class _VmSetVcpus:
    def __call__(self, *, name: str, vcpus: int | str, max: int | None = None, offline: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]:
        """Give a VM another number of virtual CPUs, while it runs where that is possible."""
    def submit(self, *, name: str, vcpus: int | str, max: int | None = None, offline: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], vcpus: int | str, max: int | None = None, offline: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, vcpus: int | str, max: int | None = None, offline: bool = False, apply: str = 'both', timeout: float | str = 60.0, force: bool = False, ignore_missing: bool = False) -> dict[str, Any]: ...

class _VmSshKey:
    def __call__(self, *, name: str, user: str, key: str, remove: bool = False) -> dict[str, Any]:
        """Let the owners of keys log in to a running guest by ssh as a user, or no more."""
    def submit(self, *, name: str, user: str, key: str, remove: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], user: str, key: str, remove: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, user: str, key: str, remove: bool = False) -> dict[str, Any]: ...

class _VmStart:
    def __call__(self, *, name: str, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, discard: bool = False) -> dict[str, Any]:
        """Start a VM."""
    def submit(self, *, name: str, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, discard: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, discard: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, wait: str | None = None, wait_timeout: float | str = 300.0, ignore_missing: bool = False, ignore_changed_base: bool = False, discard: bool = False) -> dict[str, Any]: ...

class _VmStats:
    def __call__(self, *, name: str, interval: float | str | None = None) -> dict[str, Any]:
        """Show what a VM uses: processors, memory, disks, network cards; with --interval how much in each second."""

class _VmStop:
    def __call__(self, *, name: str, timeout: float | str = 60.0, force: bool = False) -> dict[str, Any]:
        """Shut a VM down gracefully and wait until it is off."""
    def submit(self, *, name: str, timeout: float | str = 60.0, force: bool = False, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], timeout: float | str = 60.0, force: bool = False, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, timeout: float | str = 60.0, force: bool = False) -> dict[str, Any]: ...

class _VmSuspend:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Hold a VM still: its memory stays, its processors stop."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmSync:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Bring what the host remembers of a VM up to what it is, and tell what has changed beside us."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmTag:
    def __call__(self, *, name: str, tags: list[str] | str) -> dict[str, Any]:
        """Keep words with a VM, beside those that it has."""
    def submit(self, *, name: str, tags: list[str] | str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], tags: list[str] | str, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, tags: list[str] | str) -> dict[str, Any]: ...

class _VmTime:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Show what time it is in a guest, as its agent says, and how far that is from its host's."""

class _VmTune:
    def __call__(self, *, name: str, kind: str, set: list[str] | dict[str, Any], device: str | None = None, apply: str = 'both') -> dict[str, Any]:
        """Set what a VM may take of its host; `vm tuning` shows what can be set, and what is."""
    def submit(self, *, name: str, kind: str, set: list[str] | dict[str, Any], device: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], kind: str, set: list[str] | dict[str, Any], device: str | None = None, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, kind: str, set: list[str] | dict[str, Any], device: str | None = None, apply: str = 'both') -> dict[str, Any]: ...

class _VmTuning:
    def __call__(self, *, name: str, kind: str, device: str | None = None) -> Items:
        """Show what a VM may take of its host, as it runs and at its next start."""

class _VmUndefine:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Forget the definition of a VM that is off. Its disks stay, and so does what its host remembers of it."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmUnprotect:
    def __call__(self, *, name: str) -> dict[str, Any]:
        """Protect a VM no more."""
    def submit(self, *, name: str, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str) -> dict[str, Any]: ...

class _VmUntag:
    def __call__(self, *, name: str, tags: list[str] | str | None = None) -> dict[str, Any]:
        """Take words from a VM."""
    def submit(self, *, name: str, tags: list[str] | str | None = None, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], tags: list[str] | str | None = None, reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, tags: list[str] | str | None = None) -> dict[str, Any]: ...

class _VmUpdateDevice:
    def __call__(self, *, name: str, file: str, force: bool = False, apply: str = 'both') -> dict[str, Any]:
        """Change a device to what libvirt's XML describes, as far as libvirt can change that kind of device."""
    def submit(self, *, name: str, file: str, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None) -> JobHandle: ...
    def submit_many(self, *, name: list[str], file: str, force: bool = False, apply: str = 'both', reason: str | None = None, idempotency_key: str | None = None, spread: str = 'host', max_parallel: int | None = None, on_failure: str = 'keep-going', min: int | None = None) -> GroupHandle: ...
    def plan(self, *, name: str, file: str, force: bool = False, apply: str = 'both') -> dict[str, Any]: ...

class Audit:
    list: _AuditList

class Disk:
    info: _DiskInfo
    list: _DiskList

class Fleet:
    create: _FleetCreate
    list: _FleetList
    remove: _FleetRemove
    restart: _FleetRestart
    start: _FleetStart
    stop: _FleetStop

class Host:
    info: _HostInfo
    invite: _HostInvite
    list: _HostList
    remove: _HostRemove
    revoke: _HostRevoke

class Image:
    copy: _ImageCopy
    dependents: _ImageDependents
    export: _ImageExport
    import_: _ImageImport
    info: _ImageInfo
    label: _ImageLabel
    list: _ImageList
    promote: _ImagePromote
    remove: _ImageRemove
    rollback: _ImageRollback
    seal: _ImageSeal
    upgrade: _ImageUpgrade

class Job:
    cancel: _JobCancel
    explain: _JobExplain
    list: _JobList
    log: _JobLog
    prune: _JobPrune
    show: _JobShow

class Key:
    add: _KeyAdd
    list: _KeyList
    revoke: _KeyRevoke

class Lock:
    list: _LockList

class Nic:
    attach: _NicAttach
    detach: _NicDetach
    link: _NicLink
    list: _NicList

class Snapshot:
    create: _SnapshotCreate
    current: _SnapshotCurrent
    info: _SnapshotInfo
    list: _SnapshotList
    parent: _SnapshotParent
    remove: _SnapshotRemove
    revert: _SnapshotRevert

class Template:
    add: _TemplateAdd
    list: _TemplateList
    remove: _TemplateRemove
    render: _TemplateRender
    show: _TemplateShow

class Vm:
    adopt: _VmAdopt
    attach_device: _VmAttachDevice
    attach_disk: _VmAttachDisk
    attach_iso: _VmAttachIso
    autostart: _VmAutostart
    build: _VmBuild
    change_address: _VmChangeAddress
    clone: _VmClone
    conf: _VmConf
    define: _VmDefine
    describe: _VmDescribe
    destroy: _VmDestroy
    detach_device: _VmDetachDevice
    detach_disk: _VmDetachDisk
    diff: _VmDiff
    display: _VmDisplay
    dump: _VmDump
    eject: _VmEject
    exec: _VmExec
    find: _VmFind
    flatten: _VmFlatten
    forget: _VmForget
    fstrim: _VmFstrim
    history: _VmHistory
    import_: _VmImport
    info: _VmInfo
    interfaces: _VmInterfaces
    list: _VmList
    managedsave: _VmManagedsave
    nmi: _VmNmi
    owner: _VmOwner
    passwd: _VmPasswd
    pin: _VmPin
    pinning: _VmPinning
    pmsuspend: _VmPmsuspend
    pmwakeup: _VmPmwakeup
    protect: _VmProtect
    put: _VmPut
    read_file: _VmReadFile
    reboot: _VmReboot
    redefine: _VmRedefine
    remove: _VmRemove
    rename: _VmRename
    reset: _VmReset
    restart: _VmRestart
    restore: _VmRestore
    resume: _VmResume
    save: _VmSave
    screenshot: _VmScreenshot
    send_key: _VmSendKey
    set_boot_device: _VmSetBootDevice
    set_disk: _VmSetDisk
    set_io_weight: _VmSetIoWeight
    set_max_memory: _VmSetMaxMemory
    set_memory: _VmSetMemory
    set_state: _VmSetState
    set_time: _VmSetTime
    set_vcpus: _VmSetVcpus
    ssh_key: _VmSshKey
    start: _VmStart
    stats: _VmStats
    stop: _VmStop
    suspend: _VmSuspend
    sync: _VmSync
    tag: _VmTag
    time: _VmTime
    tune: _VmTune
    tuning: _VmTuning
    undefine: _VmUndefine
    unprotect: _VmUnprotect
    untag: _VmUntag
    update_device: _VmUpdateDevice

class Cloud(Connection):
    audit: Audit
    disk: Disk
    fleet: Fleet
    host: Host
    image: Image
    job: Job
    key: Key
    lock: Lock
    nic: Nic
    snapshot: Snapshot
    template: Template
    vm: Vm
    def __init__(self, settings: config.Settings) -> None: ...

def connect(
    client: str | None = None, *, config_file: str | None = None, key: str | None = None
) -> Cloud: ...
