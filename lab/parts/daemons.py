"""Maglica's own daemons in a lab: their settings, starting, stopping, and knowing when the lab is ready."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import host, process
from .names import CHECKOUT, PUB_PORT, REP_PORT, Lab
from .shell import LabError, run, say, tail_of, wait_until

CLIENT = "client"
READY_LIMIT = 60.0
# Emulated guests are slow: what a job does in 2 s with KVM takes 20 s here, and minutes beside other work
STOP_GRACE = 60.0
STOP_LIMIT = STOP_GRACE + 20.0  # jobs that are cut short are undone, and the last outcomes are told
WEIGHT = 10
Settings = Mapping[str, Mapping[str, object]]


def write_config(path: Path, settings: Settings) -> None:
    """Write an INI file."""
    lines = []
    for section, pairs in settings.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in pairs.items()), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def client_section(address: str, pub_port: int = PUB_PORT, rep_port: int = REP_PORT) -> dict[str, object]:
    """Where the client worker is, in the words of every settings file."""
    return {"address": address, "pub_port": pub_port, "rep_port": rep_port}


def paths_section(folder: Path) -> dict[str, object]:
    """A daemon's private folders."""
    return {"state": folder / "state", "keys": folder / "keys"}


def configure(lab: Lab, extra: Settings) -> None:
    """Write the settings of the client worker, of each host worker and of bin/maglica.

    `extra` goes into the files of all daemons; every daemon knows all sections.
    """
    client = {**client_section(lab.client_address), **extra.get("client", {})}
    others = {title: pairs for title, pairs in extra.items() if title not in ("client", "host_worker")}
    hosts = {f"host {each.name}": {"weight": WEIGHT} for each in lab.hosts}
    folder = lab.folder / CLIENT
    write_config(
        _config(lab, CLIENT),
        {"client": {**client, "bind": lab.client_address}, "paths": paths_section(folder), **hosts, **others},
    )
    for each in lab.hosts:
        own = each.folder / "worker"
        worker = {
            "name": each.name,
            "libvirt_uri": host.URI,
            "export_dir": own / "export",
            "import_dir": own / "import",
            "stop_grace": f"{STOP_GRACE:g}s",
        }
        worker |= extra.get("host_worker", {})
        write_config(
            _config(lab, each.name),
            {"client": client, "host_worker": worker, "paths": paths_section(own), **others},
        )
    write_config(lab.cli_config, {"client": {**client, "key": folder / "keys" / "admin.key"}})
    for private in (folder, *(each.folder / "worker" for each in lab.hosts)):
        for name in ("state", "run", "keys"):
            (private / name).mkdir(parents=True, exist_ok=True, mode=0o700)


def _config(lab: Lab, label: str) -> Path:
    if label == CLIENT:
        return lab.folder / CLIENT / "maglica.conf"
    return lab.host(label).folder / "worker" / "maglica.conf"


def program(name: str) -> Path:
    """One of this checkout's programs."""
    path = CHECKOUT / "bin" / name
    if not path.exists():
        raise LabError(f"{path} does not exist: this checkout is incomplete")
    return path


def start(lab: Lab, label: str) -> bool:
    """Start the daemon of this label; False when it runs already.

    Labels: client, host1 (its host worker), libvirtd:host1, virtlogd:host1.
    """
    if process.living(lab, label):
        return False
    kind, _, name = label.rpartition(":")
    if kind in ("libvirtd", "virtlogd"):
        host.start_libvirt(lab, lab.host(name))
    elif label == CLIENT:
        process.spawn(lab, CLIENT, [], [program("maglica_client_worker"), "--config", _config(lab, CLIENT)])
    else:
        words: list[str | Path] = [program("maglica_host_worker"), "--config", _config(lab, label)]
        words += _invitation(lab, label)
        host.spawn_inside(lab, lab.host(label), label, words)
    return True


def _invitation(lab: Lab, name: str) -> list[str]:
    """The option by which a host joins, when it has not yet: an administrator invites it."""
    key = lab.host(name).folder / "worker" / "keys" / f"host-{name}.key"
    if key.exists():
        return []
    answers: list[str] = []
    if not wait_until(lambda: _invited(lab, name, answers), READY_LIMIT, 0.1):
        raise LabError(f"{name} could not be invited within {READY_LIMIT:g} s; the log: {lab.log(CLIENT)}")
    return [f"--join={answers[0]}"]


def _invited(lab: Lab, name: str, answers: list[str]) -> bool:
    env = {**os.environ, "MAGLICA_CONFIG": str(lab.cli_config)}
    try:
        answer = run(program("maglica"), "host", "invite", name, "-o", "json", limit=15, env=env)
        answers.append(json.loads(answer)["item"]["token"])
    except (LabError, ValueError, KeyError):
        return False  # the client worker is still starting
    return True


def stop(lab: Lab, label: str) -> bool:
    """End a daemon by SIGTERM and wait for it; False when it does not run. LabError when it does not end."""
    record = process.living(lab, checked(lab, label))
    if record is None:
        return False
    record.send(signal.SIGTERM)
    if not record.ended_within(STOP_LIMIT):
        raise LabError(f"{label} did not end within {STOP_LIMIT:g} s of SIGTERM; its log: {lab.log(label)}")
    return True


def kill(lab: Lab, label: str) -> bool:
    """End a daemon by SIGKILL; False when it does not run."""
    record = process.living(lab, checked(lab, label))
    if record is None:
        return False
    process.end(record, 0)
    return True


def checked(lab: Lab, label: str) -> str:
    """The label, or LabError when this lab has no such daemon."""
    if label not in labels(lab):
        raise LabError(f"lab '{lab.name}' has no daemon '{label}'; there are: {', '.join(labels(lab))}", 2)
    return label


def labels(lab: Lab) -> list[str]:
    """All daemons of a lab."""
    hosts = [each.name for each in lab.hosts]
    workers = [CLIENT, *hosts] if lab.workers else []
    return workers + [f"{kind}:{name}" for kind in ("libvirtd", "virtlogd") for name in hosts]


def start_all(lab: Lab) -> None:
    """Start the client worker and all host workers, and wait until the client worker knows every host as up."""
    for label in (CLIENT, *(each.name for each in lab.hosts)):
        start(lab, label)
    wait_for_hosts(lab.cli_config, [each.name for each in lab.hosts], lab.log)


def wait_for_hosts(config: Path, hosts: Sequence[str], log: Callable[[str], Path]) -> None:
    """Wait until the client worker knows every host as up; LabError, and the ends of the logs, when one is missing."""
    seen: list[str] = []
    if not wait_until(lambda: _all_up(config, hosts, seen), READY_LIMIT, 0.1):
        show_logs((CLIENT, *hosts), log)
        raise LabError(f"not every host came up within {READY_LIMIT:g} s; last answer: {seen[-1] if seen else 'none'}")


def show_logs(labels: Sequence[str], log: Callable[[str], Path]) -> None:
    """The last lines of daemons' logs, on stderr."""
    for label in labels:
        say(f"--- the end of {log(label)}")
        say(tail_of(log(label).read_text(errors="replace"), 15))


def _all_up(config: Path, hosts: Sequence[str], seen: list[str]) -> bool:
    """Ask as a user would; the last answer is kept in `seen` for the error message."""
    env = {**os.environ, "MAGLICA_CONFIG": str(config)}
    try:
        answer = run(program("maglica"), "host", "list", "-o", "json", limit=15, env=env)
        states = {item["name"]: item["state"] for item in json.loads(answer)["items"]}
    except (LabError, ValueError, KeyError, TypeError) as error:
        seen[:] = [str(error)]
        return False
    seen[:] = [str(states)]
    return all(states.get(name) == "up" for name in hosts)
