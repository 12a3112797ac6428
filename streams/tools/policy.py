"""`policy publish` and `policy diff`: what policy.v1 holds, and putting something else there."""

import difflib
import json
import sys
from pathlib import Path

from models.rules.policy import Policy
from models.rules.policy_findings import findings
from streams.clock import wall_ms
from streams.kafka.admin import existing_topics
from streams.kafka.client import write_one
from streams.process.policies import policy_in_force
from streams.service_alert import known_rules
from streams.settings import Settings


def run_check(file: Path, policy: Policy) -> int:
    """Say what a valid file says, and what in it is hardly meant; 1 if anything is, else 0."""
    print(f"{file}: version {policy.version}, {len(policy.rules)} rules: {', '.join(policy.rules)}")
    return 1 if _print_findings(policy) else 0


def run_publish(settings: Settings, policy: Policy) -> int:
    """Put a policy in force: every worker takes it over between two batches. Raises `BrokerError`."""
    existing_topics(settings, ["policy.v1"])
    _print_findings(policy)
    write_one(settings, "policy.v1", settings.policy_name.encode(), policy.to_json(), "the policy")
    print(f"policy {policy.version} is published on {settings.topic('policy.v1')}")
    return 0


def run_diff(settings: Settings, policy: Policy) -> int:
    """Show how a file differs from the policy in force; 0 if it does not, else 1. Raises `BrokerError`."""
    in_force = policy_in_force(settings)
    lines = list(difflib.unified_diff(_lines(in_force), _lines(policy), "in force", "the file", lineterm=""))
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0


def _print_findings(policy: Policy) -> list[str]:
    found = findings(policy, wall_ms(), known_rules(policy))
    for finding in found:
        print(f"note: {finding}", file=sys.stderr)
    return found


def _lines(policy: Policy) -> list[str]:
    return json.dumps(policy.source, indent=2, sort_keys=True).splitlines()
