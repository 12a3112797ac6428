"""compose.yaml: every name in it exists, what a process needs stands before it, and nothing listens to strangers."""

import argparse
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.compose import prepare as preparing
from infra.compose.prepare import prepare
from schemas.signing import OperatorKey
from streams.commands.registry import add_all
from streams.process.supervisor import END_S
from streams.settings import Settings, read_settings, unknown_variables
from tests.support.deploy import COMPOSE
from tests.support.dockerfile import FILE as DOCKERFILE

FOLDER = COMPOSE.parent
WHOLE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = WHOLE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("spendfuse:")}
each_of_ours = pytest.mark.parametrize("name", OURS)
each_service = pytest.mark.parametrize("name", SERVICES)


@each_of_ours
def test_a_process_has_settings_that_exist(name: str) -> None:
    """None is misspelt, and they are accepted as they stand."""
    given = {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in OURS[name]["environment"].items()}
    assert unknown_variables(given) == []
    read_settings({key: value for key, value in given.items() if key != "SPENDFUSE_SETTINGS"})


@each_of_ours
def test_a_process_is_one_that_there_is(name: str) -> None:
    """What follows `python -m` is understood by the program itself."""
    program, *words = OURS[name]["command"]
    if program == "alerting":
        assert words == []
        return
    assert program == "streams"
    parser = argparse.ArgumentParser(exit_on_error=False)
    known = parser.add_subparsers(required=True)
    add_all(known)
    if words[0] not in known.choices:
        pytest.skip(f"there is no `python -m streams {words[0]}` here yet")
    parser.parse_args(words)


@each_of_ours
def test_a_process_may_do_as_little_as_possible(name: str) -> None:
    """Nothing can be written but /tmp, no capability is left, and it is given the time that it takes to end."""
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > END_S
    assert "privileged" not in service


@each_service
def test_what_is_waited_for_can_be_waited_for(name: str) -> None:
    """Each dependency is a service; one that is to be healthy has a check of its own, one that is to end does."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        match how["condition"]:
            case "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            case condition:
                assert condition == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "on-failure"


def test_every_process_is_watched() -> None:
    """By the image's own check, or one of its own; only what ends by itself has none."""
    unwatched = {name for name, service in SERVICES.items() if service.get("healthcheck") == {"disable": True}}
    assert unwatched == {"topics", "tools"}
    assert all("healthcheck" in service for name, service in SERVICES.items() if name not in OURS)
    assert "HEALTHCHECK" in DOCKERFILE.read_text(encoding="utf-8")


def test_nothing_listens_beyond_this_machine() -> None:
    """Every published port is bound to loopback, to itself, and to one service."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports), ports
    assert len(set(ports)) == len(ports)
    assert f"127.0.0.1:{Settings().gateway_port}:{Settings().gateway_port}" in SERVICES["gateway"]["ports"]


def test_what_is_mounted_is_there() -> None:
    """Files of the checkout exist, volumes are declared, and each declared one is used."""
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    files, volumes = ({m for m in mounts if m.startswith(".") is is_file} for is_file in (True, False))
    assert all((FOLDER / path).exists() for path in files), files
    assert volumes == WHOLE["volumes"].keys()


def test_prometheus_asks_where_there_is_somebody() -> None:
    """Every target is a process of ours, on the port on which the image serves its pages."""
    port = re.search(r"SPENDFUSE_METRICS_PORT=(\d+)", DOCKERFILE.read_text(encoding="utf-8"))
    assert port is not None
    scrapes = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    static = {target for job in scrapes for each in job.get("static_configs", []) for target in each["targets"]}
    found = {
        f"{name}:{each['port']}" for job in scrapes for each in job.get("dns_sd_configs", []) for name in each["names"]
    }
    wanted = {name for name, service in OURS.items() if service["environment"].get("SPENDFUSE_METRICS_PORT") != "0"}
    assert static | found == {f"{name}:{port[1]}" for name in wanted}


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "secrets" in service])
def test_whoever_needs_a_secret_can_read_it(name: str) -> None:
    """They are readable by one user, as whom such a container runs; Postgres' begins as root, and reads it then."""
    assert name == "postgres" or SERVICES[name]["user"].startswith("${SPENDFUSE_USER:-")


def test_secrets_are_files_and_never_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is mounted by those who need it alone, and made by one command, readable by nobody else, once."""
    used = set(chain.from_iterable(service.get("secrets", []) for service in SERVICES.values()))
    assert used == WHOLE["secrets"].keys()
    monkeypatch.setattr(preparing, "FOLDER", tmp_path)
    assert preparing.main([]) == 0
    for name, secret in WHOLE["secrets"].items():
        path = tmp_path / secret["file"]
        assert path.stat().st_mode & 0o777 == 0o600, name
        assert f"SPENDFUSE_USER={path.stat().st_uid}:" in (tmp_path / ".env").read_text(encoding="utf-8")
        assert path.stat().st_uid > 0, "no container runs as root"
        assert path.name == name
    kept = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "secrets" / "worker.toml").unlink()
    assert prepare(tmp_path) == [tmp_path / "secrets" / "worker.toml"]
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == kept
    plain = yaml.safe_dump([service.get("environment") for service in SERVICES.values()])
    assert not re.search(r"(?i)(key|password|token|secret)\w*: \S", re.sub(r"\w+_FILE: \S+", "", plain))


def test_the_secrets_belong_together(tmp_path: Path) -> None:
    """Workers check orders with the public half of what operators sign with; gateway and worker share the engine's key;
    each file is one that the settings accept, and only who signs has a key to sign with.
    """
    prepare(tmp_path)

    def settings(name: str) -> Settings:
        return read_settings({"SPENDFUSE_SETTINGS": str(tmp_path / "secrets" / f"{name}.toml")})

    worker, alerting, gateway, operator = map(settings, ("worker", "alerting", "gateway", "operator"))
    assert operator.operator_root_key is not None
    assert worker.operator_public_keys == alerting.operator_public_keys == operator.operator_public_keys
    assert worker.operator_public_keys == (OperatorKey(operator.operator_root_key).public_key,)
    assert worker.engine_root_key == gateway.engine_root_key is not None
    assert worker.operator_root_key is alerting.engine_root_key is operator.engine_root_key is None


def test_each_worker_has_a_slot_of_its_own() -> None:
    """It is the static member's name: two of the same fence each other off, one that changes is a stranger."""
    slots = [service["environment"].get("SPENDFUSE_SLOT") for name, service in OURS.items()]
    given = [slot for slot in slots if slot is not None]
    assert len(given) == len(set(given)) == len(OURS) - len({"topics", "tools"})
