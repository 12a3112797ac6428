"""The chart, rendered by Helm itself: accepted by the schemas of Kubernetes, with the least rights of each process."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.process.supervisor import END_S
from streams.settings import Settings, read_settings, unknown_variables
from tests.support.deploy import CHART, PENDING, ROOT, TOOLS, Document, documents, output_of, tool
from tests.support.rules_file import FILE as RULES

FULL, SMALL, DEFAULT = CHART / "examples" / "full.yaml", CHART / "examples" / "small.yaml", CHART / "values.yaml"
VALUES = (DEFAULT, FULL, SMALL)
VERSIONS = ("1.29", "1.33", "1.36")
KEDA = "keda.sh/v1alpha1/ScaledObject"
PAGES_PORT, GATEWAY_PORT = 9100, 8440
each_values = pytest.mark.parametrize("values", VALUES, ids=[path.stem for path in VALUES])


@cache
def rendered(values: Path, *apis: str, version: str = "1.33") -> tuple[Document, ...]:
    """What would be applied."""
    more = [word for api in apis for word in ("--api-versions", api)]
    helm = tool("helm", "helm")
    text = output_of(helm, "template", "sf", CHART, "-f", values, "--kube-version", f"{version}.0", *more)
    return tuple(documents(text))


def of_kind(found: Iterable[Document], kind: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def pods(found: Iterable[Document]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that would run, by the name of what makes it."""
    for one in found:
        if one["kind"] in ("StatefulSet", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    [container] = pod["containers"]
    found: dict[str, Any] = container
    return found


@each_values
def test_helm_finds_nothing_wrong(values: Path) -> None:
    """Neither its linter nor the schema of the values."""
    helm = tool("helm", "helm")
    assert "0 chart(s) failed" in output_of(
        helm, "lint", CHART, "-f", values, "--strict", "--kube-version", f"{VERSIONS[0]}.0"
    )


@each_values
@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_would_accept_it(values: Path, version: str) -> None:
    """The schemas of Kubernetes, and of the operators whose kinds are used, know every field that is given."""
    found = rendered(values, KEDA, version=version)
    assert schema_faults(found, version) == {}


def test_a_misspelt_field_is_seen() -> None:
    """The check itself finds one in a set, and one in a kind of an operator's."""
    found = json.loads(json.dumps(rendered(FULL, KEDA)))
    worker, scaler = of_kind(found, "StatefulSet")["sf-worker"], of_kind(found, "ScaledObject")["sf-worker"]
    container_of(worker["spec"]["template"]["spec"])["readynessProbe"] = {}
    scaler["spec"]["maxReplicas"] = 3
    assert schema_faults([worker, scaler], VERSIONS[0]).keys() == {"StatefulSet/sf-worker", "ScaledObject/sf-worker"}


def schema_faults(found: Iterable[Document], version: str) -> dict[str, str]:
    """Kind and name -> what is wrong with it; skips the test where there are no schemas."""
    python = TOOLS / "schemas" / "bin" / "python"
    if not python.exists():
        pytest.skip("the schemas of Kubernetes are not here; `make deploy-check` sets them up")
    done = subprocess.run(
        [python, ROOT / "tests" / "deploy" / "clients" / "schema_faults.py", version],
        input=json.dumps(list(found)), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    faults: dict[str, str] = json.loads(done.stdout)
    return faults


@each_values
def test_a_process_has_the_least_rights(values: Path) -> None:
    """No root, no privileges, no token of the cluster, nothing to write to but /tmp and a gateway's spool, and a limit
    to its memory.
    """
    for name, pod in pods(rendered(values, KEDA)):
        container = container_of(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable <= ({"/tmp", "/var/lib/spendfuse"} if "gateway" in name else {"/tmp"})
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {"spool"} if "gateway" in name else set()
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed


@each_values
def test_every_setting_exists(values: Path) -> None:
    """Each `SPENDFUSE_…` variable is a setting, plain ones are accepted as they stand, and none is given twice."""
    for name, pod in pods(rendered(values)):
        env = container_of(pod)["env"]
        names = [one["name"] for one in env]
        assert len(set(names)) == len(names), name
        given = {one["name"]: one.get("value", "x") for one in env if one["name"] not in PENDING}
        assert unknown_variables(given) == []
        read_settings({one["name"]: one["value"] for one in env if "value" in one})


def test_settings_arrive_as_they_were_written() -> None:
    """Numbers without an exponent, lists with commas, tables as JSON; a process's own goes before everybody's."""
    full = dict(pods(rendered(FULL)))

    def settings(name: str) -> Settings:
        return read_settings({one["name"]: one["value"] for one in container_of(full[name])["env"] if "value" in one})

    worker, alerting = settings("sf-worker"), settings("sf-alerting")
    assert (worker.batch_records, worker.unhealthy_s, alerting.unhealthy_s) == (20_000, 45, Settings().unhealthy_s)
    assert (worker.partitions, worker.prefix, worker.log_level) == (24, "prod.", "WARNING")
    assert worker.kafka_ssl_ca == Path("/etc/spendfuse/kafka/ca.pem")
    assert alerting.slack_operators == ("U1", "U2")
    assert alerting.links == {"run": "https://agents.example/runs/{run_id}"}


def test_files_are_where_settings_look_for_them() -> None:
    """A policy, or a client's certificate: from a ConfigMap or a Secret, mounted as a folder that nobody writes to."""
    pod = dict(pods(rendered(FULL)))["sf-worker"]
    mounts = {mount["mountPath"]: mount for mount in container_of(pod)["volumeMounts"]}
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    for path, kind in (("/etc/spendfuse/policy", "configMap"), ("/etc/spendfuse/client", "secret")):
        assert mounts[path]["readOnly"] is True
        assert kind in sources[mounts[path]["name"]]


@each_values
def test_secrets_are_named_and_never_written(values: Path) -> None:
    """No Secret is made, and what is secret by its setting's type comes from one."""
    found = rendered(values, KEDA)
    assert not of_kind(found, "Secret")
    secret = {f"SPENDFUSE_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field)}
    assert {"SPENDFUSE_ENGINE_KEY", "SPENDFUSE_KAFKA_SASL_PASSWORD"} <= secret
    for _, pod in pods(found):
        for one in container_of(pod)["env"]:
            assert one["name"] not in secret or one["valueFrom"].keys() == {"secretKeyRef"}


@pytest.mark.parametrize("key", ["engine_key", "kafka_sasl_password", "slack_signing_secret"])
def test_a_secret_among_the_settings_is_refused(key: str, tmp_path: Path) -> None:
    """By the schema of the values, before anything is applied."""
    refused(tmp_path, f"worker: {{ settings: {{ {key}: abc }} }}", key)


@pytest.mark.parametrize(
    ("values", "about"),
    [
        ("worker: { replicas: 7 }", "kafka.partitions 6"),
        ("worker: { replica: 2 }", "replica"),
        ("kafka: { bootstrap: kafka }", "bootstrap"),
        ("enforcer: { enabled: true }", "enforcer.configMap.name"),
        ("worker: { files: [{ path: /etc/a }] }", "files"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: str, about: str, tmp_path: Path) -> None:
    """More workers than partitions, a misspelt key, an address without a port, a process without its file."""
    refused(tmp_path, values, about)


def refused(folder: Path, values: str, about: str) -> None:
    path = folder / "values.yaml"
    path.write_text(values)
    done = subprocess.run(
        [tool("helm", "helm"), "template", "sf", CHART, "-f", path, "--kube-version", "1.33.0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert about in done.stderr


def test_a_worker_that_comes_back_is_known() -> None:
    """Its slot, by which the group knows a static member, is its pod's name, which a set keeps."""
    for name, one in of_kind(rendered(DEFAULT), "StatefulSet").items():
        [slot] = [e for e in container_of(one["spec"]["template"]["spec"])["env"] if e["name"] == "SPENDFUSE_SLOT"]
        assert slot["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}, name
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", f"{name}-99")


@each_values
def test_whoever_ends_has_the_time_for_it(values: Path) -> None:
    """Kubernetes waits longer than `up` itself allows a process, and replaces workers one after the other, each when
    the one before has been well for long enough to have its state.
    """
    found = rendered(values)
    for name, pod in pods(found):
        assert pod["terminationGracePeriodSeconds"] > END_S, name
    worker = of_kind(found, "StatefulSet")["sf-worker"]["spec"]
    session_s = Settings().session_timeout_ms / 1000
    assert worker["minReadySeconds"] > session_s + Settings().transaction_timeout_ms / 1000
    assert worker["updateStrategy"] == {"type": "RollingUpdate"}


@each_values
def test_probes_ask_what_is_answered(values: Path) -> None:
    """Nothing is started anew because a broker is away, and a gateway, which takes usage to its disk meanwhile, is sent
    what comes all the same.
    """
    for name, one in of_kind(rendered(values), "StatefulSet").items():
        container = container_of(one["spec"]["template"]["spec"])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        variables = {e["name"]: e.get("value") for e in container["env"]}
        assert variables["SPENDFUSE_METRICS_PORT"] == str(ports["metrics"]) == str(PAGES_PORT)
        assert container["livenessProbe"]["httpGet"]["path"] == "/metrics", "health is red while a broker is away"
        assert container["startupProbe"]["httpGet"] == {"path": "/metrics", "port": "metrics"}
        if name in ("sf-gateway", "sf-console"):
            assert container["readinessProbe"]["tcpSocket"] == {"port": "http"}
        else:
            assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
        if name == "sf-gateway":
            assert variables["SPENDFUSE_GATEWAY_PORT"] == str(ports["http"]) == str(GATEWAY_PORT)
            assert variables["SPENDFUSE_GATEWAY_HOST"] == "0.0.0.0"


@each_values
def test_services_lead_to_somebody(values: Path) -> None:
    """Each selects pods that there are, by ports that they have; so do budgets and rules about networks."""
    found = rendered(values, KEDA)
    sets = of_kind(found, "StatefulSet")
    templates = [one["spec"]["template"] for one in (*sets.values(), *of_kind(found, "Job").values())]

    def selected(labels: dict[str, str]) -> list[Any]:
        return [each["spec"] for each in templates if labels.items() <= each["metadata"]["labels"].items()]

    for service in of_kind(found, "Service").values():
        [pod] = selected(service["spec"]["selector"])
        names = {port["name"] for port in container_of(pod)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for one in (*of_kind(found, "PodDisruptionBudget").values(), *of_kind(found, "NetworkPolicy").values()):
        selector = one["spec"].get("selector") or one["spec"]["podSelector"]
        assert len(selected(selector["matchLabels"])) == 1, one["metadata"]["name"]
    assert all(one["spec"]["serviceName"] in of_kind(found, "Service") for one in sets.values())
    assert {"sf-worker", "sf-alerting"} <= of_kind(found, "PodDisruptionBudget").keys()


def test_who_may_talk_to_whom() -> None:
    """Everybody reaches Kafka and names, alerting and what speaks to providers the internet, the sink its store; nobody
    is reached but for metrics, and by agents where somebody listens.
    """
    found = of_kind(rendered(FULL), "NetworkPolicy")
    reached = {name: ports(one["spec"]["ingress"]) for name, one in found.items()}
    reaching = {name: ports(one["spec"]["egress"]) for name, one in found.items()}
    assert {name for name, open_to in reached.items() if open_to != {PAGES_PORT}} == {"sf-gateway", "sf-console"}
    assert all({53, 9092, 9093} <= open_to for open_to in reaching.values())
    assert {name for name, open_to in reaching.items() if 443 in open_to} == {
        "sf-alerting",
        "sf-enforcer",
        "sf-reconcile",
    }
    assert {name for name, open_to in reaching.items() if 5432 in open_to} == {"sf-sink", "sf-console"}
    assert all(rule.get("from") for one in found.values() for rule in one["spec"]["ingress"])
    assert not of_kind(rendered(SMALL), "NetworkPolicy")


def ports(rules: Iterable[dict[str, Any]]) -> set[int]:
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def test_workers_follow_the_lag_where_there_is_a_scaler() -> None:
    """By the lag of their own group on their own topic, up to one a partition; the set then says no number of its own.
    Without KEDA the number of the values stands, and nothing of KEDA's is applied.
    """
    found = rendered(FULL, KEDA)
    spec = of_kind(found, "ScaledObject")["sf-worker"]["spec"]
    [trigger] = spec["triggers"]
    assert spec["maxReplicaCount"] == 24
    assert trigger["metadata"]["consumerGroup"] == "prod.spendfuse-engine"
    assert trigger["metadata"]["topic"] == "prod.usage.v1"
    assert spec["scaleTargetRef"]["name"] in of_kind(found, "StatefulSet")
    assert "replicas" not in of_kind(found, "StatefulSet")["sf-worker"]["spec"]
    without = rendered(FULL)
    assert not of_kind(without, "ScaledObject")
    assert of_kind(without, "StatefulSet")["sf-worker"]["spec"]["replicas"] == 6
    assert not of_kind(rendered(DEFAULT, KEDA), "ScaledObject"), "nobody asked for it"


def test_rules_and_pages_are_the_ones_of_the_checkout() -> None:
    """They are linked into the chart, not copied: what Prometheus and Grafana get is what is tested."""
    found = rendered(FULL)
    assert of_kind(found, "PrometheusRule")["sf-monitoring"]["spec"] == yaml.safe_load(
        RULES.read_text(encoding="utf-8")
    )
    shown = of_kind(found, "ConfigMap")["sf-dashboards"]["data"]
    pages = (ROOT / "infra" / "grafana" / "dashboards").glob("*.json")
    assert {name: json.loads(text) for name, text in shown.items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in pages
    }
    monitor = of_kind(found, "ServiceMonitor")["sf-monitoring"]["spec"]
    assert monitor["jobLabel"] == "app.kubernetes.io/component"


def test_a_change_of_settings_replaces_the_pods(tmp_path: Path) -> None:
    """Settings are variables of the pods themselves: another value is another template, which Kubernetes rolls out."""
    path = tmp_path / "values.yaml"
    path.write_text("settings: { log_level: DEBUG }\n")
    ours, theirs = (of_kind(rendered(values), "StatefulSet")["sf-worker"]["spec"] for values in (path, DEFAULT))
    assert ours["template"] != theirs["template"]
