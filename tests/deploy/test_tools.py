"""Compose, Prometheus and the image's own steps, each by the real thing."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient
from yamllint import linter
from yamllint.config import YamlLintConfig

from infra.compose.prepare import prepare
from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka, free_ports
from tests.conftest import do_without
from tests.support.deploy import COMPOSE, ROOT, output_of, tool
from tests.support.dockerfile import FILE as DOCKERFILE
from tests.support.dockerfile import lay_out, steps
from tests.support.kafka import TopicSpace, wait_until
from tests.support.rules_file import FILE as RULES
from tests.support.worker_process import WorkerProcess

LINTED = sorted(path for path in (ROOT / "infra").rglob("*.y*ml") if "templates" not in path.parts)
STYLE = YamlLintConfig("""
extends: default
rules:
  line-length: disable
  document-start: disable
  braces: { min-spaces-inside: 0, max-spaces-inside: 1 }
  comments: { min-spaces-from-content: 1 }
  truthy: { check-keys: false }
""")
DASHBOARDS = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))


@pytest.mark.parametrize("path", LINTED, ids=[path.relative_to(ROOT / "infra").as_posix() for path in LINTED])
def test_yaml_is_clean(path: Path) -> None:
    """No key twice, no tab, no stray indentation: what a lenient reader takes for something else."""
    assert list(linter.run(path.read_text(encoding="utf-8"), STYLE)) == []


def test_compose_understands_it(tmp_path: Path) -> None:
    """The loader that `docker compose` has: its schema, its variables and files, and that nothing needs what is not
    there.
    """
    loader = tool("compose", "cmd")
    folder = tmp_path / "infra" / "compose"
    shutil.copytree(COMPOSE.parent, folder)
    prepare(folder)
    read = json.loads(output_of(loader, "-format", "json", "compose.yaml", cwd=folder))
    plain = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    assert read["services"].keys() == plain.keys()
    worker = read["services"]["worker"]
    assert worker["environment"]["SPENDFUSE_PARTITIONS"] == "6"
    assert worker["secrets"] == [{"source": "worker.toml", "target": "/run/secrets/worker.toml"}]
    assert worker["build"]["dockerfile"] == "infra/image/Dockerfile"
    assert Path(worker["build"]["context"]).resolve() == tmp_path


def test_docker_compose_agrees(tmp_path: Path) -> None:
    """`docker compose config`, where Docker has it: it needs no container."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not here")
    folder = tmp_path / "infra" / "compose"
    shutil.copytree(COMPOSE.parent, folder)
    prepare(folder)
    output_of(docker, "compose", "--profile", "*", "config", "--quiet", cwd=folder)


def test_kafka_starts_with_what_compose_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image makes of each KAFKA_ variable a line of server.properties. A real broker starts with those lines, and
    tells each listener's clients the address of that listener.
    """
    given = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["kafka"]["environment"]
    inside, outside, controller = free_ports(3)
    monkeypatch.setattr("infra.kafka.local.free_ports", lambda _: [inside, controller])
    ports = {"9092": str(inside), "9094": str(outside), "9093": str(controller)}

    def moved(value: str) -> str:
        here = value.replace("kafka:", "127.0.0.1:").replace("://:", "://127.0.0.1:")
        return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: ports[port[0]], here)

    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): moved(value)
        for name, value in given.items()
        if name != "KAFKA_LOG_DIRS"
    }
    try:
        broker = LocalKafka(settings=settings)
    except KafkaUnavailableError as error:
        do_without(str(error))
    with broker:
        seen = AdminClient({"bootstrap.servers": f"127.0.0.1:{outside}"}).list_topics(timeout=10).brokers
        assert [f"{one.host}:{one.port}" for one in seen.values()] == [f"127.0.0.1:{outside}"]


def test_prometheus_reads_its_settings(tmp_path: Path) -> None:
    """With the rules beside them, as compose mounts both."""
    promtool = tool("prometheus", "promtool")
    for path in (COMPOSE.parent / "prometheus.yml", RULES):
        shutil.copy(path, tmp_path)
    assert "SUCCESS" in output_of(promtool, "check", "config", tmp_path / "prometheus.yml")


class Prometheus:
    """A real Prometheus that scrapes one address under one job."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        settings = folder / "prometheus.yml"
        shutil.copy(RULES, folder)
        jobs = [{"job_name": "worker", "static_configs": [{"targets": [target]}]}]
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings.write_text(yaml.safe_dump({"global": every, "rule_files": [RULES.name], "scrape_configs": jobs}))
        self.address = f"http://127.0.0.1:{free_ports(1)[0]}"
        listen = self.address.removeprefix("http://")
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [program, f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address={listen}"],
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ask(self, path: str, **given: str) -> Any:
        """What its API answers; None while it is not there."""
        try:
            with urllib.request.urlopen(
                f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(given)}", timeout=10
            ) as read:
                return json.load(read)["data"]
        except urllib.error.HTTPError as refused:
            if refused.code == HTTPStatus.SERVICE_UNAVAILABLE:
                return None  # it is starting
            raise AssertionError(f"{given}: {refused.read().decode()}") from None
        except OSError:
            return None

    def value(self, expr: str) -> list[Any]:
        """The samples that a query has now."""
        answer = self.ask("query", query=expr)
        return [] if answer is None else list(answer["result"])

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture
def program() -> str:
    """Prometheus itself."""
    return tool("prometheus", "prometheus")


@pytest.fixture
def prometheus(program: str, kafka_topics: TopicSpace, tmp_path: Path) -> Iterator[Prometheus]:
    """One that watches a worker on a real broker."""
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, WATCHDOG_S=1) as worker:
        worker.wait_for(
            lambda: worker.metric("spendfuse_partitions").get("") == kafka_topics.partitions, 60, "all owned"
        )
        watching = Prometheus(program, tmp_path, f"127.0.0.1:{worker.port}")
        try:
            yield watching
        finally:
            watching.end()


def test_prometheus_answers_every_query(prometheus: Prometheus) -> None:
    """Every query of the pages is one that Prometheus runs, those about a worker have an answer from a real one, and
    the rules find it well.
    """
    wait_until(lambda: len(prometheus.value("spendfuse_partitions")) == 1, 30, "the worker was scraped")
    wait_until(lambda: prometheus.value("rate(spendfuse_watchdog_beats_total[5m])"), 30, "it was scraped twice")
    queries = [
        target["expr"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
    ]
    empty = {expr for expr in queries if not prometheus.value(expr)}
    other = ("_alerting_", "_gateway_", "_enforcer_", "_reconcile_", "_sink_", "_console_", "_poll_", "_unfollowed_")
    unseen = ("alerts_total", "commands_total", "quantile", "dead_letters")
    assert not {expr for expr in empty if not any(word in expr for word in (*other, *unseen))}
    assert prometheus.value("max(spendfuse_topic_partitions) - sum(spendfuse_partitions)")[0]["value"][1] == "0"
    groups = prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == RULES.read_text(encoding="utf-8").count("- alert:")
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    firing = {
        alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert firing <= {"SpendfuseNoBeat"}, "nothing but alerting is missing, which is told after a minute"


@pytest.mark.skipif("DEPLOY_CHECK" not in os.environ, reason="installs every package anew; `make deploy-check` does")
def test_the_steps_of_the_image_work(tmp_path: Path) -> None:
    """In an empty folder and an environment of its own, with what the image copies and nothing else: packages are
    installed by their hashes, modules are written for the start, and the programs start. With the interpreted engine:
    the other takes a system's packages and many minutes.
    """
    found = steps(DOCKERFILE.read_text(encoding="utf-8"))
    venv, build, home = tmp_path / "venv", tmp_path / "build", tmp_path / "home"
    lay_out(tmp_path, "packages")
    lay_out(home)
    moved = {"/opt/venv": str(venv), "/build": str(build), "python -m venv": f"{sys.executable} -m venv"}
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "UV_"))}
    for step in [one for one in found if one.word == "RUN" and one.stage in ("packages", "service")]:
        if "/var/lib" in step.rest:
            continue
        command = step.rest
        for before, after in moved.items():
            command = command.replace(before, after)
        done = subprocess.run(
            ["sh", "-ec", command], cwd=home, env=variables, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    for program in (["streams", "--help"], ["alerting", "--help"], ["streams", "keys", "generate"]):
        assert output_of(venv / "bin" / "python", "-m", *program, cwd=home)
    assert list(home.rglob("*.pyc")), "the root file system will be read-only: what is compiled, is now"
