"""kubectl as the runbook's tests have it: the real one, on a cluster that is an API server alone.

What takes a node is done here instead: `exec` runs the command on this machine, `port-forward`
looks whether there is such a port. What takes the server's schemas (`apply`, `diff`, `create -f`)
is read and kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import yaml

KUBECTL = os.environ["REAL_KUBECTL"]


def kubectl(*arguments: str) -> str:
    """The real kubectl's answer; ends this program as it ended where it failed."""
    command = [KUBECTL, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def keep(manifest: dict[str, object]) -> None:
    """Put an object into the cluster."""
    url = f"{os.environ['CLUSTER_URL']}/keep"
    urllib.request.urlopen(url, data=json.dumps(manifest, default=str).encode())


def option(arguments: list[str], name: str) -> str:
    """The value of an option that is there."""
    return arguments[arguments.index(name) + 1]


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    verb = "" if "last-applied" in arguments[1] else arguments[0]
    dry_run = any("--dry-run" in argument for argument in arguments)
    if verb in ("apply", "diff") or (verb == "create" and "-f" in arguments):
        if "-k" in arguments:
            text = kubectl("kustomize", option(arguments, "-k"))
        else:
            name = option(arguments, "-f")
            text = sys.stdin.read() if name == "-" else Path(name).read_text()
        for manifest in yaml.safe_load_all(text):
            if not dry_run and verb != "diff":
                keep(manifest)
    elif verb == "create" and not dry_run:
        keep(json.loads(kubectl(*arguments, "--dry-run=client", "-o", "json")))
    elif verb == "exec":
        place = next(argument for argument in arguments[1:] if not argument.startswith("-"))
        what = place if "/" in place else f"pod/{place}"
        kubectl("get", what, "-n", option(arguments, "-n"))
        command = arguments[arguments.index("--") + 1 :]
        if command[0] == "mongosh":
            command[1:1] = ["--port", os.environ["MONGODB_PORT"]]
        if command[0] == "flask":
            command[:1] = [sys.executable, "-m", "flask"]
        sys.exit(subprocess.run(command, cwd=os.environ["ROOT"], check=False).returncode)
    elif verb == "port-forward":
        service, ports = (a for a in arguments[1:] if "/" in a or ":" in a)
        found = json.loads(kubectl("get", service, "-n", option(arguments, "-n"), "-o", "json"))
        if int(ports.split(":")[1]) not in [port["port"] for port in found["spec"]["ports"]]:
            sys.exit(f"{service} has no port {ports}")
    else:
        os.execv(KUBECTL, ["kubectl", *arguments])


main(sys.argv[1:])
