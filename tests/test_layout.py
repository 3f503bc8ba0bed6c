"""The walls of the house: who imports whom, and which file alone may touch which foreign thing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[1]
PACKAGE = HOME / "maglica"
FILES = sorted(str(path.relative_to(HOME)) for path in PACKAGE.rglob("*.py"))

# A foreign thing -> the only files that may import it.
ONLY_IN = {
    # one folder, of which others see what its __init__.py names: a side of the bus in each file
    "zmq": {f"maglica/bus/{part}.py" for part in ("client", "knocking", "listener", "server", "sockets", "talking")},
    "msgpack": {"maglica/wire.py"},
    "configparser": {"maglica/config.py"},
    "sqlite3": {
        "maglica/client_worker/store/database.py",
        "maglica/host_worker/journal/database.py",
        "maglica/host_worker/journal/damage.py",
    },
    "libvirt": {"maglica/host_worker/hypervisor/connection.py"},
    "libvirt_qemu": {"maglica/host_worker/hypervisor/connection.py"},
    "guestfs": {"maglica/host_worker/guest/child.py"},
    "subprocess": {
        "maglica/host_worker/commands.py",
        "maglica/host_worker/guest/conversation.py",
        "maglica/host_worker/guest/host_keys.py",  # has to stay in the child's process group
        "maglica/host_worker/guest/storage_daemon.py",  # has to end with the child that starts it
    },
}

# What turns bytes or text into code (D3, D22).
NEVER_IMPORTED = {"pickle", "marshal", "shelve", "dill", "cPickle", "code", "codeop", "runpy", "asyncio"}
NEVER_CALLED = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}

PROCESSES = ("cli", "client_worker", "host_worker")


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((HOME / file).read_text(encoding="utf-8"), file)


@cache
def imports(file: str) -> frozenset[str]:
    """Every module that a file imports, wherever in it; `from a import b` counts as `a` and as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module"):
            constants = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
            found |= {value for value in constants if isinstance(value, str) and value}
    return frozenset(found)


def dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written; '' for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(file: str) -> Iterator[str]:
    return (dotted(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call))


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_the_reader_of_imports_sees_all_ways_to_import(tmp_path: Path) -> None:
    """The other tests are worth nothing if this one is not true."""
    path = tmp_path / "sample.py"
    path.write_text(
        "import a\nfrom b import c\ndef f():\n    import d.e as g\nif a:\n    from h.i import *\n"
        "import_module(f'maglica.host_worker.jobs.{a}')\nimportlib.import_module('libvirt')\n"
    )
    found = imports(str(path))
    assert found >= {"a", "b", "b.c", "d.e", "h.i", "maglica.host_worker.jobs.", "libvirt"}


@pytest.mark.parametrize("process", PROCESSES)
def test_processes_never_import_each_other(process: str) -> None:
    others = [f"maglica.{other}" for other in PROCESSES if other != process]
    for file in FILES:
        if file.startswith(f"maglica/{process}/"):
            wrong = {module for module in imports(file) for other in others if inside(module, other)}
            assert not wrong, file


def test_no_files_import_each_other_in_a_circle() -> None:
    """Nor by an import in a function or for types only: whoever reads one would have to read all of them."""
    graph = {file: {needed for module in needs(file) if (needed := home_of(module))} - {file} for file in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def needs(file: str) -> Iterator[str]:
    """What a file imports of maglica; of a package only the part that is named, if it is a file of its own."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                part = f"{node.module}.{name.name}"
                yield part if home_of(part) else node.module


def home_of(module: str) -> str:
    """The file of a module; '' for what is not maglica's."""
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in FILES), "")


def test_what_all_share_knows_no_process() -> None:
    for file in FILES:
        if not file.startswith(tuple(f"maglica/{process}/" for process in PROCESSES)):
            wrong = {m for m in imports(file) for process in PROCESSES if inside(m, f"maglica.{process}")}
            assert not wrong, file


def test_the_table_needs_nothing_but_kinds_and_errors() -> None:
    for file in FILES:
        if file.startswith("maglica/actions/"):
            for module in imports(file):
                if inside(module, "maglica"):
                    allowed = (
                        "maglica.kinds",
                        "maglica.customizing",
                        "maglica.declare",
                        "maglica.errors",
                        "maglica.actions",
                    )
                    assert module == "maglica" or any(inside(module, known) for known in allowed), (file, module)


@pytest.mark.parametrize("module", ONLY_IN)
def test_a_foreign_thing_has_one_door(module: str) -> None:
    found = {file for file in FILES if any(inside(name, module) for name in imports(file))}
    assert found <= ONLY_IN[module]
    assert found, "nobody needs it any more? Then it is not to be listed here"


@pytest.mark.parametrize("file", FILES)
def test_nothing_turns_data_into_code(file: str) -> None:
    """D3: no eval of what came over the wire. D22: no loader that makes objects."""
    assert not {module for module in imports(file) for name in NEVER_IMPORTED if inside(module, name)}
    assert not NEVER_CALLED & set(calls(file))
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and isinstance(keyword.value, ast.Constant) and keyword.value.value
                assert not shell, f"{file}:{node.lineno}: a shell"


def test_sql_is_written_in_two_folders_only() -> None:
    words = ("SELECT ", "INSERT INTO", "DELETE FROM", "UPDATE ", "CREATE TABLE")
    for file in FILES:
        texts = [n.value for n in ast.walk(tree(file)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        if any(text.startswith(words) for text in texts):
            assert os.path.dirname(file) in {os.path.dirname(one) for one in ONLY_IN["sqlite3"]}


def test_no_drawer_for_odds_and_ends() -> None:
    names = {Path(file).stem for file in FILES}
    assert not names & {"util", "utils", "helpers", "misc", "common_utils"}


def test_only_the_settings_and_the_terminal_read_the_environment() -> None:
    """A setting that is read in the middle of the code is one that `config show` does not tell."""
    allowed = {
        "maglica/config.py",
        "maglica/cloud.py",  # who asks
        "maglica/daemon.py",  # what systemd says
        "maglica/host_worker/commands.py",  # handed on to children
        "maglica/host_worker/guest/conversation.py",
        "maglica/host_worker/guest/child.py",
        "maglica/host_worker/guest/host_keys.py",  # the folder that it was given
        "maglica/host_worker/guest/serving.py",  # the folder that it was given
    }
    for file in FILES:
        if "environ" in {getattr(node, "attr", None) for node in ast.walk(tree(file))}:
            assert file in allowed or file.startswith("maglica/cli/"), file


def test_no_clock_where_time_is_an_argument() -> None:
    """Rule 5: what decides takes the time as a value."""
    # The loop, the clock itself, and a thread of its own that looks at connections.
    apart = {f"maglica/client_worker/{name}.py" for name in ("main", "now", "door/guard")}
    assert apart < set(FILES)
    pure = [file for file in FILES if file.startswith("maglica/client_worker/") and file not in apart]
    for file in [
        *pure,
        "maglica/host_worker/clone/plan.py",
        "maglica/host_worker/rhythm.py",
        "maglica/host_worker/domain/domain_xml.py",
        "maglica/job.py",
        "maglica/viewing.py",
        "maglica/window.py",
        "maglica/host_worker/streams/source.py",
        "maglica/wire.py",
    ]:
        assert not {"time", "threading", "socket"} & imports(file), file
        assert not {"datetime.now", "datetime.utcnow", "date.today"} & set(calls(file)), file
        assert "maglica.client_worker.now.now" not in imports(file), file


LIGHT = {
    # who starts -> what may not have been loaded by then
    "maglica.cli.main": ("libvirt", "guestfs", "sqlite3", "subprocess", "asyncio"),
    "maglica.client_worker.main": ("libvirt", "guestfs", "subprocess", "asyncio"),
    "maglica": ("libvirt", "guestfs", "zmq", "msgpack", "configparser", "sqlite3"),
    "maglica.nouns": ("libvirt", "guestfs", "sqlite3", "subprocess"),
    "maglica.host_worker.main": ("guestfs", "asyncio"),
}


@pytest.mark.parametrize("module", LIGHT)
def test_a_start_loads_no_more_than_it_needs(module: str) -> None:
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    # -I: neither the tester's environment nor a sitecustomize of his.
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(HOME)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=os.sep,
    )
    loaded = set(run.stdout.split())
    assert module in loaded
    assert not loaded & set(LIGHT[module])


def test_the_programs_are_three_lines_and_a_name() -> None:
    found = sorted(path.name for path in (HOME / "bin").iterdir())
    assert found == ["maglica", "maglica_client_worker", "maglica_host_worker"]
    for name in found:
        text = (HOME / "bin" / name).read_text()
        assert len(text.splitlines()) <= 8
        assert os.access(HOME / "bin" / name, os.X_OK)
