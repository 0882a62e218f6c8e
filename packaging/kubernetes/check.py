"""Lints the Helm chart, renders it in several ways, checks what comes out, and compares the manifests beside it.

    check.py [--write]     --write writes the manifests anew
"""

import pathlib
import subprocess
import sys
import tempfile

import helm_python
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE / "chart"
# The oldest version that Chart.yaml lets in, and the newest whose schemas are there.
VERSIONS = ["1.25", "1.37"]
# The manifests that stand beside the chart, for `kubectl apply -f`.
MANIFESTS = {
    "deployment.yaml": {},
    "statefulset.yaml": {"kind": "StatefulSet"},
}
OTHERS = {
    "all of it": {
        "tlsSecret": "chat-tls",
        "rbac": {"endpointSlices": True},
        "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"a": "b"}},
        "config": {"trusted_proxies": ["10.0.0.0/8"], "limits": {"per_client": {"tunnels": 50}}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gateway", "operator": "Exists"}],
        "podAnnotations": {"a": "b"},
    },
}
REFUSED = {
    "an unknown key": {"replica": 3},
    "a port that needs rights": {"port": 80},
    "a key that the chart writes itself": {"config": {"listeners": []}},
    "no route": {"routes": []},
}


def rendered(values, name="longhaul"):
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace="default")
    names = sorted(name for name in files if name.endswith(".yaml") and files[name].strip())
    return "".join(f"---\n{files[name].strip()}\n" for name in names)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def check_schemas(where, text):
    for document in documents(text):
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    print(f"{where}: {len(documents(text))} objects as Kubernetes {' and '.join(VERSIONS)} want them")


def check_references(text):
    """Names that objects call each other by, and the time that a drain is given."""
    objects = {(document["kind"], document["metadata"]["name"]): document for document in documents(text)}
    (workload,) = (one for (kind, _), one in objects.items() if kind in ("Deployment", "StatefulSet"))
    pod = workload["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for kind, selector in [
        (workload["kind"], workload["spec"]["selector"]["matchLabels"]),
        *[("Service", one["spec"]["selector"]) for (kind, _), one in objects.items() if kind == "Service"],
        *[("PDB", one["spec"]["selector"]["matchLabels"]) for (kind, _), one in objects.items() if kind == "PodDisruptionBudget"],
    ]:
        assert selector.items() <= labels.items(), f"{kind} selects {selector}, pods have {labels}"
    assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in objects
    if workload["kind"] == "StatefulSet":
        assert ("Service", workload["spec"]["serviceName"]) in objects
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    (container,) = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (configuration,) = (one["data"]["longhaul.yaml"] for (kind, _), one in objects.items() if kind == "ConfigMap")
    configuration = yaml.safe_load(configuration)
    assert configuration["listeners"][0]["address"] == f"0.0.0.0:{ports['clients']}"
    assert configuration["metrics"]["address"] == f"0.0.0.0:{ports['metrics']}"
    drain = configuration["drain"]
    least = int(drain["grace"].rstrip("s")) + int(drain["window"].rstrip("s")) + 10
    assert pod["spec"]["terminationGracePeriodSeconds"] >= least


def check_configuration(binary, text):
    """The configuration in the ConfigMap, by the gateway's own reader."""
    (text,) = (one["data"]["longhaul.yaml"] for one in documents(text) if one["kind"] == "ConfigMap")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "longhaul.yaml"
        # The certificate is in a Secret.
        file.write_text("\n".join(line for line in text.splitlines() if "/etc/longhaul-tls/" not in line))
        subprocess.run([binary, "check", "-c", str(file)], check=True, stdout=subprocess.DEVNULL)


def main(arguments):
    binary = arguments[0]
    report = helm_python.lint(CHART, strict=True)
    messages = [message for message in report["messages"] if message["severity"] >= 2]
    assert not messages and not report["errors"], report
    print(f"chart: Helm's lint has {len(report['messages'])} remarks, and none of them is a warning")
    for name, values in {**MANIFESTS, **OTHERS}.items():
        text = rendered(values)
        check_schemas(name, text)
        check_references(text)
        check_configuration(binary, text)
        check_references(rendered(values, name="edge"))
    for name, values in REFUSED.items():
        try:
            with helm_python.Chart.load(CHART) as chart:
                chart.validate_schema(values)
        except helm_python.HelmError as error:
            print(f"{name}: refused")
        else:
            raise AssertionError(f"{name} is not refused")
    for name, values in MANIFESTS.items():
        text = f"# Written by packaging/kubernetes/check.sh --write from the chart beside it.\n{rendered(values)}"
        text = text.replace("app.kubernetes.io/managed-by: Helm\n", "app.kubernetes.io/managed-by: kubectl\n")
        if "--write" in arguments:
            (HERE / name).write_text(text)
        assert (HERE / name).read_text() == text, f"{name} is not what the chart makes: check.sh --write"


main(sys.argv[1:])
