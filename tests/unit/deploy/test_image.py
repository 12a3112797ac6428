"""The image: what it copies is enough to run every process, and it gives nobody more than that."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from infra.compiled.build import COPIED
from infra.image.health import fault, main
from infra.kafka.local import free_ports
from streams.process.pages import pages
from streams.settings import Settings, read_settings
from tests.support.deploy import PENDING, ROOT
from tests.support.dockerfile import ENGINE, FILE, copied, is_sent, lay_out, steps

TEXT = FILE.read_text(encoding="utf-8")
STEPS = steps(TEXT)
IMPORT_ALL = """
import importlib, pkgutil
ours = ("schemas", "models", "alerting", "streams", "infra", "spendfuse")
for top in ours[:4]:
    for module in pkgutil.walk_packages(importlib.import_module(top).__path__, f"{top}."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:  # what only some installations have is no fault of the image
            if missing.name.partition(".")[0] in ours:
                raise
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in the image's working directory."""
    folder = tmp_path_factory.mktemp("image")
    lay_out(folder)
    return folder


def run(image: Path, *arguments: str) -> str:
    """Python in that folder, without anything installed but packages: no checkout is to be found from there."""
    packages = Path(aiohttp.__file__).parents[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPENDFUSE_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=image, check=False, capture_output=True, text=True,
        env={**kept, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_what_is_copied_is_enough(image: Path) -> None:
    """Every module is loaded, with the data that it reads, from what the image holds and nothing beside it."""
    run(image, "-c", IMPORT_ALL)
    assert "worker" in run(image, "-m", "streams", "--help")
    assert "Slack" in run(image, "-m", "alerting", "--help")
    assert "kafka-acls.sh" in run(image, "-m", "infra.kafka.access", "worker", "--principal", "User:w")


def test_nothing_else_is_copied(image: Path) -> None:
    """No tests, no demo, no documents, nothing made by a build before; and whatever is copied is sent to the build."""
    files = {path.relative_to(image) for path in image.rglob("*") if path.is_file()}
    assert {path.parts[0] for path in files} == {
        "pyproject.toml", "schemas", "models", "alerting", "streams", "sdk", "infra",
    }  # fmt: skip
    assert not [path for path in files if {"__pycache__", "tests", "demo"} & set(path.parts)]
    for stage in ("packages", "interpreted", "compiled", "service"):
        assert all(any(map(is_sent, sent_of(source))) for source, _ in copied(TEXT, stage)), stage


def sent_of(source: str) -> Iterator[Path]:
    path = ROOT / source
    yield from (each.relative_to(ROOT) for each in ([path] if path.is_file() else path.rglob("*.py")))


@pytest.mark.parametrize(
    "path",
    [
        "infra/compose/secrets/worker.toml", "infra/compose/.env", ".git/config", ".venv/bin/python",
        "tests/conftest.py",
        "streams/__pycache__/clock.cpython-311.pyc", "sdk/src/spendfuse.egg-info/PKG-INFO",
        "models/engine.cpython-311-x86_64-linux-gnu.so",
    ],
)  # fmt: skip
def test_what_is_nobodys_business_is_not_sent(path: str) -> None:
    """Secrets, history and environments never reach whoever builds the image."""
    assert not is_sent(Path(path))


def test_nobody_is_root_in_it() -> None:
    """The last word about the user is a number that is not root's, so that Kubernetes can see it."""
    users = [step.rest for step in STEPS if step.word == "USER" and step.stage == "service"]
    assert [re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user) is not None for user in users] == [True]
    last = max(place for place, step in enumerate(STEPS) if step.word in ("RUN", "COPY"))
    assert STEPS[last + 1].word in ("ENV", "USER")
    assert [step.word for step in STEPS].index("USER") > last


def test_it_holds_no_secret() -> None:
    """No setting is in it but the addresses that its pages listen on, and no argument of the build is one."""
    ours = set(re.findall(r"SPENDFUSE_(\w+)=", TEXT))
    assert ours == {"METRICS_HOST", "METRICS_PORT", "GATEWAY_HOST", "CONSOLE_HOST"}
    known = {f"SPENDFUSE_{name.upper()}" for name in Settings.model_fields} | PENDING
    assert {f"SPENDFUSE_{name}" for name in ours} <= known
    assert {step.rest.partition("=")[0] for step in STEPS if step.word == "ARG"} == {
        "PYTHON", "VERSION", "ENGINE",
    }  # fmt: skip


def test_packages_come_from_the_lock_file_with_their_hashes() -> None:
    """In stages of their own, whose tools and caches stay behind: the image takes packages from one and an engine from
    the other. What compiles is not in it.
    """
    installs = {step.stage: step.rest for step in STEPS if "pip install" in step.rest}
    assert "--require-hashes -r /build/service.lock" in installs.pop("packages")
    assert "--require-hashes -r /build/compiler.lock" in installs.pop("compiled")
    assert not installs
    assert copied(TEXT, "packages") == [("requirements/service.lock", "/build/service.lock")]
    taken = [step.rest for step in STEPS if step.stage == "service" and step.rest.startswith("--from")]
    assert taken == ["--from=packages /opt/venv /opt/venv", "--from=engine /opt/engine ./"]


def test_the_engine_is_compiled_unless_somebody_asks_otherwise() -> None:
    """Both stages leave an engine at the same place, and the build's argument names one of them."""
    assert [step.rest for step in STEPS if step.rest.startswith("ENGINE=")] == ["ENGINE=compiled"]
    [chosen] = [step.rest for step in STEPS if step.word == "FROM" and step.stage == "engine"]
    assert chosen == "${ENGINE} AS engine"
    assert copied(TEXT, "interpreted") == [("models", f"{ENGINE}models")]
    [build] = [step.rest for step in STEPS if step.stage == "compiled" and "infra.compiled" in step.rest]
    assert re.search(r"mv /build/compiled/models /build/compiled/\*\.so /opt/engine$", build)
    assert {source for source, _ in copied(TEXT, "compiled")} >= {name.split("/")[0] for name in COPIED} - {"sdk"}


def test_every_instruction_is_one_that_builders_know() -> None:
    """A misspelt word would be found by whoever builds; nobody does here."""
    known = {
        "ARG", "FROM", "COPY", "RUN", "LABEL", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert {step.word for step in STEPS} == known


def test_a_container_is_as_well_as_its_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The health check asks the page that the process serves, and says what that says; without a page there is nothing
    to ask.
    """
    port = {"SPENDFUSE_METRICS_PORT": str(free_ports(1)[0])}
    states = iter([None, "the loop has not moved for 40 s"])
    with pages(read_settings(port), CollectorRegistry(), lambda: next(states)):
        assert fault(port) is None
        assert fault(port) == "the loop has not moved for 40 s"
    assert "nobody answers" in (fault(port) or "")
    assert fault({"SPENDFUSE_METRICS_PORT": "0"}) is None
    assert fault({}) is None
    monkeypatch.setenv("SPENDFUSE_METRICS_PORT", port["SPENDFUSE_METRICS_PORT"])
    assert main() == 1
    assert "nobody answers" in capsys.readouterr().out
