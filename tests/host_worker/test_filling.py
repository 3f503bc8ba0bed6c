"""What an archive has to be to become a guest, and what its disk gets: values in, values out. The rest has real parts:
`tests/lab/test_building.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maglica.errors import Refused
from maglica.host_worker.guest import filling

DEBIAN = {"/usr", "/etc/os-release", "/usr/lib/grub/i386-pc", "/usr/sbin/grub-install"}
FEDORA = {"/usr", "/usr/lib/os-release", "/usr/lib/grub/i386-pc", "/usr/sbin/grub2-install"}


def there(paths: set[str]) -> Callable[[str], bool]:
    return paths.__contains__


@pytest.mark.parametrize(("paths", "menu"), [(DEBIAN, "/boot/grub/grub.cfg"), (FEDORA, "/boot/grub2/grub.cfg")])
def test_a_root_file_system_with_kernel_and_boot_loader_will_do(paths: set[str], menu: str) -> None:
    filling.refuse(there(paths), ["/boot/vmlinuz-6.1"])
    assert filling.loader(there(paths)).file == menu


@pytest.mark.parametrize(
    ("without", "kernels", "why"),
    [
        ("/etc/os-release", ["/boot/vmlinuz"], "no root file system"),
        ("/usr", ["/boot/vmlinuz"], "no root file system"),
        ("", [], "no kernel"),
        ("/usr/lib/grub/i386-pc", ["/boot/vmlinuz"], "no boot loader"),
        ("/usr/sbin/grub-install", ["/boot/vmlinuz"], "no boot loader"),
    ],
)
def test_anything_else_is_refused_with_what_is_missing(without: str, kernels: list[str], why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        filling.refuse(there(DEBIAN - {without}), kernels)
    assert refused.value.code == "wrong_input"
    assert refused.value.hint


def test_the_new_root_stands_alone_among_disks_in_fstab() -> None:
    """A disk of the machine that the archive was made of would be waited for at each boot."""
    old = (
        "# <file system> <mount point>\n"
        "UUID=1234 / ext4 defaults 0 1\n"
        "LABEL=home /home xfs defaults 0 2\n"
        "/dev/vdb1 none swap sw 0 0\n"
        "tmpfs /tmp tmpfs nosuid,nodev 0 0\n"
        "server:/srv /srv nfs defaults 0 0\n"
    )
    assert filling.fstab(old, "abcd") == (
        "UUID=abcd / ext4 errors=remount-ro 0 1\ntmpfs /tmp tmpfs nosuid,nodev 0 0\nserver:/srv /srv nfs defaults 0 0\n"
    )
    assert filling.fstab("", "abcd").count("\n") == 1


def test_the_last_line_says_most() -> None:
    assert filling.last_line("one\n\n  two  \n\n") == "two"
    assert filling.last_line("") == "it said nothing"
