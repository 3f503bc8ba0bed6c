"""What a VM's record forbids: nothing of a protected one is destroyed, and a retired one is not started."""

from __future__ import annotations

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.domain import domain_xml, record
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host


def refuse_protected(name: str, verb: str, host: Host) -> None:
    """Every destructive verb comes by here first (`jobs.function` sees to it). A VM that does not exist passes: the
    verb itself knows what to say of that.
    """
    try:
        domain = domain_xml.read(host.hypervisor.definition(name))
    except MaglicaError as error:
        if error.code == "unknown_entity":
            return
        raise
    if record.told(domain.mark)["protected"]:
        raise Refused(
            "protected",
            f"{name} is protected: `{verb}` could destroy something of it",
            f"if it has to be, `maglica vm unprotect {name}` first",
        )


def refuse_image(domain: Domain) -> None:
    """Before a VM is started: what was imported, sealed or copied as an image stays as it is. A VM that only has the
    name of an image may be started, as long as nothing rests on its disks.
    """
    if domain.mark.get("kind") == "image":
        raise Refused(
            "protected",
            f"{domain.name} is an image: it is cloned, never started",
            f"`maglica vm clone --image={domain.name} --hostname=…`; `maglica image seal` makes an image of a"
            " clone that was changed",
        )


def refuse_retired(domain: Domain) -> None:
    """Before a VM is started."""
    if record.told(domain.mark)["record_state"] == record.RETIRED:
        raise Refused(
            "wrong_state",
            f"{domain.name} is retired: it is kept, but not started",
            f"`maglica vm set-state {domain.name} --state=online` brings it back into service",
        )
