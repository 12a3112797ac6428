"""What Kubernetes and two operators would not accept of manifests: JSON documents on standard input, faults as JSON.

Run in the environment of `requirements/deploy.lock`. Unknown fields are faults as well: a misspelt one does nothing.
"""

import json
import sys
from typing import Any

import kubernetes_validate
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator

CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): operator.ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): operator.PrometheusRule,
}


def fault(document: dict[str, Any], version: str) -> str | None:
    """The first fault of a document, None if there is none."""
    model = CUSTOM.get((document["apiVersion"], document["kind"]))
    try:
        if model is None:
            kubernetes_validate.validate(document, version, strict=True)
            return None
        read = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except Exception as error:
        return str(error)
    return None if read == document else "it has fields that there are not: what was read of it is less than was given"


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    named = {f"{one['kind']}/{one['metadata']['name']}": fault(one, sys.argv[1]) for one in asked}
    print(json.dumps({name: said for name, said in named.items() if said}))
